"""Fills a tile buffer from memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.buffer import BufferWrite
from gradgate.hw.config import check_config
from gradgate.hw.dma import ReadDMA
from gradgate.hw.floats import canonicalise
from gradgate.hw.isa import BYTES
from gradgate.hw.places import Places, field
from gradgate.hw.port import ReadPort

__all__ = ["LoadUnit"]


class LoadUnit(wiring.Component):
    """Executes LOAD instructions: docs/program.md, section 3.

    Let an instruction of N places (beats of the loops, padding or not; with `unpool` positions of
    windows, inside or not; 1 if there are none) be offered in cycle o and accepted in cycle t:

    * t is o if the unit is idle, else `max(o, t' + N' + 1, v + 1)` with t', N' of the instruction
      before, v the cycle in which the third place from its end passes, which may be one of an
      earlier instruction;
    * place k passes in cycle `w[k] = max(t + 3 + k, w[k-1] + 1, p + 5)`: it is written, unless
      outside. w[-1] is that of the last place of the instruction before; p is the cycle in which
      the beat is handed over on `port`, or its tags on `tags` if that is later (only if valid);
    * `done` comes in cycle w[N-1];
    * reading begins when the instruction is offered, also while the one before is executed: the
      first command is on `port` in cycle o + 4, and on `tags` likewise, once all commands of the
      one before have been taken.

    So N + 1 cycles from one accepted to the next if beats are there in time, N + 2 from accepted to
    `done`; from offered to the first write o + 9 and the latency of memory, if it needs a beat. No
    multipliers; the RAM of two ReadDMAs.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In(stream.Signature(512))
        The instruction.
    done : Out(1)
        One cycle high per instruction completed, together with its last write.
    nonfinite : Out(1)
        One cycle high per beat read that holds an infinity or NaN; tags do not count.
    overflow : Out(1)
        Always 0: nothing is computed here.
    active : Out(1)
        A beat is written to the buffer.
    port : Out(ReadPort(beat_bits))
    tags : Out(ReadPort(beat_bits))
        Idle without `unpool`.
    buf : Out(BufferWrite(config))

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        super().__init__({
            "i": In(stream.Signature(8 * BYTES)),
            "done": Out(1),
            "nonfinite": Out(1),
            "overflow": Out(1),
            "active": Out(1),
            "port": Out(ReadPort(config.beat_bits)),
            "tags": Out(ReadPort(config.beat_bits)),
            "buf": Out(BufferWrite(config)),
        })

    def elaborate(self, platform):
        m = Module()
        config, instruction = self._config, self.i.payload

        # each memory side starts once per instruction, maybe before it can be accepted
        accept = Signal()
        streams, begun = [], []
        for name, port, base, used in (("data", self.port, "d_base", 1),
                                       ("tags", self.tags, "t_base", field(instruction, "unpool"))):
            m.submodules[f"dma_{name}"] = dma = ReadDMA(config)
            wiring.connect(m, dma.port, wiring.flipped(port))
            started = Signal(name=f"{name}_started")
            m.d.comb += [dma.start.valid.eq(self.i.valid & ~started & used),
                         dma.start.payload.base.eq(field(instruction, base))]
            for part in ("len", "n1", "s1", "n2", "s2", "n3", "s3"):
                m.d.comb += dma.start.payload[part].eq(field(instruction, f"d_{part}"))
            with m.If(accept):
                m.d.sync += started.eq(0)
            with m.Elif(dma.start.valid & dma.start.ready):
                m.d.sync += started.eq(1)
            streams.append(dma.o)
            begun.append(started | dma.start.ready | ~used)

        m.submodules.places = places = Places(config)
        all_begun = Cat(begun).all()
        m.d.comb += [
            places.i.payload.eq(instruction),
            places.i.valid.eq(self.i.valid & all_begun),
            self.i.ready.eq(places.i.ready & all_begun),
            accept.eq(self.i.valid & self.i.ready),
        ]

        # both beats stay at the ends of their streams until their last place has passed
        beat, tags = streams
        place = places.o.payload
        go = Signal()
        take = places.o.valid & place.wanted & place.take
        m.d.comb += [
            places.o.ready.eq(~place.wanted | (beat.valid & (tags.valid | ~place.select))),
            go.eq(places.o.valid & places.o.ready),
            beat.ready.eq(take & (tags.valid | ~place.select)),
            tags.ready.eq(take & beat.valid & place.select),
        ]

        elements, bad = [], []
        for x in range(config.beat_elems):
            value, nonfinite = canonicalise(
                config.fmt, beat.payload.word_select(x, config.elem_bits))
            tag = tags.payload.word_select(x, config.elem_bits)
            tag = tag[config.man_bits - 7:config.man_bits]
            wins = ~place.select | (place.live & (tag == place.tap))
            elements.append(Mux(place.wanted & wins, value, place.padding))
            bad.append(nonfinite)
        m.d.sync += [
            self.buf.en.eq(go & place.write),
            self.buf.addr.eq(place.base + place.offset),
            self.buf.bank.eq(place.bank),
            self.buf.data.eq(Cat(elements)),
            self.nonfinite.eq(go & place.wanted & place.take & Cat(bad).any()),
            self.done.eq(go & place.last),
        ]
        m.d.comb += self.active.eq(self.buf.en)

        return m
