"""Top level of boards with an ECP5 and an SDR SDRAM."""

from amaranth.hdl import Cat, ClockDomain, ClockSignal, Elaboratable, Module
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer
from gradgate.hw.pll import PLL
from gradgate.hw.sdram import SDRAM
from gradgate.hw.soc import SoC

__all__ = ["OPTIONS", "SDRAMTop"]

PINS = {"cke": "clk_en", "cs_n": "cs", "ras_n": "ras", "cas_n": "cas", "we_n": "we",
        "a": "a", "ba": "ba", "dm": "dqm"}  # of SDRAM: names in amaranth-boards

OPTIONS = {  # of `platform.build`
    "script_after_read": "\n".join([
        # none of our memories needs a word that it reads while that word is written:
        # docs/boards.md
        "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 r:CLK_ENABLE=1 %i",
        # Yosys' names of single bits may be taken already (its issue 4349)
        "synth_ecp5 -top top -run begin:map_luts",
        "splitnets",
    ]),
    "synth_opts": "-run map_luts:",
}


class SDRAMTop(Elaboratable):
    """SoC, SDRAM, clocks and pins.

    The platform has the resources of its clock (`default_clk`), `uart`, `sdram`, and LEDs `led`,
    which show from number 0 on: the memory is ready, a program runs, the last one has failed.

    Parameters
    ----------
    identity : Identity
        Its clock is that of everything.
    writes : list of (int, int, int)
        What starts the memory, see DRAMInit.
    degrees : float
        By which the clock of the memory is later than that of the gateware.
    baud : int
        Of the serial line; the nearest that the clock can do.
    reset : str, optional
        Resource of a button.
    leds : int
        How many there are, up to three.

    Members
    -------
    divisor : int
        Clock cycles per bit of the line.
    """

    def __init__(self, identity, writes, *, degrees, baud, reset=None, leds=3):
        self._identity, self._writes, self._degrees = identity, writes, degrees
        self.divisor = round(identity.clock_hz / baud)
        self._reset, self._leds = reset, leds

    def elaborate(self, platform):
        m = Module()
        pins = platform.request("sdram", dir="-")
        memory = SDRAM(self._identity.config, self._writes, pins.dq.io)
        m.submodules.soc = soc = SoC(self._identity, memory, self.divisor)

        # clocks; the reset ends when both are there
        clock = platform.lookup(platform.default_clk)
        pad = platform.request(platform.default_clk, dir="-")
        m.submodules.pad = pad = io.Buffer("i", pad)
        m.submodules.pll = pll = PLL(clock.clock.frequency, self._identity.clock_hz, self._degrees)
        m.domains += [ClockDomain("sync"), ClockDomain("chip", reset_less=True)]
        reset = ~pll.locked
        if self._reset:
            m.submodules.button = button = io.Buffer("i", platform.request(self._reset, dir="-"))
            reset |= button.i
        m.submodules.reset = ResetSynchronizer(reset, domain="sync")
        m.d.comb += [
            pll.i.eq(pad.i),
            ClockSignal("sync").eq(pll.clock),
            ClockSignal("chip").eq(pll.later),
        ]

        # the memory; its controller has the flip-flops of the pins, which leaves no place for a
        # buffer to invert
        m.submodules.clk = clk = io.DDRBuffer("o", pins.clk, o_domain="chip")
        m.d.comb += Cat(clk.o).eq(0b01)
        for name, resource in PINS.items():
            port = getattr(pins, resource)
            port = ~port if any(port.invert) else port
            m.submodules[name] = pin = io.Buffer("o", port)
            m.d.comb += pin.o.eq(getattr(memory, name))

        # the host, and people
        uart = platform.request("uart", dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [soc.rx.eq(rx.i), tx.o.eq(soc.tx)]
        states = [memory.ready, soc.running, soc.error]
        for number, state in enumerate(states[:self._leds]):
            led = io.Buffer("o", platform.request("led", number, dir="-"))
            m.submodules[f"led_{number}"] = led
            m.d.comb += led.o.eq(state)
        return m
