"""Top levels of boards with an ECP5."""

from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    Module,
    Signal,
)
from amaranth.lib import io
from amaranth.lib.cdc import FFSynchronizer
from gradgate.hw.pll import PLL
from gradgate.hw.sdram import SDRAM
from gradgate.hw.soc import SoC
from gradgate.hw.spram import SPRAM

__all__ = ["DENSE", "OPTIONS", "ECP5Top", "OnChipTop", "SDRAMTop"]

PINS = {"cke": "clk_en", "cs_n": "cs", "ras_n": "ras", "cas_n": "cas", "we_n": "we",
        "a": "a", "ba": "ba", "dm": "dqm"}  # of SDRAM: names in amaranth-boards

# Until no path is too long, `--tmg-ripup` below, is by what the router takes wires for, which is a
# little faster than they turn out to be. So it is asked for the clock times this.
AIM = 1.02

OPTIONS = {  # of `platform.build`
    "script_after_read": "\n".join([
        # copies of a register, each to be placed near what it feeds: not to be merged
        "setattr -set keep 1 w:near_* %ci1 t:$dff %i",
        # none of our memories needs a word that it reads while that word is written:
        # docs/boards.md
        "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 r:CLK_ENABLE=1 %i",
        # Yosys' names of single bits may be taken already (its issue 4349)
        "synth_ecp5 -top top -run begin:map_luts",
        "splitnets",
    ]),
    "synth_opts": "-run map_luts:",
    # the default one takes hours for an array of 8 x 16
    "nextpnr_opts": "--router router2",
}
# for a design that fills the chip: wires get shorter than by the default placer, paths longer; the
# router goes on until no path is too long
DENSE = {**OPTIONS, "nextpnr_opts": "--router router2 --placer static --tmg-ripup"}


class ECP5Top(Elaboratable):
    """SoC, clocks and pins; what the memory is, and its pins, a subclass says.

    The platform has the resources of its clock (`default_clk`) and `uart`. Lights, where there are
    any, show that the memory is ready, a program runs, the last one has failed.

    Parameters
    ----------
    identity : Identity
        Its clock is that of everything.
    baud : int
        Of the serial line; the nearest that the clock can do.
    lights : callable, optional
        Is given the platform, returns up to three ports.
    degrees : float
        By which the clock of the domain `chip` is later than that of the gateware.

    Members
    -------
    divisor : int
        Clock cycles per bit of the line.
    """

    def __init__(self, identity, *, baud, lights=lambda platform: [], degrees=0):
        self.identity = identity
        self.divisor = round(identity.clock_hz / baud)
        self._lights, self._degrees = lights, degrees

    def memory(self, m, platform):
        """The memory, for SoC, and whether it is ready; connects its pins."""
        raise NotImplementedError

    def elaborate(self, platform):
        m = Module()
        memory, ready = self.memory(m, platform)
        m.submodules.soc = soc = SoC(self.identity, memory, self.divisor)

        # clocks. There is no reset, whose wires would be the longest of all: the device has its
        # initial values from the bitstream, and its clock comes when it is what it should be
        clock = platform.lookup(platform.default_clk).clock
        pad = platform.request(platform.default_clk, dir="-")
        m.submodules.pad = pad = io.Buffer("i", pad)
        m.submodules.pll = pll = PLL(clock.frequency, self.identity.clock_hz, self._degrees)
        m.domains += [ClockDomain(name, reset_less=True) for name in ("sync", "chip", "pll")]
        steady = Signal()
        m.submodules.steady = FFSynchronizer(pll.locked, steady, o_domain="pll")
        gated = Signal(name="gated_clk")
        platform.add_clock_constraint(gated, AIM * self.identity.clock_hz)
        m.submodules.gate = Instance("DCCA", i_CLKI=pll.clock, i_CE=steady, o_CLKO=gated)
        m.d.comb += [
            pll.i.eq(pad.i),
            ClockSignal("sync").eq(gated),
            ClockSignal("pll").eq(pll.clock),
            ClockSignal("chip").eq(pll.later),
        ]

        # the host, and people
        uart = platform.request("uart", dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [soc.rx.eq(rx.i), tx.o.eq(soc.tx)]
        states = zip(self._lights(platform), (ready, soc.running, soc.error), strict=False)
        for number, (port, state) in enumerate(states):
            m.submodules[f"light_{number}"] = light = io.Buffer("o", port)
            m.d.comb += light.o.eq(state)
        return m


class SDRAMTop(ECP5Top):
    """An ECP5Top whose memory is an SDR SDRAM, the resource `sdram` of the platform.

    Parameters
    ----------
    identity : Identity
    writes : list of (int, int, int)
        What starts the memory, see DRAMInit.
    options
        Of ECP5Top; the domain `chip` clocks the memory.
    """

    def __init__(self, identity, writes, **options):
        super().__init__(identity, **options)
        self._writes = writes

    def memory(self, m, platform):
        pins = platform.request("sdram", dir="-")
        memory = SDRAM(self.identity.config, self._writes, pins.dq.io)
        m.submodules.clk = clk = io.DDRBuffer("o", pins.clk, o_domain="chip")
        m.d.comb += Cat(clk.o).eq(0b01)
        # its controller has the flip-flops of the pins, which leaves no place to invert
        for name, resource in PINS.items():
            port = getattr(pins, resource)
            port = ~port if any(port.invert) else port
            m.submodules[name] = pin = io.Buffer("o", port)
            m.d.comb += pin.o.eq(getattr(memory, name))
        return memory, memory.ready


class OnChipTop(ECP5Top):
    """An ECP5Top with 128 KiB of block RAM as memory: for boards whose own we cannot use.

    Parameters are those of ECP5Top.
    """

    def memory(self, m, platform):
        return SPRAM(self.identity.config), Const(1)
