"""Every tile that a pass of a convolution could use, and how many cycles it takes at least.

The space is that of `gradgate.tiling.Tile` without the scheduler's choice of sizes: any number of
images, rows and columns (the last tile is what remains), chunks of any number of lane groups and
any rectangle of taps (likewise), any number of blocks per region of accumulators, both orders of
the loops, one slot per buffer or more.
"""

from functools import cache
from itertools import product
from math import prod
from types import SimpleNamespace

from gradgate.buffers import Lowering
from gradgate.durations import Machine
from gradgate.sketch import TIMES
from gradgate.tiling import SLOTS_MAX, Tile, chunks_of
from gradgate.timeline import predict
from gradgate.trial import emit

__all__ = ["Space"]


_PASSES = "forward", "backward", "gradient"


class Space:
    """All mappings of one pass on one device.

    Parameters
    ----------
    kind : str
        "forward", "backward" (dX) or "gradient" (dW).
    w : Window
        With weights.
    config : Config
        With Tm = Tn, for which the bounds are made.
    timing : MemoryTiming

    Raises ValueError for another Window or Config.
    """

    def __init__(self, kind, w, config, timing):
        if config.tm != config.tn or w.ident:
            raise ValueError("the space is that of a convolution on an array with Tm = Tn")
        self.kind, self.w, self.config, self.machine = kind, w, config, Machine(config, timing)
        rows, self.lanes = (w.n, w.m) if kind == "backward" else (w.m, w.n)
        size = {"forward": w.drained, "backward": w.size, "gradient": w.out}[kind]
        self.total = w.images, *size
        self.blocks = -(-rows // config.tm)
        self.latency = timing.latency
        # of a LOAD; padding at its beginning hides memory's latency
        self.load_latency = timing.latency if w.kernel == (1, 1) and w.padding == (0, 0) else 0
        thin = w.packed and kind != "backward"
        self.packed = w.packed if w.packed and kind == "forward" else 1
        self.pixel_beats = (4 if thin else config.tm) // config.beat_elems  # of one lane group
        self._touched = cache(self._touched)

    def least(self):
        """Cycles of an array that is never idle and multiplies with all lanes and rows that it can
        use: no mapping takes fewer."""
        w, t = self.w, self.config.tn
        if self.kind == "gradient":
            return -(-w.images * prod(w.out) // t) * self.blocks * w.n * prod(w.kernel)
        if self.kind == "forward":
            vectors = w.pooled(0, self.total[1]) * w.pooled(1, self.total[2])
            vectors *= w.kernel[0] * -(-w.kernel[1] // self.packed)
        else:
            vectors = self._met(0, 0, w.kernel[0]) * self._met(1, 0, w.kernel[1])
        return w.images * vectors * -(-self.lanes // t) * self.blocks

    def tiles(self):
        """Yield every Tile that fits."""
        w, config, t = self.w, self.config, self.config.tn
        b_depth = min(config.b_depth, 0xFFFF // self.packed)
        shapes = list(product(*(range(1, n + 1) for n in self.total)))
        if self.kind == "backward":  # a POST writes columns of one image, or rows of several
            shapes = [(i, r, c) for i, r, c in shapes if i == 1 or c == self.total[2]]
        steps = range(t, -(-self.lanes // t) * t + 1, t)
        for step, kr, kc in product(steps, *(range(1, k + 1) for k in w.kernel)):
            if kc < w.kernel[1] and kc % self.packed:
                continue
            chunks = chunks_of(self.lanes, w.kernel, step, kr, kc)
            for shape in shapes:
                b = self._words(shape, chunks[0])
                if b > b_depth:
                    continue
                for some in range(1, self.blocks + 1):
                    a, sums = self._stationary(shape, chunks[0], some)
                    if a > config.a_depth or sums > config.acc_depth:
                        break  # more blocks need more
                    yield Tile(*shape, chunks, a, b, True, some)
                    if self.kind != "gradient" and some < self.blocks and shape != self.total:
                        yield Tile(*shape, chunks, a, b, False, some)

    def _words(self, shape, chunk):
        """Words of a tile in buffer B, at most."""
        w, (i, r, c) = self.w, shape
        words = i * chunk.groups(self.config.tn)
        if self.kind == "backward":
            return words * w.reach(0, r, chunk.rows) * w.reach(1, c, chunk.cols)
        if self.kind == "forward":
            r, c = w.pooled(0, r), w.pooled(1, c)
        return words * w.span(0, r, chunk.rows) * -(-w.span(1, c, chunk.cols) // self.packed)

    def _stationary(self, shape, chunk, some):
        """Words of a tile in buffer A and accumulators of a region, for `some` blocks."""
        w, t = self.w, self.config.tn
        taps, groups = chunk.rows * chunk.cols, chunk.groups(t)
        if self.kind == "gradient":
            return prod(shape), some * (chunk.channels * taps + 1)
        if self.kind == "backward":
            return groups * min(some * t, w.n) * taps, some * prod(shape)
        pixels = shape[0] * w.pooled(0, shape[1]) * w.pooled(1, shape[2])
        return (w.n if w.packed else groups * t) * taps, some * pixels

    def cycles(self, tile):
        """Predicted cycles of the pass with a Tile, one of TIMES in a row: what the scheduler tries
        on a part of the map is done here with all of it."""
        lw = Lowering(SimpleNamespace(config=self.config, timing=self.machine.timing,
                                      **dict.fromkeys(_PASSES, lambda *_: tile)))
        for _ in range(TIMES):
            emit(self.kind, lw, self.w, self.config)
        return predict(lw.finished(), self.config, self.machine.timing).cycles / TIMES

    # bounds

    def bound(self, tile):
        """What `cycles` of a Tile cannot be below.

        The array, the load unit of buffer B and the vector unit work at least as long as their
        instructions take. Before and after, once in TIMES passes, there is what the first one waits
        for and what follows the last. In a slot of buffer B loads and array take turns, in a region
        of accumulators array and drain.
        """
        groups, latency, capacity = self.config.groups, self.latency, self.machine.timing.capacity
        parts = tile.images, tile.rows, tile.cols
        places = prod(-(-n // size) for n, size in zip(self.total, parts, strict=True))
        sets = -(-self.blocks // tile.sets)

        slots = min(SLOTS_MAX, self.config.b_depth // tile.b_words)
        kept = len(tile.chunks) if tile.pixels_outer else places * len(tile.chunks)
        if self.kind == "gradient":
            kept = places * len(tile.chunks)
        # the slot used longest ago is filled next, so of more tiles in turn none is still there
        times = 1 if kept <= slots else sets
        loads = places * len(tile.chunks) * times
        if self.kind == "backward" and self.w.stride != (1, 1):
            loads = 0
        compute = words = beats = 0
        for chunk in tile.chunks:
            compute += self._compute(parts, chunk)
            touched, inside = self._load(parts, chunk)
            words, beats = words + touched * times, beats + inside * times

        if self.kind == "gradient":
            regions, pixels = sets * len(tile.chunks), self.w.n * prod(self.w.kernel)
            last = prod((tile.chunks[-1].channels, tile.chunks[-1].rows, tile.chunks[-1].cols))
        else:
            regions, pixels = sets * places, prod(self.total)
            last = prod(n % size or size for n, size in zip(self.total, parts, strict=True))
        posts = regions if self.kind == "backward" else regions // sets * self.blocks
        # every POST reads something of memory first: biases, a mask, masters
        post = pixels * self.blocks * groups + posts * latency
        head = self.load_latency + self._first(parts, tile.chunks[0])
        tail = last * (self.blocks - (sets - 1) * tile.sets) * groups + latency
        return max(
            compute + (head + tail - self.config.tn) / TIMES,
            max(words + loads, beats / capacity) + tail / TIMES,
            post + head / TIMES,
            (words + loads * self.load_latency + compute) / slots,
            (compute + post + regions * latency) / 2,
        )

    def _compute(self, parts, chunk):
        """Cycles of the array for a chunk. A sweep takes at least as long as it takes to read the
        next stationary tile."""
        w, t = self.w, self.config.tn
        least = max(t, self.machine.loop)
        # the next instruction's first stationary tile is read during the last sweep
        fill = t if self.kind != "forward" else 2 * t - 1
        groups = chunk.groups(t)
        if self.kind == "backward" and w.stride != (1, 1):
            met = self._met(0, chunk.kr0, chunk.rows) * self._met(1, chunk.kc0, chunk.cols)
            return w.images * met * groups * self.blocks
        cycles = 0
        for (i, n_i), (r, n_r), (c, n_c) in product(*map(_shares, self.total, parts)):
            if self.kind == "gradient":
                vectors, sweeps = chunk.channels * chunk.rows * chunk.cols, -(-i * r * c // t)
            else:
                if self.kind == "forward":
                    r, c = w.pooled(0, r), w.pooled(1, c)
                vectors, sweeps = i * r * c, groups * chunk.rows * -(-chunk.cols // self.packed)
            cycles += n_i * n_r * n_c * (
                (sweeps - 1) * max(vectors, least) + max(vectors, fill))
        return cycles * self.blocks

    def _met(self, axis, first, count):
        """Pairs of an input row (axis 0) or column and one of `count` taps that it meets in dX."""
        w = self.w
        return sum((at + w.padding[axis] - tap) % w.stride[axis] == 0
                   for at in range(w.size[axis]) for tap in range(first, first + count))

    def _load(self, parts, chunk):
        """Cycles and beats of loading buffer B with all windows of a chunk once. Where LOAD undoes
        a pooling, its beats are fewer: counted as none."""
        rows, rows_in = self._touched(1, parts[1], chunk.kr0, chunk.rows)
        cols, cols_in = self._touched(2, parts[2], chunk.kc0, chunk.cols)
        lanes = self._lanes(chunk)
        if self.kind == "backward" and self.w.stride != (1, 1):
            return 0, 0  # chunks without taps for a phase are not loaded
        if self.kind == "backward" and self.w.pool is not None:
            rows_in = 0
        return self.w.images * rows * cols * lanes, self.w.images * rows_in * cols_in * lanes

    def _first(self, parts, chunk):
        """Cycles of the first LOAD of buffer B, at least."""
        if self.kind == "backward" and self.w.stride != (1, 1):
            return 0
        sides = (self._side(0, 0, min(parts[1], self.total[1]), chunk.kr0, chunk.rows),
                 self._side(1, 0, min(parts[2], self.total[2]), chunk.kc0, chunk.cols))
        return parts[0] * prod(count for _, count in sides) * self._lanes(chunk)

    def _lanes(self, chunk):
        """Beats of a pixel's channels in a chunk."""
        channels = 4 if self.packed > 1 or self.pixel_beats == 1 else self.config.tm
        return -(-chunk.channels // channels) * self.pixel_beats

    def _touched(self, axis, size, first, taps):
        """Rows (axis 1) or columns (2) of all windows of tiles of `size`: (all, inside the map)."""
        limit = (self.w.out if self.kind == "backward" else self.w.size)[axis - 1]
        total = self.total[axis]
        touched = inside = 0
        for at in range(0, total, size):
            low, count = self._side(axis - 1, at, min(size, total - at), first, taps)
            touched += count
            inside += max(0, min(low + count, limit) - max(low, 0))
        return touched, inside

    def _side(self, axis, at, size, first, taps):
        """(first, count) of the rows or columns that `size` ones of a tile from `at` on need."""
        w = self.w
        stride, padding = w.stride[axis], w.padding[axis]
        if self.kind == "backward":
            at += padding
            low = at // stride - (first + taps - 1) // stride
            return low, (at + size - 1) // stride - first // stride - low + 1
        if self.kind == "forward":
            at, size = at * w.step(axis), w.pooled(axis, size)
        return at * stride - padding + first, w.span(axis, size, taps)


def _shares(total, size):
    """The tiles along one loop as (size, how many)."""
    full, rest = divmod(total, size)
    return [(size, full)] * (full > 0) + [(rest, 1)] * (rest > 0)
