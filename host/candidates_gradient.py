"""Candidates of the dW pass: rows and columns count output pixels of the window."""

from collections import Counter
from functools import cache
from math import prod

import numpy as np

from .candidates import Candidates
from .costs import Demand, Load, Stream

__all__ = ["GradientCandidates"]


class GradientCandidates(Candidates):
    """See Candidates. A region of accumulators is for a set of blocks and a chunk."""

    def __init__(self, w, costs, a_depth, b_depth):
        super().__init__(w, costs, a_depth, b_depth)
        tm, tn = self.config.tm, self.config.tn
        self.whole, self.blocks = (w.images, *w.out), -(-w.m // tm)
        self.reduced, self.lanes = w.n, tn
        self.least = self._block = 4 if w.packed else tm  # channels of a block of the input
        self.fill = tn + 1
        self._per = tn // tm  # blocks in a tile of buffer A

    def room(self, shapes, cut):
        w, chunk = self.w, cut.chunks[0]
        i, r, c = shapes.sizes
        b = chunk.groups(self.lanes) * i * w.span(0, r, chunk.rows) * w.span(1, c, chunk.cols)
        entries = chunk.channels * chunk.rows * chunk.cols + 1  # and the bias
        return i * r * c, b, shapes.sets * entries

    def demands(self, shapes, cut, a_slots, b_slots):
        costs, config, w = self.costs, self.config, self.w
        places, chunks = shapes.places, len(cut.chunks)
        sweeps = sum(number * -(-prod(size) // config.tn) for number, size in shapes.kinds)
        # tiles of A hold all channels of a word, also where a set has part of them
        a_sets = sum(sets * -(-blocks // self._per) for sets, blocks in shapes.blocks_in)
        a = self.map_load(
            0,
            shapes,
            _same,
            [(0, 1)],
            [(0, 1)],
            w.out if w.pool is None else w.drained,
            [self._per],
            config.tm,
            w.pool is not None,
        )
        stays = -(-shapes.sets // self._per) * places <= a_slots
        a = a.times(a_sets * np.where(stays, 1, chunks))
        groups = [-(-n // self._block) for _, n in cut.channels]
        b = self.map_load(1, shapes, w.under, cut.rows, cut.cols, w.size, groups, self._block)
        b_stays = places * chunks <= b_slots
        b = b.times(np.where(b_stays, 1, shapes.regions))
        a.slots, b.slots = a_slots, b_slots
        array = regions = drained = 0
        for chunk, count in cut.kinds:
            entries = chunk.channels * chunk.rows * chunk.cols
            block = places * costs.sweeps(sweeps / places, entries, self.fill, dw=True)
            drain = costs.results(entries * config.groups)
            array = array + count * self.blocks * block
            drained = drained + count * self.blocks * drain
            part = chunk.channels * chunk.rows * chunk.cols / (w.n * prod(w.kernel))
            loaded = np.where(b_stays, 0, b.cycles / shapes.regions * part)
            for sets, blocks in shapes.blocks_in:
                region = costs.region(blocks * block, blocks * drain)
                regions = regions + count * sets * np.maximum(region, loaded)
        first = np.maximum(a.cycles / a.tiles, b.cycles / b.tiles)
        post, last = self._results(cut, drained), shapes.sets * drain
        computes = places * self.blocks * chunks
        yield True, Demand(array, regions, a, b, post, first, last, computes)

    def _results(self, cut, cycles):
        """Load of the updates: they read and write fp32 masters, with a bias in each block."""
        w, config, chunk = self.w, self.config, cut.chunks[0]
        taps, entry = prod(w.kernel), config.tm * 4
        beats = self.blocks * (w.n * taps + 1) * entry // config.beat_bytes
        runs, stride = self.blocks * len(cut.chunks), chunk.channels * taps * entry
        if (chunk.rows, chunk.cols) != w.kernel:
            rows = chunk.rows if chunk.cols < w.kernel[1] else 1
            runs, stride = runs * chunk.channels * rows, taps * entry / rows
        stream = Stream(beats, runs, stride, self.blocks * len(cut.chunks))
        streams = {(0, True): stream, (2, False): stream}
        return Load(cycles, streams, self.blocks * len(cut.chunks))

    def outline(self, tile):
        w, config = self.w, self.config
        places, sets = self.sides(tile)

        @cache
        def part(size, chunk):
            (i, r, c), elems = size, config.beat_elems
            entries = chunk.channels * chunk.rows * chunk.cols
            sweeps = -(-prod(size) // config.tn)
            cycles = float(self.costs.sweeps(sweeps, entries, self.fill, dw=True))
            channels = -(-chunk.channels // self._block) * self._block
            b = i * w.span(0, r, chunk.rows) * w.span(1, c, chunk.cols) * channels // elems
            a = i * w.unpooled(0, r, True) * w.unpooled(1, c, True) * config.tn // elems
            return a, b, cycles

        def steps(groups, number, chunk):
            for place, size in places:
                a, b, cycles = part(size, chunk)
                for group, some in groups:
                    yield (place, group), a, (place, number), b, some * cycles

        for blocks in sets:
            groups = Counter(block // self._per for block in blocks).items()
            for number, chunk in enumerate(tile.chunks):
                entries = chunk.channels * chunk.rows * chunk.cols
                drain = self.costs.results(entries * config.groups)
                yield steps(groups, number, chunk), len(blocks) * drain


def _same(axis, at, count, tap, taps):
    return at, count
