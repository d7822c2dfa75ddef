"""A fixed delay of a word, in memory instead of registers where that is smaller."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Delay"]

_SHORT = 3  # up to here registers cost no more than addresses


class Delay(wiring.Component):
    """`o` is `i` of `cycles` cycles ago; undefined for the first `cycles` cycles after reset.

    A memory of `cycles` words read ahead of where it is written, or a shift register when short.

    Parameters
    ----------
    width : int
        Bits of the word, at least 1.
    cycles : int
        At least 1.

    Raises
    ------
    ValueError
        A parameter is out of range.
    """

    def __init__(self, width, cycles):
        if width < 1:
            raise ValueError(f"width must be at least 1, not {width!r}")
        if cycles < 1:
            raise ValueError(f"cycles must be at least 1, not {cycles!r}")
        self._cycles = cycles
        super().__init__({"i": In(width), "o": Out(width)})

    @property
    def cycles(self):
        return self._cycles

    def elaborate(self, platform):
        m = Module()
        width = len(self.i)

        if self.cycles <= _SHORT:
            stages = [self.i] + [Signal(width, name=f"stage_{k}", reset_less=True)
                                 for k in range(self.cycles)]
            for before, after in zip(stages, stages[1:], strict=False):
                m.d.sync += after.eq(before)
            m.d.comb += self.o.eq(stages[-1])
            return m

        m.submodules.words = words = memory.Memory(shape=width, depth=self.cycles, init=[])
        w_port, r_port = words.write_port(), words.read_port()
        here, ahead = Signal(range(self.cycles)), Signal(range(self.cycles), init=1)
        m.d.sync += here.eq(ahead)
        with m.If(ahead == self.cycles - 1):
            m.d.sync += ahead.eq(0)
        with m.Else():
            m.d.sync += ahead.eq(ahead + 1)

        m.d.comb += [w_port.addr.eq(here), w_port.data.eq(self.i), w_port.en.eq(1),
                     r_port.addr.eq(ahead), r_port.en.eq(1), self.o.eq(r_port.data)]
        return m


