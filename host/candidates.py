"""What the candidates of all passes have in common: how they are found, and their loads."""

from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from math import prod

import numpy as np

from .costs import Load, Stream
from .neighbours import Neighbours
from .shapes import Shapes
from .sketch import sketch
from .tiling import SLOTS_MAX, Chunk, Tile, chunks_of, splits

__all__ = ["Candidate", "Candidates", "Cut"]

ALIKE = 40  # shapes of tiles that are kept for the same chunks, blocks and order of the loops
SMALL = 128  # pixels, times blocks, of the smallest tiles where larger ones fit


class Cut:
    """A reduction cut into chunks: all combinations of parts (first, count) along its axes.

    Members
    -------
    chunks : tuple of Chunk
    channels, rows, cols : lists of (first, count)
    """

    def __init__(self, chunks):
        self.chunks = chunks
        self.channels = sorted({(c.c0, c.channels) for c in chunks})
        self.rows = sorted({(c.kr0, c.rows) for c in chunks})
        self.cols = sorted({(c.kc0, c.cols) for c in chunks})

    @cached_property
    def kinds(self):
        """[(Chunk, how many are as large)]."""
        sizes = Counter((c.channels, c.rows, c.cols) for c in self.chunks)
        return [(Chunk(0, n, 0, r, 0, c), count) for (n, r, c), count in sizes.items()]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A tile and what its closed cost is made of.

    Parameters
    ----------
    tile : Tile
    cost : float
        Closed cost, `beside` included.
    beside : float
        Cycles that other passes seem to lose, see Neighbours; less than 0 if they win.
    array : cycles of the array if it never waits
    bound : float
        Cycles of the busiest unit or channel.
    tail : see Costs
    paces : (float, float, float), see Costs
    """

    tile: Tile
    cost: float
    beside: float
    array: float
    bound: float
    tail: float
    paces: tuple


class Candidates:
    """The candidate tiles of one pass.

    Parameters
    ----------
    w : Window
    costs : Costs
    a_depth, b_depth : int
        Words of the tile buffers that the pass may use.

    A subclass defines the attributes

    whole : (images, rows, columns) that tiles are cut from
    blocks : channel blocks, of which some share a region of accumulators
    reduced, lanes, least : channels that are reduced over (dW: of the weights), how many of them
        share a word, and the fewest that a chunk may have
    fill : cycles from a COMPUTE's acceptance to its first vector

    and the methods `room`, `demands`, `outline`.
    """

    def __init__(self, w, costs, a_depth, b_depth):
        self.w, self.costs, self.machine, self.config = w, costs, costs.machine, costs.config
        self.a_depth, self.b_depth = a_depth, b_depth
        self.neighbours = Neighbours(costs, a_depth, b_depth)
        self._touched = cache(self._touched)

    def room(self, shapes, cut):
        """(words of buffer A, of B, accumulators of a region) that each of Shapes needs with chunks
        of a Cut; more than there are if it is not possible at all."""
        raise NotImplementedError

    def demands(self, shapes, cut, a_slots, b_slots):
        """Yield (whether pixel tiles are the outer loop, Demand) per order of the loops; `a_slots`,
        `b_slots` are the tiles that the buffers hold."""
        raise NotImplementedError

    def lost(self, cut):
        """Part of the pass that another one loses by how a Cut splits the reduction."""
        return 0.0

    def outline(self, tile):
        """Iterator over the regions of accumulators of the pass, see `sketch`."""
        raise NotImplementedError

    def found(self):
        """List of Candidate, the least cost first; empty if nothing fits."""
        found = []
        every = Shapes(self.whole, self.blocks)
        steps = splits(self.reduced, self.w.kernel, self.lanes, self.least)
        for chunks in dict.fromkeys(
            chunks_of(self.reduced, self.w.kernel, *step) for step in steps
        ):
            cut = Cut(chunks)
            shapes, (a_words, b_words) = self._fitting(every, cut)
            if not len(shapes):
                continue
            slots = self._slots(a_words, b_words)
            for outer, demand in self.demands(shapes, cut, *slots):
                costs = self.costs
                beside = self.neighbours.cycles(demand, a_words, b_words)
                beside = beside + self.lost(cut) * demand.array
                table = [costs.cycles(demand) + beside, beside, demand.array]
                table += [costs.bound(demand), costs.tail(demand), *costs.paces(demand)]
                table = np.stack(np.broadcast_arrays(*table, shapes.sets), axis=-1)
                for at in _cheapest(table[:, 0], shapes.sets):
                    size = [int(axis[at]) for axis in shapes.sizes]
                    words = int(a_words[at]), int(b_words[at])
                    tile = Tile(*size, cut.chunks, *words, outer, int(shapes.sets[at]))
                    *numbers, a, b, post, _ = table[at].tolist()
                    found.append(Candidate(tile, *numbers, (a, b, post)))
        return sorted(found, key=lambda one: one.cost)

    def sketch(self, candidate):
        """Cycles of the pass with a Candidate, by its outline."""
        tile = candidate.tile
        slots = (int(n) for n in self._slots(tile.a_words, tile.b_words))
        cycles = sketch(lambda: self.outline(tile), candidate, *slots, self.machine, self.fill)
        return max(cycles, candidate.bound) + candidate.beside

    def _slots(self, a_words, b_words):
        return [
            np.minimum(SLOTS_MAX, depth // np.maximum(words, 1))
            for depth, words in ((self.a_depth, a_words), (self.b_depth, b_words))
        ]

    def _fitting(self, every, cut):
        """(Shapes that fit, their [words of A, words of B]), the smallest ones left out."""
        room = np.broadcast_arrays(*self.room(every, cut), every.sets)[:3]
        limits = self.a_depth, self.b_depth, self.config.acc_depth
        fits = np.all([need <= limit for need, limit in zip(room, limits, strict=True)], axis=0)
        if fits.any():
            work = prod(every.sizes) * every.sets
            fits = fits & (work >= min(SMALL, work[fits].max() // 16))
        return every.only(fits), [need[fits] for need in room[:2]]

    def sides(self, tile):
        """(places, sets) of a Tile: lists of (place, (images, rows, columns)), of ranges of
        blocks."""
        cuts = [
            [(at, min(size, total - at)) for at in range(0, total, size)]
            for total, size in zip(self.whole, (tile.images, tile.rows, tile.cols), strict=True)
        ]
        places = [tuple(zip(*place, strict=True)) for place in product(*cuts)]
        starts = range(0, self.blocks, tile.sets)
        return places, [range(at, min(at + tile.sets, self.blocks)) for at in starts]

    # loads

    def map_load(self, port, shapes, window, rows, cols, size, groups, block, undo=False):
        """Load of the windows of all tiles and chunks, once, from a feature map.

        Parameters
        ----------
        port : int
            Read port.
        window : function
            (axis, first, count, first tap, taps) -> (first, count) of the rows or columns loaded.
        rows, cols : lists of (first, count)
            Parts of the taps.
        size : (int, int)
            Rows and columns of the map.
        groups : list of int
            Channel blocks that are loaded together.
        block : int
            Channels of a block.
        undo : bool
            A pooling is undone on the way.
        """
        config, images = self.config, self.whole[0]
        beats, pixel = block // config.beat_elems, block * config.elem_bytes

        def touched(axis, taps):
            how = window, tuple(taps), size[axis], undo
            return shapes.along(axis, lambda part: self._touched(axis, part, *how)).T

        (high, high_in), (wide, wide_in) = touched(0, rows), touched(1, cols)
        blocks = images * sum(groups)
        # rows as wide as the map touch each other
        full = shapes.cols == self.whole[2]
        across = blocks * -(-self.whole[2] // shapes.cols) * len(cols)
        jumps = across * -(-self.whole[1] // shapes.rows) * len(rows)
        runs = np.where(full, jumps, across * high_in)
        dense = size == (1, 1)
        if dense:  # the blocks of an image touch each other
            runs = jumps = images * len(groups)
        stride = np.where(full, size[0], 1) * size[1] * pixel
        stream = Stream(blocks * high_in * wide_in * beats, runs, stride, jumps)
        stream = stream.times(2) if undo else stream  # with the tags
        per = max(1, config.tn // block)
        one = sum((n >= per) + (n % per > 0) for n in groups)
        several = sum(-(-n // per) for n in groups)
        tiles = shapes.places * len(rows) * len(cols)
        return Load(
            blocks * high * wide * beats,
            {(port, False): stream},
            tiles * (one if dense else np.where(shapes.images > 1, several, one)),
            tiles * len(groups),
        )

    def _touched(self, axis, part, window, taps, limit, undo):
        """(all, inside the map) rows (axis 0) or columns that tiles of `part` load."""
        total, step = self.whole[1 + axis], self.w.step(axis) if undo else 1
        places = inside = 0
        for at in range(0, total, part):
            for tap, count in taps:
                first, n = window(axis, at, min(part, total - at), tap, count)
                if undo:
                    first, n = self.w.windows(axis, first, n)
                places += n * step
                inside += max(0, min(first + n, limit) - max(first, 0))
        return places, inside


def _cheapest(costs, sets):
    """Indices of the cheapest elements for each number of sets."""
    order = np.argsort(costs, kind="stable")
    kinds = sets[order]
    return np.concatenate([order[kinds == kind][:ALIKE] for kind in np.unique(kinds)])
