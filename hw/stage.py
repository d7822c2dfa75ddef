"""A register in a stream."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Stage"]


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
