"""Registers in a stream."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Skid", "Stage", "registered"]


class Stage(wiring.Component):
    """Passes a stream on a cycle later, an item every two cycles at most.

    For streams that are slow anyway: neither side sees in a cycle what the other one does in it. As
    many flip-flops as an item has bits, and one.

    Parameters
    ----------
    shape : ShapeLike
        Of the items.

    Members
    -------
    i : In(stream.Signature(shape))
    o : Out(stream.Signature(shape))
    """

    def __init__(self, shape):
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        full, item = Signal(), Signal.like(self.i.payload, reset_less=True)
        m.d.comb += [self.i.ready.eq(~full), self.o.valid.eq(full), self.o.payload.eq(item)]
        with m.If(full):
            m.d.sync += full.eq(~self.o.ready)
        with m.Else():
            m.d.sync += [full.eq(self.i.valid), item.eq(self.i.payload)]
        return m


class Skid(wiring.Component):
    """Passes a stream on a cycle later, an item per cycle.

    Neither side sees in a cycle what the other one does in it: an item that comes while the one
    before stays waits aside. Twice as many flip-flops as an item has bits, and two; a multiplexer.

    Parameters
    ----------
    shape : ShapeLike
        Of the items.

    Members
    -------
    i : In(stream.Signature(shape))
    o : Out(stream.Signature(shape))
    """

    def __init__(self, shape):
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        full, waits = Signal(), Signal()
        item, aside = (Signal.like(self.i.payload, name=name, reset_less=True)
                       for name in ("item", "aside"))
        m.d.comb += [self.i.ready.eq(~waits), self.o.valid.eq(full), self.o.payload.eq(item)]
        with m.If(~waits):
            m.d.sync += aside.eq(self.i.payload)
        with m.If(~full | self.o.ready):
            m.d.sync += [full.eq(waits | self.i.valid), waits.eq(0),
                         item.eq(Mux(waits, aside, self.i.payload))]
        with m.Elif(self.i.valid):
            m.d.sync += waits.eq(1)
        return m


def registered(m, fifo, name):
    """The end of a FIFO from registers, as RAM is slow, by a Skid, the submodule `name` of `m`.

    Returns (the end, a stream; whether an item leaves the FIFO in this cycle). An item is there a
    cycle later than in the FIFO; two more find room.
    """
    m.submodules[name] = end = Skid(len(fifo.r_data))
    wiring.connect(m, fifo.r_stream, end.i)
    return end.o, end.i.valid & end.i.ready
