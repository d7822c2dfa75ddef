"""The queue of one unit: holds its instructions until their tokens are there."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.isa import BYTES, COMMON

__all__ = ["Issue"]


def _field(word, name):
    field = COMMON[name]
    return word[32 * field.word + field.lo:][:field.width]


class Issue(wiring.Component):
    """Queues `DEPTH` instructions in beats and one more in full; keeps the masks of all in flight.

    An instruction that finds the queue empty is offered to the unit `beats + 3` cycles after its
    first beat, where `beats = BYTES * 8 / beat_bits`, if its tokens are there, else two cycles
    after the last of them; at most one instruction per `beats + 3` cycles. Costs `DEPTH * BYTES *
    8` bits of memory and about 600 flip-flops.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In(stream.Signature(beat_bits))
        Instructions, first beat first.
    o : Out(stream.Signature(512))
        The instruction, its tokens taken.
    done : In(1)
        The unit has completed its oldest instruction, accepted in the cycle before or earlier.
    halt : In(1)
        Offer no further instruction.
    tokens : In(4)
        Bit v: there is a token from unit v.
    take : Out(4)
        One cycle high: a token from unit v is taken.
    give : Out(4)
        One cycle high, the one after `done`: a token goes to unit v.
    executing : Out(1)
        The unit has accepted an instruction that is not done.
    waiting : Out(1)
        The instruction at the head lacks a token.
    empty : Out(1)
        No instruction, nor part of one, is here.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    DEPTH = 4
    IN_FLIGHT = 8

    def __init__(self, config):
        check_config(config)
        self._beat_bits = config.beat_bits
        self._beats = BYTES // config.beat_bytes
        super().__init__({
            "i": In(stream.Signature(config.beat_bits)),
            "o": Out(stream.Signature(8 * BYTES)),
            "done": In(1),
            "halt": In(1),
            "tokens": In(4),
            "take": Out(4),
            "give": Out(4),
            "executing": Out(1),
            "waiting": Out(1),
            "empty": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        beats = self._beats
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=self._beat_bits, depth=self.DEPTH * beats)
        m.d.comb += [
            self.i.ready.eq(fifo.w_rdy),
            fifo.w_en.eq(self.i.valid),
            fifo.w_data.eq(self.i.payload),
        ]

        # the head is put together beat by beat: the first ends up in the low bits
        head = Signal(8 * BYTES, reset_less=True)
        filled = Signal(range(beats))
        full = Signal()
        m.d.comb += fifo.r_en.eq(~full)
        with m.If(fifo.r_rdy & fifo.r_en):
            m.d.sync += [
                head.eq(Cat(head[self._beat_bits:], fifo.r_data)),
                filled.eq(filled + 1),
                full.eq(filled == beats - 1),
            ]

        # signal masks of the instructions from offer to done, so that `done` may come at once
        masks = Signal(data.ArrayLayout(4, self.IN_FLIGHT), reset_less=True)
        newest = Signal(range(self.IN_FLIGHT))
        oldest = Signal(range(self.IN_FLIGHT))
        held = Signal(range(self.IN_FLIGHT + 1))

        # tokens are taken with the offer, which then stands until the unit accepts it
        offer, accepted = Signal(), Signal()
        idle = Signal()
        wait = _field(head, "wait")
        lacking = Signal()
        begin = Signal()
        m.d.comb += [
            lacking.eq((wait & ~self.tokens).any()),
            idle.eq(full & ~offer & ~accepted),
            begin.eq(idle & ~lacking & ~self.halt & (held != self.IN_FLIGHT)),
            self.take.eq(Mux(begin, wait, 0)),
            self.o.valid.eq(offer),
            self.o.payload.eq(head),
        ]
        with m.If(begin):
            m.d.sync += [
                masks[newest].eq(_field(head, "signal")),
                newest.eq(newest + 1),
            ]
        m.d.sync += self.give.eq(Mux(self.done, masks[oldest], 0))
        with m.If(self.done):
            m.d.sync += oldest.eq(oldest + 1)
        m.d.sync += held.eq(held + begin - self.done)

        # that the unit takes it is known here a cycle late, as units are far
        m.d.sync += [offer.eq(begin | (offer & ~self.o.ready)), accepted.eq(offer & self.o.ready)]
        running = Signal(range(self.IN_FLIGHT + 1))
        with m.If(accepted):
            m.d.sync += full.eq(0)
        m.d.sync += running.eq(running + accepted - self.done)

        m.d.comb += [
            self.executing.eq(running != 0),
            self.waiting.eq(idle & lacking),
            self.empty.eq((fifo.level == 0) & (filled == 0) & ~full),
        ]
        return m
