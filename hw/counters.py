"""Counters of events in one memory, which an adder walks through."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Counters"]

WIDTH = 64


class Counters(wiring.Component):
    """Counters of 64 bits, each of up to three events per cycle.

    What has happened is kept in a few bits for each counter, until it is its turn, every `count`
    cycles, to be read from memory, added to, and written back. A value is complete: with all
    events up to three cycles before it is shown. A reset leaves counters as they are. A RAM of
    `count` words; 862 LUTs and 290 flip-flops of an ECP5 for 20 of them.

    Parameters
    ----------
    count : int
        Number of counters, at least 4.

    Members
    -------
    events : In(ArrayLayout(2, count))
        How many there are in this cycle.
    clear : In(1)
        All counters are 0, without the events of this cycle.
    index : Out(range(count)), value : Out(64)
        A counter, another one each cycle.

    Raises
    ------
    ValueError
        `count` is too small.
    """

    def __init__(self, count):
        if count < 4:
            raise ValueError(f"count must be at least 4, not {count!r}")
        self._count = count
        super().__init__({"events": In(data.ArrayLayout(2, count)), "clear": In(1),
                          "index": Out(range(count)), "value": Out(WIDTH)})

    def elaborate(self, platform):
        m = Module()
        count = self._count
        turn, r1_turn = Signal(range(count)), Signal(range(count))
        m.d.sync += turn.eq(Mux(turn == count - 1, 0, turn + 1))

        new = []
        for k in range(count):
            kept = Signal(range(3 * count + 1), name=f"kept_{k}")
            m.d.sync += kept.eq(Mux(turn == k, 0, kept) + self.events[k])
            with m.If(self.clear):
                m.d.sync += kept.eq(0)
            new.append(kept)

        # what is in memory does not count from `clear` until it has been written again
        old = Signal(count)
        m.d.sync += old.eq(Mux(self.clear, ~0, old & ~(1 << turn)))

        m.submodules.memory = words = memory.Memory(shape=WIDTH, depth=count, init=[])
        r_port, w_port = words.read_port(), words.write_port()
        r1_new, r1_old = Signal.like(new[0]), Signal()
        m.d.sync += [
            r1_turn.eq(turn), r1_new.eq(Array(new)[turn]), r1_old.eq(old.bit_select(turn, 1)),
            self.index.eq(r1_turn), self.value.eq(Mux(r1_old, 0, r_port.data) + r1_new),
        ]
        m.d.comb += [r_port.addr.eq(turn), w_port.addr.eq(self.index), w_port.en.eq(1),
                     w_port.data.eq(self.value)]
        return m
