"""Clock and top level of boards with an iCE40UP5K."""

from dataclasses import dataclass

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import Out
from gradgate.hw.soc import SoC
from gradgate.hw.spram import SPRAM

__all__ = ["OPTIONS", "Dividers", "PLL", "dividers", "UP5KTop"]

# data sheet, in Hz
INPUT = (10e6, 133e6)
OSCILLATOR = (533e6, 1066e6)
OUTPUT = (16e6, 275e6)

START = 8  # bits of the counter of cycles until block RAM can be trusted: 3 us after configuration

OPTIONS = {  # of `platform.build`
    # none of our memories needs a word that it reads while that word is written
    "script_after_read": "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 r:CLK_ENABLE=1 %i",
    "synth_opts": "-abc9 -device u",
    "nextpnr_opts": "--placer heap",
}


@dataclass(frozen=True)
class Dividers:
    """Of the input, of the feedback, and the binary logarithm of that of the output."""

    input: int
    feedback: int
    output: int


def dividers(input_hz, output_hz):
    """Those that give exactly `output_hz`.

    Raises ValueError if the PLL cannot do that.
    """
    for divider in range(1, 17):
        detector = input_hz / divider
        for output in range(1, 7):
            oscillator = output_hz * 2**output
            feedback, rest = divmod(oscillator, detector)
            if (INPUT[0] <= detector and input_hz <= INPUT[1] and not rest and feedback <= 128
                    and OSCILLATOR[0] <= oscillator <= OSCILLATOR[1]
                    and OUTPUT[0] <= output_hz <= OUTPUT[1]):
                return Dividers(divider, int(feedback), output)
    raise ValueError(f"no PLL makes {output_hz / 1e6:g} MHz of {input_hz / 1e6:g} MHz")


class PLL(wiring.Component):
    """An SB_PLL40_PAD: its input is the pad beside it.

    Parameters
    ----------
    pad : IOPort
        Of `input_hz`.
    input_hz, output_hz : float

    Members
    -------
    clock : Out(1)
        Of `output_hz`, on a global net.
    locked : Out(1)
        It is what it should be; not synchronised.

    Raises
    ------
    ValueError
        The PLL cannot do that.
    """

    clock: Out(1)
    locked: Out(1)

    def __init__(self, pad, input_hz, output_hz):
        self._pad = pad
        self.dividers = dividers(input_hz, output_hz)
        detector = input_hz / self.dividers.input
        # the filter's range, as icepll chooses it
        limits = (17e6, 26e6, 44e6, 66e6, 101e6)
        self._filter = 1 + sum(detector >= limit for limit in limits)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        d = self.dividers
        m.submodules.pll = Instance(
            "SB_PLL40_PAD", p_FEEDBACK_PATH="SIMPLE", p_PLLOUT_SELECT="GENCLK",
            p_DIVR=Const(d.input - 1, 4), p_DIVF=Const(d.feedback - 1, 7),
            p_DIVQ=Const(d.output, 3), p_FILTER_RANGE=Const(self._filter, 3),
            i_PACKAGEPIN=self._pad, i_RESETB=Const(1), i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=self.clock, o_LOCK=self.locked)
        return m


class UP5KTop(Elaboratable):
    """SoC with the four RAMs of the chip, its clock and its pins.

    The platform has the resources of its clock (`default_clk`, on the pad of the PLL) and `uart`.
    Lights, where there are any, show that a program runs, and that the last one has failed.

    Parameters
    ----------
    identity : Identity
        Its clock is that of everything.
    baud : int
        Of the serial line; the nearest that the clock can do.
    lights : callable, optional
        Is given the platform, returns up to two ports.

    Members
    -------
    divisor : int
        Clock cycles per bit of the line.
    """

    def __init__(self, identity, *, baud, lights=lambda platform: []):
        self.identity = identity
        self.divisor = round(identity.clock_hz / baud)
        self._lights = lights

    def elaborate(self, platform):
        m = Module()
        m.submodules.soc = soc = SoC(self.identity, SPRAM(self.identity.config), self.divisor)

        clock = platform.lookup(platform.default_clk).clock
        pad = platform.request(platform.default_clk, dir="-")
        m.submodules.pll = pll = PLL(pad.io, clock.frequency, self.identity.clock_hz)
        m.domains += [ClockDomain("start"), ClockDomain("sync")]
        started = Signal(START + 1)
        m.d.start += started.eq(started + ~started[-1])
        m.submodules.locked = ResetSynchronizer(~pll.locked, domain="start")
        m.submodules.reset = ResetSynchronizer(~started[-1], domain="sync")
        m.d.comb += [
            ClockSignal("sync").eq(pll.clock),
            ClockSignal("start").eq(pll.clock),
        ]
        platform.add_clock_constraint(pll.clock, self.identity.clock_hz)

        uart = platform.request("uart", dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [soc.rx.eq(rx.i), tx.o.eq(soc.tx)]
        states = zip(self._lights(platform), (soc.running, soc.error), strict=False)
        for number, (port, state) in enumerate(states):
            m.submodules[f"light_{number}"] = light = io.Buffer("o", port)
            m.d.comb += light.o.eq(state)
        return m
