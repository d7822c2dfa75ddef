"""Candidates of the dX pass: rows and columns count input pixels of the window."""

from math import prod

import numpy as np

from .candidates_pixels import PixelCandidates
from .costs import Load

__all__ = ["BackwardCandidates"]


class BackwardCandidates(PixelCandidates):
    """See Candidates.

    Parameters
    ----------
    tags : bool
        Tags of a maximum pooling take the place of weights in buffer A.
    """

    def __init__(self, w, costs, a_depth, b_depth, tags=False):
        super().__init__(w, costs, a_depth, b_depth)
        tm = self.config.tm
        self.tags, self.whole, self.blocks = tags, (w.images, *w.size), -(-w.n // tm)
        self.reduced, self.lanes = w.m, tm if w.ident else self.config.tn
        self.least, self.per = self.lanes, 1
        self.fill = tm + 1

    def room(self, shapes, cut):
        w, chunk = self.w, cut.chunks[0]
        i, r, c = shapes.sizes
        groups = chunk.groups(self.lanes)
        b = groups * i * w.reach(0, r, chunk.rows) * w.reach(1, c, chunk.cols)
        entries = np.minimum(shapes.sets * self.config.tm, w.n)
        a = groups * entries * chunk.rows * chunk.cols
        if w.ident:
            a = b if self.tags else 0
        # a POST writes columns of one image, or rows of several
        possible = (i == 1) | (c == self.whole[2])
        return a, np.where(possible, b, self.b_depth + 1), i * r * c * shapes.sets

    def _phases(self, chunk):
        """Phases of the stride that meet taps of a chunk; each has a COMPUTE."""
        return min(self.w.stride[0], chunk.rows) * min(self.w.stride[1], chunk.cols)

    def array(self, size, chunk):
        i, r, c = size
        phases = self._phases(chunk)
        sweeps = chunk.groups(self.lanes) * chunk.rows * chunk.cols / phases
        vectors = i * -(-r // self.w.stride[0]) * -(-c // self.w.stride[1])
        return phases * self.costs.sweeps(sweeps, vectors, self.fill)

    def computes(self, cut):
        return sum(count * self._phases(chunk) for chunk, count in cut.kinds)

    def drain(self, size, blocks):
        return self.costs.results(prod(size) * blocks * self.config.groups)

    def results(self, shapes):
        ports = [(0, True), (2, False)]  # the mask is read where the result is written
        return self.map_results(shapes, self.whole[1:], shapes.places * shapes.regions, ports)

    def stationary(self, shapes, cut):
        if self.tags:
            return self._map(0, shapes, cut, False), 1
        if self.w.ident:
            return Load(), 1
        tm, chunk = self.config.tm, cut.chunks[0]
        pieces = shapes.regions * len(cut.rows) * len(cut.cols)
        entries = np.minimum(shapes.sets * tm, self.w.n)
        stream = self.weights(-(-self.w.m // tm), pieces, entries, cut)
        tiles = shapes.regions * len(cut.chunks)
        count = tiles if chunk.cols == self.w.kernel[1] else tiles * chunk.groups(self.lanes)
        return Load(stream.beats, {(0, False): stream}, count, tiles), 1

    def moving(self, shapes, cut):
        return self._map(1, shapes, cut, self.w.pool is not None)

    def _map(self, port, shapes, cut, undo):
        w, tm = self.w, self.config.tm
        groups = [1] * self.blocks if w.ident else [-(-n // tm) for _, n in cut.channels]
        size = w.drained if undo else w.out
        return self.map_load(port, shapes, w.met, cut.rows, cut.cols, size, groups, tm, undo)

    def sharing(self, blocks):
        return [[block] for block in blocks] if self.w.ident else [blocks]

    def a_tile(self, blocks, chunk):
        if self.w.ident:
            return 0
        tm = self.config.tm
        entries = np.minimum(blocks * tm, self.w.n) * chunk.rows * chunk.cols
        return entries * -(-chunk.channels // tm) * tm // self.config.beat_elems

    def b_tile(self, size, chunk):
        w, (i, r, c) = self.w, size
        blocks = 1 if w.ident else -(-chunk.channels // self.config.tm)
        places = i * blocks * self.config.tm // self.config.beat_elems
        for axis, count, taps in ((0, r, chunk.rows), (1, c, chunk.cols)):
            places = places * w.unpooled(axis, w.reach(axis, count, taps))
        return places
