"""Memory beats as vectors of canonical fp32."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.floats import canonicalise

__all__ = ["Unpack"]


class Unpack(wiring.Component):
    """Beats to vectors of canonical fp32, combinational but for which half comes next.

    A beat makes two vectors in bf16, one in fp32; one vector per cycle.

    Parameters
    ----------
    config : Config

    Members
    -------
    fp32 : In(1)
        Beats are fp32 whatever the operand format. May change between beats, while none is taken.
    i : In(stream.Signature(beat_bits))
    o : Out(stream of ArrayLayout(32, V))
    nonfinite : Out(1)
        A vector that is being taken had an infinity or NaN in memory.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        super().__init__({
            "fp32": In(1),
            "i": In(stream.Signature(config.beat_bits)),
            "o": Out(stream.Signature(data.ArrayLayout(32, config.vlanes))),
            "nonfinite": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        vlanes, width = self._config.vlanes, self._config.beat_bits
        beat = self.i.payload
        upper = Signal()  # the other half has been taken
        take = Signal()
        whole = Signal()
        m.d.comb += whole.eq(self.fp32 | (self._config.fmt == "fp32"))

        half = beat.word_select(upper, width // 2)
        narrow = Cat(Cat(Const(0, 16), half.word_select(i, 16)) for i in range(vlanes))
        words = Mux(whole, beat, narrow)
        bad = []
        for i in range(vlanes):
            word, nonfinite = canonicalise("fp32", words.word_select(i, 32))
            m.d.comb += self.o.payload[i].eq(word)
            bad.append(nonfinite)

        m.d.comb += [
            take.eq(self.o.valid & self.o.ready),
            self.nonfinite.eq(take & Cat(bad).any()),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready & (whole | upper)),
        ]
        with m.If(take & ~whole):
            m.d.sync += upper.eq(~upper)
        return m
