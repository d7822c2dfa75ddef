"""Weight gradients, and the SGD update."""

from collections import namedtuple
from dataclasses import dataclass, replace
from math import prod

from gradgate.hw.isa import Unit

from .forward import pixel_tiles
from .loads import load_gradient, load_map
from .tensors import FeatureMap, Weights
from .tiling import Window

__all__ = ["WeightGradient", "sgd", "refresh"]

# what one region of accumulators is for: blocks, number of the chunk, Chunk, whether the bias too
_Region = namedtuple("_Region", "blocks index chunk ones")


@dataclass
class WeightGradient:
    """The dW pass of a layer, with the update if wanted.

    Parameters
    ----------
    lw : Lowering
    w : Window
    x, dy : FeatureMap
        Input of the layer; gradient of the output of `w`, or of the pooling that follows it.
    weights : Weights
    tags : FeatureMap or None
        Winners of the pooling that follows `w`.
    train : (bool, bool)
        Whether the weight, the bias is wanted; entries of the other are left as they are.
    key : hashable or None
        With a key, SGD is done while the gradient leaves the accumulators, with hyperparameters
        patched under that key, and no gradient is stored.
    momentum : bool
        Whether SGD uses and changes the momentum.
    """

    lw: object
    w: Window
    x: FeatureMap
    dy: FeatureMap
    weights: Weights
    tags: FeatureMap | None = None
    train: tuple = (True, True)
    key: object = None
    momentum: bool = False

    def emit(self, wait=False):
        """Emit the pass.

        `wait`: leave the gradient in the accumulators if there is room, to be drained little by
        little during the next passes. Returns whether there is.
        """
        lw = self.lw
        tile = lw.tile("gradient", self.w)
        if wait:
            tile = replace(tile, sets=1)
        regions = list(self._regions(tile))
        wait = wait and lw.background.room([_size(region) for region in regions])
        lw.a.partition(tile.a_words)
        lw.b.partition(tile.b_words)
        places = pixel_tiles(self.dy.images, *self.w.out, tile)
        for region in regions:
            if wait:
                number, base, acc = lw.put_off(_size(region))
            else:
                base, acc = lw.region(_size(region))
            for place in places:
                self._multiply(region, place, base, acc, place is places[0])
            if wait:
                self._leave(region, number, base, acc)
            else:
                lw.filled()
                self._drain(region, base, acc)
        return wait

    def _regions(self, tile):
        """What the regions of accumulators are for, in turn."""
        chunks = tile.chunks if self.train[0] else tile.chunks[-1:]
        for first in range(0, self.dy.blocks, tile.sets):
            blocks = range(first, min(first + tile.sets, self.dy.blocks))
            for index, chunk in enumerate(chunks):
                ones = self.train[1] and index == len(chunks) - 1
                yield _Region(blocks, index, chunk, ones)

    def _multiply(self, region, place, base, acc, first):
        """Emit the products of a tile."""
        lw, w, config = self.lw, self.w, self.lw.config
        tm, tn, chunk = config.tm, config.tn, region.chunk
        (_, ni), (_, nr), (_, nc) = place
        s1, s0 = w.stride
        span_r, span_c = w.span(0, nr, chunk.rows), w.span(1, nc, chunk.cols)
        moving = self._moving(region, place)
        for number, block in enumerate(region.blocks):
            stationary = self._stationary(block, place)
            lw.compute(
                [stationary, moving],
                acc,
                dw=1,
                first=int(first),
                ones=int(region.ones),
                abase=stationary.base,
                bbase=moving.base,
                cbase=base + number * _entries(region),
                rows=min(tm, w.m - block * tm),
                rch0=block * tm % tn,
                np=ni * nr * nc,
                ng=chunk.groups(tn),
                lanes_last=chunk.last(tn),
                t1=chunk.rows,
                t0=chunk.cols,
                q2=ni,
                q1=nr,
                q0=nc,
                bg=ni * span_r * span_c,
                bt1=span_c,
                bt0=1,
                bq2=span_r * span_c,
                bq1=s1 * span_c,
                bq0=s0,
                rskew=nc % tn,
                sd1=s1,
                sd0=s0,
                al_n=1,
            )

    def _moving(self, region, place):
        """The slot with the window of x under a tile."""
        w, chunk = self.w, region.chunk
        images, (r0, nr), (c0, nc) = place
        rows = r0 * w.stride[0] - w.padding[0] + chunk.kr0, w.span(0, nr, chunk.rows)
        cols = c0 * w.stride[1] - w.padding[1] + chunk.kc0, w.span(1, nc, chunk.cols)
        window = images, (chunk.c0, chunk.channels), rows, cols
        skew = nr * nc, nc, 1
        return self.lw.b.tile(
            (place, region.index),
            lambda slot: load_map(
                self.lw, Unit.LOAD_B, slot, self.x, *window, skew=skew, sd=w.stride
            ),
        )

    def _stationary(self, block, place):
        """The slot with the gradients of a tile, for the group of blocks that share words."""
        config, dy = self.lw.config, self.dy
        per = config.tn // config.tm
        group = block // per
        channels = group * config.tn, min(config.tn, (dy.blocks - group * per) * config.tm)
        images, (_, nr), (_, nc) = place
        return self.lw.a.tile(
            (place, group),
            lambda slot: load_gradient(
                self.lw,
                Unit.LOAD_A,
                slot,
                self.w,
                dy,
                self.tags,
                images,
                channels,
                *place[1:],
                skew=(nr * nc, nc, 1),
            ),
        )

    def _drain(self, region, base, acc):
        """Emit what takes the gradient out of a region."""
        for number, block in enumerate(region.blocks):
            start = base + number * _entries(region)
            for source, offset, loops, length in self._runs(region, block):
                self._post(start + source, offset, loops, length, acc)

    def _leave(self, region, number, base, acc):
        """Have the gradient, of one block of a linear layer, taken out later; `number` is that of
        the region."""
        lw, label = self.lw, self.lw.program.label
        ((source, offset, _, length),) = self._runs(region, region.blocks[0])

        def emit(first, count):
            under_way, lw.program.label = lw.program.label, label
            self._post(base + source + first, offset + first, [], count, acc)
            lw.program.label = under_way

        timing, config = lw.scheduler.timing, lw.config
        beats = self.weights.entry_bytes // config.beat_bytes
        streams = 1 if self.key is None else 4 if self.momentum else 2
        each = beats * (streams if timing.shared else 1) * float(timing.beat_cycles)
        lw.background.add(number, length, max(config.groups, each), emit)

    def _runs(self, region, block):
        """Runs of entries in which a block of a region leaves the accumulators: (first accumulator,
        first entry, loops, length of a run)."""
        w, chunk, weight = self.weights, region.chunk, self.train[0]
        size, taps = w.entry_bytes, w.k1 * w.k0
        entries = chunk.channels * chunk.rows * chunk.cols
        start = block * w.entries
        first = start + (chunk.c0 * w.k1 + chunk.kr0) * w.k0 + chunk.kc0
        if weight and chunk.rows * chunk.cols == taps:  # the bias follows
            return [(0, first, [], _entries(region))]
        found = []
        if weight:
            loops = [(chunk.channels, taps * size), (chunk.rows, w.k0 * size)]
            found.append((0, first, loops, chunk.cols))
        if region.ones:
            found.append((entries, start + w.entries - 1, [], 1))
        return found

    def _post(self, source, offset, loops, length, acc):
        """Emit the POST of runs of `length` entries, from entry `offset` on, from accumulator
        `source` on."""
        w, size = self.weights, self.weights.entry_bytes
        fields = {"src_base": source, "p0": length * prod(n for n, _ in loops), "as0": 1}
        if self.key is not None:
            _update(self.lw, w, [acc], loops, length, offset, self.key, self.momentum, **fields)
            return
        self.lw.post(
            [acc],
            self.lw.memory(w, ("gradient",)),
            loops,
            length * size,
            w.gradient + offset * size,
            out_fp32=1,
            **fields,
        )


def _entries(region):
    """Accumulators of a region per block."""
    chunk = region.chunk
    return chunk.channels * chunk.rows * chunk.cols + region.ones


def _size(region):
    """Accumulators of a region."""
    return len(region.blocks) * _entries(region)


def _update(lw, w, reads, loops, length, offset, key, momentum, **fields):
    """Emit the update of runs of `length` entries, from entry `offset` on."""
    size = w.entry_bytes
    master, hazards = w.master + offset * size, lw.memory(w, ("master",))
    if momentum:
        hazards += lw.memory(w, ("momentum",))
        fields |= {"mom": 1, "aux_base": w.momentum + offset * size}
    lw.post(
        [*reads, *hazards],
        hazards,
        loops,
        length * size,
        master,
        opd_base=master,
        sgd=1,
        opd_fp32=1,
        out_fp32=1,
        patch=key,
        **fields,
    )


def sgd(lw, w, key, momentum, train=(True, True)):
    """Emit the update of the master by the gradient in memory; parameters as for
    WeightGradient."""
    size, per_block = w.entry_bytes, w.entries - 1
    if train == (True, True):
        pieces = [(0, w.blocks, w.entries)]
    elif train[0]:
        pieces = [(b * w.entries, 1, per_block) for b in range(w.blocks)]
    else:
        pieces = [(b * w.entries + per_block, 1, 1) for b in range(w.blocks)]
    for offset, blocks, entries in pieces:
        _update(
            lw,
            w,
            lw.memory(w, ("gradient",)),
            [(blocks, entries * size), (entries, size)],
            1,
            offset,
            key,
            momentum,
            src_mem=1,
            src_fp32=1,
            src_base=w.gradient + offset * size,
            p1=blocks,
            p0=entries,
        )


def refresh(lw, w):
    """Emit the conversion of the master to the compute copy, where that is a tensor of its own."""
    if not w.copied:
        return
    size = w.copy_entry_bytes
    lw.post(
        lw.memory(w, ("master",)),
        lw.memory(w, ("copy",)),
        [(w.blocks, w.entries * size), (w.entries, size)],
        size,
        w.copy,
        src_mem=1,
        src_fp32=1,
        src_base=w.master,
        p1=w.blocks,
        p0=w.entries,
    )
