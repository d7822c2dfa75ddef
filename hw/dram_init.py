"""Start-up of a memory controller that leaves it to somebody else: a list of register writes."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["DRAMInit"]


class DRAMInit(wiring.Component):
    """Does a list of writes on a Wishbone bus after reset, with pauses, and then nothing more.

    A write that is answered at once takes 2 cycles and its pause. No multipliers, no RAM; the list
    becomes LUTs.

    Parameters
    ----------
    writes : list of (int, int, int)
        Address of a 32-bit word, less than 2^30; its value; cycles to wait after it. At least one.

    Members
    -------
    adr, dat_w, sel, cyc, stb, we, ack
        The bus.
    done : Out(1)
        All has been written and waited for.

    Raises
    ------
    ValueError
        A number is out of range, or there is no write.
    """

    def __init__(self, writes):
        writes = tuple(writes)
        if not writes:
            raise ValueError("there must be at least one write")
        for write in writes:
            address, value, wait = write
            if not (0 <= address < 1 << 30 and 0 <= value < 1 << 32 and 0 <= wait):
                raise ValueError(f"a write must be an address of 30 bits, a value of 32 and "
                                 f"a number of cycles, not {write!r}")
        self._writes = writes
        super().__init__({
            "adr": Out(30), "dat_w": Out(32), "sel": Out(4), "cyc": Out(1), "stb": Out(1),
            "we": Out(1), "ack": In(1), "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        number = Signal(range(len(self._writes) + 1))
        wait = Signal(range(max(wait for _, _, wait in self._writes) + 1))
        pause = Signal.like(wait)
        with m.Switch(number):
            for index, (address, value, cycles) in enumerate(self._writes):
                with m.Case(index):
                    m.d.comb += [self.adr.eq(address), self.dat_w.eq(value), pause.eq(cycles)]

        over = Signal()
        m.d.comb += [
            over.eq(number == len(self._writes)),
            self.done.eq(over & (wait == 0)),
            self.stb.eq(self.cyc),
            self.we.eq(self.cyc),
            self.sel.eq(~0),
        ]
        with m.If(self.cyc):
            with m.If(self.ack):
                m.d.sync += [self.cyc.eq(0), number.eq(number + 1), wait.eq(pause)]
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(~over):
            m.d.sync += self.cyc.eq(1)
        return m
