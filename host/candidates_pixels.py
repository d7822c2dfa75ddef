"""Candidates of the passes whose accumulators hold pixels: forward and dX."""

from functools import cache
from itertools import product
from math import prod

import numpy as np

from .candidates import Candidates
from .costs import Demand, Load, Stream

__all__ = ["PixelCandidates"]


class PixelCandidates(Candidates):
    """Candidates of a pass with a region of accumulators per pixel tile and set of blocks.

    A subclass defines, besides `room`, what follows here, and `per`, how many neighbouring blocks
    share a tile of buffer A whatever their set (dX, where a set has one: 1). A `size` is (images,
    rows, columns) of a tile, numbers or arrays.
    """

    def array(self, size, chunk):
        """Array cycles of one block of a tile, for one chunk."""
        raise NotImplementedError

    def drain(self, size, blocks):
        """Cycles of the POSTs of a region."""
        raise NotImplementedError

    def results(self, shapes):
        """Load of the vector unit, its cycles left out."""
        raise NotImplementedError

    def stationary(self, shapes, cut):
        """(Load of all tiles of buffer A once, tiles per set and chunk)."""
        raise NotImplementedError

    def moving(self, shapes, cut):
        """Load of all tiles of buffer B once."""
        raise NotImplementedError

    def sharing(self, blocks):
        """The blocks of a set in lists of those that use the same tiles."""
        raise NotImplementedError

    def a_tile(self, blocks, chunk):
        """Places of the LOADs of buffer A for some blocks of a set; 0 without."""
        raise NotImplementedError

    def b_tile(self, size, chunk):
        """Places of the LOAD of a tile of buffer B."""
        raise NotImplementedError

    def demands(self, shapes, cut, a_slots, b_slots):
        chunks, places, costs = len(cut.chunks), shapes.places, self.costs
        array = drained = 0
        regions = []  # (how many, cycles to fill and drain one, places of A and B loaded for it)
        for number, size in shapes.kinds:
            block = sum(count * self.array(size, chunk) for chunk, count in cut.kinds)
            array = array + number * self.blocks * block
            b_load = sum(count * self.b_tile(size, chunk) for chunk, count in cut.kinds)
            for sets, blocks in shapes.blocks_in:
                drain = self.drain(size, blocks)
                drained = drained + number * sets * drain
                a_load = sum(count * self.a_tile(blocks, chunk) for chunk, count in cut.kinds)
                cycles = costs.region(blocks * block, drain)
                regions.append((number * sets, cycles, a_load, b_load))
        post, b = self.results(shapes), self.moving(shapes, cut)
        a, a_tiles = self.stationary(shapes, cut)
        post.cycles, a.slots, b.slots = drained, a_slots, b_slots
        first, last = b.cycles / np.maximum(b.tiles, 1), self.drain(shapes.sizes, shapes.sets)
        computes = places * self.blocks * self.computes(cut)
        for outer in (True, False):
            # what the inner loops come back to stays if it fits
            kept = chunks if outer else places * chunks
            mine = a_tiles * chunks * (shapes.regions if outer else 1)
            b_stays, a_stays = self.w.ident | (kept <= b_slots), self.w.ident | (mine <= a_slots)
            filled = 0
            for number, cycles, a_load, b_load in regions:
                cycles = np.maximum(cycles, np.where(a_stays, 0, a_load))
                filled = filled + number * np.maximum(cycles, np.where(b_stays, 0, b_load))
            a_all, b_all = (
                a.times(np.where(a_stays, 1, places)),
                b.times(np.where(b_stays, 1, shapes.regions)),
            )
            yield outer, Demand(array, filled, a_all, b_all, post, first, last, computes)
            if not ((places > 1) & (shapes.regions > 1)).any():
                break

    def computes(self, cut):
        """COMPUTE instructions per tile and block."""
        return len(cut.chunks)

    def outline(self, tile):
        places, sets = self.sides(tile)
        array = cache(lambda size, chunk: float(self.array(size, chunk)))
        b_tile = cache(self.b_tile)

        def steps(place, size, blocks):
            for number, chunk in enumerate(tile.chunks):
                cycles, load = array(size, chunk), b_tile(size, chunk)
                for some in self.sharing(blocks):
                    words = int(self.a_tile(len(some), chunk))
                    a = (some[0] // self.per, number) if words else None
                    b = place, number, some[0] if self.w.ident else 0
                    yield a, words, b, load, len(some) * cycles

        order = product(places, sets)
        if not tile.pixels_outer:
            order = ((place, blocks) for blocks in sets for place in places)
        for (place, size), blocks in order:
            yield steps(place, size, blocks), float(self.drain(size, len(blocks)))

    def map_results(self, shapes, size, count, ports):
        """Load of POSTs that write, or read at the same places, all of a feature map of `size`, on
        `ports` (number, write)."""
        config, (images, *_) = self.config, self.whole
        pixel = config.tm * config.elem_bytes
        full = shapes.cols == size[1]
        across = images * self.blocks * -(-size[1] // shapes.cols)
        jumps = across * -(-size[0] // shapes.rows)
        runs = np.where(full, jumps, across * size[0])
        beats = images * prod(size) * self.blocks * config.tm // config.beat_elems
        stride = np.where(full, size[0], 1) * size[1] * pixel
        return Load(0, {port: Stream(beats, runs, stride, jumps) for port in ports}, count)

    def weights(self, blocks, pieces, entries, cut):
        """Stream of all weights of some m blocks once; tiles have `entries` channels of each, which
        is loaded in so many pieces."""
        config, w, chunk = self.config, self.w, cut.chunks[0]
        taps = prod(w.kernel)
        beats = blocks * w.n * taps * config.tm // config.beat_elems
        size = taps * config.tm * config.elem_bytes
        runs, stride = blocks * pieces, entries * size
        if chunk.cols < w.kernel[1]:
            runs, stride = blocks * w.n * len(cut.cols) * w.kernel[0], size / w.kernel[0]
        elif chunk.rows < w.kernel[0]:
            runs, stride = blocks * w.n * len(cut.rows), size
        return Stream(beats, runs, stride, blocks * pieces)
