"""Memory beats as vectors of canonical fp32."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.floats import canonicalise

__all__ = ["Unpack"]


class Unpack(wiring.Component):
    """Beats to vectors of canonical fp32, combinational but for the beat it remembers.

    A beat makes two vectors in bf16, one in fp32; two beats make one with `pair` or `odd`. One beat
    or one vector per cycle, whichever takes longer.

    Parameters
    ----------
    config : Config

    Members
    -------
    fp32, pair, odd : In(1)
        Beats are fp32 whatever the operand format; two of them make one `o`; of each two the second
        is skipped. Constant while there are beats and while `busy`. `pair` and `odd` imply `fp32`.
    i : In(stream.Signature(beat_bits))
    o : Out(stream of {first: ArrayLayout(32, V), second: ArrayLayout(32, V)})
        `second` is defined with `pair` only.
    nonfinite : Out(1)
        A vector that is being taken had an infinity or NaN in memory.
    busy : Out(1)
        In the middle of a beat or pair.
    """

    def __init__(self, config):
        self._config = config
        vector = data.ArrayLayout(32, config.vlanes)
        super().__init__({
            "fp32": In(1), "pair": In(1), "odd": In(1),
            "i": In(stream.Signature(config.beat_bits)),
            "o": Out(stream.Signature(data.StructLayout({"first": vector, "second": vector}))),
            "nonfinite": Out(1), "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        vlanes, width = self._config.vlanes, self._config.beat_bits
        beat = self.i.payload
        saved = Signal(width, reset_less=True)
        later = Signal()  # in the second half of a beat, or at the second beat of a pair
        take = Signal()
        whole = Signal()
        m.d.comb += whole.eq(self.fp32 | (self._config.fmt == "fp32"))

        halves = beat.word_select(later, width // 2)
        narrow = Cat(Cat(Const(0, 16), halves.word_select(i, 16)) for i in range(vlanes))
        words = Mux(self.pair, saved, Mux(whole, beat, narrow))
        bad = []
        for i in range(vlanes):
            for member, source in ((self.o.payload.first, words), (self.o.payload.second, beat)):
                word, nonfinite = canonicalise("fp32", source.word_select(i, 32))
                m.d.comb += member[i].eq(word)
                bad.append(nonfinite & (self.pair if source is beat else 1))
        m.d.comb += self.nonfinite.eq(take & Cat(bad).any())

        m.d.comb += [self.busy.eq(later), take.eq(self.o.valid & self.o.ready)]
        with m.If(self.pair):
            m.d.comb += [self.o.valid.eq(self.i.valid & later),
                         self.i.ready.eq(~later | self.o.ready)]
            with m.If(self.i.valid & ~later):
                m.d.sync += [saved.eq(beat), later.eq(1)]
            with m.If(take):
                m.d.sync += later.eq(0)
        with m.Elif(self.odd):
            m.d.comb += [self.o.valid.eq(self.i.valid & ~later),
                         self.i.ready.eq(later | self.o.ready)]
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += later.eq(~later)
        with m.Elif(whole):
            m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
        with m.Else():
            m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(later & self.o.ready)]
            with m.If(take):
                m.d.sync += later.eq(~later)
        return m
