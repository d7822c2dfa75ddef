"""Accumulators as a stream of vectors: the walk of docs/program.md, section 5, and its pooling.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from gradgate.hw.accumulators import AccDrain, Accumulators

__all__ = ["Walk", "Drain"]


class Walk(data.Struct):
    """The loops over the accumulators, as in the instruction."""

    base: 16
    p2: 16
    p1: 16
    p0: 16
    w1: 8
    w0: 8
    as2: signed(16)
    as1: signed(16)
    as0: signed(16)
    aw1: signed(16)
    aw0: signed(16)
    pool: 1
    tag_out: 1


class Drain(wiring.Component):
    """Reads accumulators in the order of an instruction and reduces windows to their largest.

    One vector of `o` per cycle, with `pool` one per w1 * w0 cycles; without, the first is there
    LATENCY cycles after `start`. With `tag_out` an element is the fp32 number whose upper half is
    its tag in bf16. No multipliers; a FIFO of DEPTH vectors.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : In(1)
        Begin `walk`; only while not `busy`. An empty walk has no effect.
    walk : In(Walk)
        Constant from `start` until the last vector has left. w1 and w0 are at least 1 with `pool`
        and do not matter without.
    busy : Out(1)
        Addresses of the walk are still to come.
    drain : Out(AccDrain(config))
    o : Out(stream of ArrayLayout(32, V))
        fp32.
    """

    LATENCY = Accumulators.LATENCY + 5
    DEPTH = 16  # vectors on their way, at most: more than a vector is under way

    def __init__(self, config):
        self._config = config
        vector = data.ArrayLayout(32, config.vlanes)
        super().__init__({
            "start": In(1), "walk": In(Walk), "busy": Out(1), "drain": Out(AccDrain(config)),
            "o": Out(stream.Signature(vector)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        width = self.config.beat_bits
        m.submodules.vectors = vectors = SyncFIFOBuffered(width=width, depth=self.DEPTH)
        m.d.comb += [self.o.payload.eq(vectors.r_data), self.o.valid.eq(vectors.r_rdy),
                     vectors.r_en.eq(self.o.ready)]

        # only the last element of a window makes a vector and needs room for one
        do_read, first, last = Signal(), Signal(), Signal()
        group = Signal(range(max(self.config.groups, 2)))
        free = Signal(range(self.DEPTH + 1), init=self.DEPTH)
        m.d.comb += do_read.eq(self.busy & (~last | (free != 0)))
        m.d.sync += free.eq(free - (do_read & last) + (self.o.valid & self.o.ready))
        self._walk(m, do_read, group, first, last)

        # what belongs to the data when it arrives
        issue = Cat(do_read, first, last, group)
        for k in range(Accumulators.LATENCY):
            later = Signal(len(issue), name=f"issue_{k}")
            m.d.sync += later.eq(issue)
            issue = later
        m.d.comb += self.drain.en.eq(do_read)

        # as unsigned numbers in the same order: the sign bit set for what is not negative
        r1_valid, r1_first, r1_last = Signal(), Signal(reset_less=True), Signal(reset_less=True)
        r1_keys = Signal(width, reset_less=True)
        words = Signal(width)
        m.d.sync += [r1_valid.eq(issue[0]), r1_first.eq(issue[1]), r1_last.eq(issue[2])]
        groups = self.drain.data.as_value()
        several = self.config.groups > 1
        m.d.comb += words.eq(groups.word_select(issue[3:], width) if several else groups)
        for i in range(self.config.vlanes):
            word = words.word_select(i, 32)
            flip = Cat(word[31].replicate(31), Const(1, 1))
            m.d.sync += r1_keys.word_select(i, 32).eq(word ^ flip)

        r2_keys = Signal(width, reset_less=True)
        r2_tags = Signal(7 * self.config.vlanes, reset_less=True)
        r2_valid = Signal()
        index = Signal(7, reset_less=True)
        now = Mux(r1_first, 0, index)
        with m.If(r1_valid):
            m.d.sync += index.eq(now + 1)
        m.d.sync += r2_valid.eq(r1_valid & r1_last)
        for i in range(self.config.vlanes):
            key, best = r1_keys.word_select(i, 32), r2_keys.word_select(i, 32)
            with m.If(r1_valid & (r1_first | (key > best))):
                m.d.sync += [best.eq(key), r2_tags.word_select(i, 7).eq(now)]

        m.d.comb += vectors.w_en.eq(r2_valid)
        for i in range(self.config.vlanes):
            key, tag = r2_keys.word_select(i, 32), r2_tags.word_select(i, 7)
            value = key ^ Cat((~key[31]).replicate(31), Const(1, 1))
            m.d.comb += vectors.w_data.word_select(i, 32).eq(
                Mux(self.walk.tag_out, Cat(Const(0, 16), tag, Const(0x80, 9)), value))
        return m

    def _walk(self, m, do_read, group, first, last):
        """The loops: an address, its group, and its place in the window, until nothing is left."""
        walk = self.walk
        ones = Const(1, 8)

        # level: iterations left, how many there are, address of the loop body, its step
        def level(name, count, step):
            left = Signal(len(count), name=f"{name}_left", reset_less=True)
            addr = Signal(16, name=f"{name}_addr", reset_less=True)
            return left, count, addr, step

        window = [level("w0", Mux(walk.pool, walk.w0, ones), walk.aw0),
                  level("w1", Mux(walk.pool, walk.w1, ones), walk.aw1)]
        pixels = [level("p0", walk.p0, walk.as0), level("p1", walk.p1, walk.as1),
                  level("p2", walk.p2, walk.as2)]
        levels = [*window, *pixels]
        m.d.comb += self.drain.addr.eq(levels[0][2])

        def begin(inner, address):
            for left, count, addr, _ in inner:
                m.d.sync += [left.eq(count), addr.eq(address)]

        def advance(loops, inner):
            """The next iteration of the innermost of `loops` that has one; `inner` begin anew."""
            if not loops:
                m.d.sync += self.busy.eq(0)
                return
            left, _, addr, step = loops[0]
            with m.If(left != 1):
                address = addr + step
                m.d.sync += [left.eq(left - 1), addr.eq(address)]
                begin(inner, address)
            with m.Else():
                advance(loops[1:], [*inner, loops[0]])

        ended = [left == 1 for left, *_ in window]
        m.d.comb += last.eq(ended[0] & ended[1])
        with m.If(do_read):
            m.d.sync += first.eq(last)
            with m.If(~last):
                advance(window, [])
            with m.Elif(group != self.config.groups - 1):
                m.d.sync += group.eq(group + 1)
                begin(window, pixels[0][2])
            with m.Else():
                m.d.sync += group.eq(0)
                advance(pixels, window)

        with m.If(self.start & walk.p2.any() & walk.p1.any() & walk.p0.any()):
            m.d.sync += [self.busy.eq(1), first.eq(1), group.eq(0)]
            begin(levels, walk.base)
