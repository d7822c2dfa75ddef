"""Accumulators as a stream of vectors: the walk of docs/program.md, section 5, and its pooling.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from gradgate.hw.accumulators import AccDrain, Accumulators
from gradgate.hw.config import check_config
from gradgate.hw.walker import Walker

__all__ = ["TAG_BITS", "Walk", "Pooled", "Drain"]

TAG_BITS = 7


class Walk(data.Struct):
    """The loops over the accumulators, as in the instruction."""

    src_base: 16
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
    src_mem: 1


class Pooled(data.StructLayout):
    """A vector of fp32 words, the tag of each, and whether it is the last one of its walk."""

    def __init__(self, config):
        super().__init__({
            "words": data.ArrayLayout(32, config.vlanes),
            "tags": data.ArrayLayout(TAG_BITS, config.vlanes),
            "last": 1,
        })


class Drain(wiring.Component):
    """Reads accumulators in the order of an instruction and reduces windows to their largest.

    A window is reduced in all Tm rows, an address per cycle, and handed out as groups = Tm/V
    vectors while the next one is read: a pixel takes groups cycles, with `pool` max(w1 * w0,
    groups). The first address is read in the cycle after `start`; the first vector of a window is
    on `o` LATENCY - 1 cycles after its last address; `busy` ends in the cycle after the last
    address. Reading stops while `depth` vectors wait or are under way.

    With `src_mem` nothing is read: `o` then only counts the vectors, `last` with the last one.

    Costs a comparator and 39 flip-flops per row, and a FIFO of `depth` vectors. No multipliers.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : In(1)
        Begin `walk`, which is not empty; only while not `busy`.
    walk : In(Walk)
        Constant from `start` until not `busy`. w1 and w0 are at least 1 with `pool`.
    busy : Out(1)
        Addresses of the walk are still to come.
    drain : Out(AccDrain(config))
    o : Out(stream of Pooled(config))

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    LATENCY = Accumulators.LATENCY + 4

    def __init__(self, config):
        check_config(config)
        self._config = config
        super().__init__({
            "start": In(1), "walk": In(Walk), "busy": Out(1), "drain": Out(AccDrain(config)),
            "o": Out(stream.Signature(Pooled(config))),
        })

    @property
    def config(self):
        return self._config

    @property
    def depth(self):
        """Vectors between a read and the taker, at most: so many that reading does not wait."""
        return max(16, 2 * self.config.groups)

    def elaborate(self, platform):
        m = Module()
        groups, vlanes, tm = self.config.groups, self.config.vlanes, self.config.tm
        walk = self.walk
        m.submodules.walker = walker = Walker([8, 8, 16, 16, 16], {"addr": 16})
        m.submodules.vectors = vectors = SyncFIFOBuffered(
            width=Pooled(self.config).size, depth=self.depth)
        m.d.comb += [self.o.payload.eq(vectors.r_data), self.o.valid.eq(vectors.r_rdy),
                     vectors.r_en.eq(self.o.ready)]

        window = walk.pool & ~walk.src_mem
        counts = (Mux(window, walk.w0, 1), Mux(window, walk.w1, 1), walk.p0, walk.p1, walk.p2)
        strides = (walk.aw0, walk.aw1, walk.as0, walk.as1, walk.as2)
        for level, (count, stride) in enumerate(zip(counts, strides, strict=True)):
            m.d.comb += [getattr(walker, f"n{level}").eq(count),
                         walker.addr_stride[level].eq(stride)]
            if level < 4:
                m.d.comb += getattr(walker, f"again{level}").eq(count)

        # The last address of a window takes the room for its vectors, and waits until those of the
        # window before will have been handed out when it has been reduced: then nothing after
        # ever waits.
        do_read, first, last, room = Signal(), Signal(), Signal(), Signal()
        free = Signal(range(self.depth + 1), init=self.depth)
        pause = Signal(range(max(groups, 2)))
        m.d.comb += [
            last.eq(walker.end[:2].all()),
            room.eq((free >= groups) & (pause == 0)),
            do_read.eq(self.busy & (~last | room)),
            walker.step.eq(do_read),
            walker.addr_base.eq(walk.src_base),
            walker.load.eq(self.start),
            self.drain.en.eq(do_read & ~walk.src_mem),
            self.drain.addr.eq(walker.addr),
        ]
        with m.If(walker.load):
            m.d.sync += [self.busy.eq(1), first.eq(1)]
        with m.Elif(do_read):
            m.d.sync += first.eq(last)
            with m.If(walker.last):
                m.d.sync += self.busy.eq(0)
        with m.If(do_read & last):
            m.d.sync += pause.eq(groups - 1)
        with m.Elif(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        m.d.sync += free.eq(free - Mux(do_read & last, groups, 0)
                            + (self.o.valid & self.o.ready))

        # what belongs to the data when it arrives; those of a group a cycle after the one before
        place = Cat(do_read, first, last, walker.last)
        for k in range(Accumulators.LATENCY):
            later = Signal(len(place), name=f"place_{k}")
            m.d.sync += later.eq(place)
            place = later
        index = Signal(TAG_BITS, reset_less=True)
        tag = Mux(place[1], 0, index)
        with m.If(place[0]):
            m.d.sync += index.eq(tag + 1)

        # a group is handed out when it has just been reduced, so nothing has to keep it
        words = Signal(data.ArrayLayout(32, tm), reset_less=True)
        tags = Signal(data.ArrayLayout(TAG_BITS, tm), reset_less=True)
        made = Signal(Pooled(self.config))
        done, end = Signal(groups), Signal(groups, reset_less=True)
        for g in range(groups):
            valid, first_one, last_one, ends = place
            m.d.sync += [done[g].eq(valid & last_one), end[g].eq(ends)]
            for r in range(g * vlanes, (g + 1) * vlanes):
                word = self.drain.data[r]
                with m.If(valid & (first_one | _greater(word, words[r]))):
                    m.d.sync += [words[r].eq(word), tags[r].eq(tag)]
            if g + 1 < groups:
                following = Signal.like(Cat(place, tag), name=f"following_{g}")
                m.d.sync += following.eq(Cat(place, tag))
                place, tag = following[:len(place)], following[len(place):]
        turn = Signal(range(groups))  # of them at most one is done
        m.d.comb += turn.eq(Cat(Cat(done[g] for g in range(groups) if g >> k & 1).any()
                                for k in range(len(turn))))
        m.d.comb += [
            made.words.eq(words.as_value().word_select(turn, 32 * vlanes)),
            made.tags.eq(tags.as_value().word_select(turn, TAG_BITS * vlanes)),
            made.last.eq(done[-1] & end[-1]),
            vectors.w_data.eq(made),
            vectors.w_en.eq(done.any()),
        ]
        return m


def _greater(a, b):
    """a > b, both canonical fp32, with a single comparison: of negative numbers `>=` is inverted.

    There is no -0, so numbers of different signs differ.
    """
    negative = b[31]
    chain = Cat(negative, a[:31]) > Cat(Const(0, 1), b[:31])
    return Mux(a[31] == negative, chain ^ negative, negative)
