"""Candidates of the forward pass: rows and columns count outputs of the pooling, if any."""

from itertools import groupby
from math import prod

import numpy as np

from .candidates_pixels import PixelCandidates
from .costs import Load

__all__ = ["ForwardCandidates"]

STAY = 0.01  # of the pass, what it is worth that weights can stay in buffer A until dX


class ForwardCandidates(PixelCandidates):
    """See Candidates."""

    def __init__(self, w, costs, a_depth, b_depth):
        super().__init__(w, costs, a_depth, b_depth)
        tm, tn = self.config.tm, self.config.tn
        self.whole, self.blocks = (w.images, *w.drained), -(-w.m // tm)
        self.reduced, self.lanes = w.n, tm if w.ident else tn
        self.least = self.lanes
        self.fill = tm + 1 if w.ident else tm + tn
        self.per = tn // tm  # blocks in a tile of buffer A
        self._packed = max(w.packed, 1)
        self._block = 4 if w.packed else tm  # channels of a block of the input
        window = 1 if w.pool is None else prod(w.pool[0])
        self._vectors = max(window, self.config.groups)  # per pixel of the output

    def _pixels(self, size):
        """Moving vectors of a tile."""
        i, r, c = size
        return i * np.where(r > 0, self.w.pooled(0, r), 0) * np.where(c > 0, self.w.pooled(1, c), 0)

    def room(self, shapes, cut):
        w, chunk = self.w, cut.chunks[0]
        i, r, c = shapes.sizes
        groups, taps = chunk.groups(self.lanes), chunk.rows * chunk.cols
        pitch = -(-w.span(1, w.pooled(1, c), chunk.cols) // self._packed)
        b = groups * i * w.span(0, w.pooled(0, r), chunk.rows) * pitch
        # fields of a COMPUTE count elements
        b = np.where(b * self._packed > 0xFFFF, self.b_depth + 1, b)
        a = 0 if w.ident else (w.n if w.packed else groups * self.lanes) * taps
        if chunk.cols < w.kernel[1] and chunk.cols % self._packed:
            a = self.a_depth + 1
        sums = self._pixels(shapes.sizes) * shapes.sets
        if w.ident:  # works on one block at a time
            sums = np.where(shapes.sets > 1, self.config.acc_depth + 1, sums)
        return a, b, sums

    def array(self, size, chunk):
        sweeps = chunk.groups(self.lanes) * chunk.rows * -(-chunk.cols // self._packed)
        return self.costs.sweeps(sweeps, self._pixels(size), self.fill)

    def drain(self, size, blocks):
        return blocks * self.costs.results(prod(size) * self._vectors, not self.w.ident)

    def results(self, shapes):
        ports = [(0, True)] if self.w.pool is None else [(0, True), (1, True)]
        return self.map_results(shapes, self.whole[1:], shapes.places * self.blocks, ports)

    def stationary(self, shapes, cut):
        tiles = -(-shapes.sets // self.per)
        if self.w.ident:
            return Load(), tiles
        chunks = len(cut.chunks)
        stream = self.weights(self.blocks, chunks, cut.chunks[0].channels, cut)
        count = tiles * shapes.regions * chunks
        return Load(stream.beats, {(0, False): stream}, count, count), tiles

    def moving(self, shapes, cut):
        w = self.w
        groups = [-(-n // self._block) for _, n in cut.channels]
        if w.ident:
            groups = [1] * self.blocks
        return self.map_load(
            1, shapes, self._under, cut.rows, cut.cols, w.size, groups, self._block
        )

    def lost(self, cut):
        chunk, w = cut.chunks[0], self.w
        words = -(-w.m // self.config.tn) * w.n * prod(w.kernel)
        # only tiles with all taps can stay (host/resident.py)
        return STAY if (chunk.rows, chunk.cols) != w.kernel and words <= self.a_depth else 0.0

    def _under(self, axis, at, count, tap, taps):
        w = self.w
        return w.under(axis, at * w.step(axis), w.pooled(axis, count), tap, taps)

    def sharing(self, blocks):
        if self.w.ident:
            return [[block] for block in blocks]
        return [list(some) for _, some in groupby(blocks, lambda block: block // self.per)]

    def a_tile(self, blocks, chunk):
        entries = 0 if self.w.ident else chunk.channels * chunk.rows * chunk.cols
        return -(-blocks // self.per) * entries * self.config.tn // self.config.beat_elems

    def b_tile(self, size, chunk):
        w, (i, r, c) = self.w, size
        blocks = 1 if w.ident else -(-chunk.channels // self._block)
        pixels = i * w.span(0, w.pooled(0, r), chunk.rows) * w.span(1, w.pooled(1, c), chunk.cols)
        return pixels * blocks * self._block // self.config.beat_elems
