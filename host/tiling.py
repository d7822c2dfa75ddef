"""Choice of tiles: how much of a layer one COMPUTE takes, within buffers and accumulators."""

from dataclasses import dataclass
from functools import cache

from .errors import UnsupportedError

__all__ = ["Window", "Chunk", "Tile", "forward_tiling", "backward_tiling", "gradient_tiling"]

LOOP_OVERHEAD = (
    24  # cycles an instruction costs besides its work: fetch, start, fill of the pipeline
)


@dataclass(frozen=True)
class Window:
    """A sliding window: what a convolution or pooling is, geometrically. Pairs are (rows, columns).

    `size` is the input map, `out` the output map; `packed` is the number of pixels that share a
    word of the tile buffer in forward (thin input), else 0; `pool` is (kernel, stride) of a
    pooling that follows.
    """

    images: int
    n: int
    m: int
    size: tuple
    out: tuple
    kernel: tuple = (1, 1)
    stride: tuple = (1, 1)
    padding: tuple = (0, 0)
    packed: int = 0
    ident: bool = False
    pool: tuple | None = None

    def span(self, axis, count, taps=None):
        """Input rows (axis 0) or columns (1) under `count` output ones."""
        return (count - 1) * self.stride[axis] + (self.kernel[axis] if taps is None else taps)

    def pooled(self, axis, count):
        """Outputs of the window that `count` outputs of the pooling need."""
        if self.pool is None:
            return count
        kernel, stride = self.pool
        return (count - 1) * stride[axis] + kernel[axis]

    def reach(self, axis, count, taps):
        """Most output rows (columns) that `count` neighbouring input ones take part in, through
        any of the chunks of `taps` taps."""
        stride, kernel = self.stride[axis], self.kernel[axis]
        through = max((min(t + taps, kernel) - 1) // stride - t // stride for t in range(0, kernel,
                                                                                         taps))
        return (count + stride - 2) // stride + through + 1


@dataclass(frozen=True)
class Chunk:
    """What is reduced over (forward, dX) or made (dW) in one go: channels and taps."""

    c0: int
    channels: int
    kr0: int
    rows: int
    kc0: int
    cols: int

    def groups(self, tn):
        return -(-self.channels // tn)

    def last(self, tn):
        """Channels in the last group."""
        return self.channels - (self.groups(tn) - 1) * tn


@dataclass(frozen=True)
class Tile:
    """A tiling: size of a tile in images, rows, columns; the chunks; which loop is outside.

    `pixels_outer`: pixel tiles outside, blocks of channels inside. `a_words`, `b_words`: largest
    tile. `sets`: blocks of channels that share one pass over the pixels (dW only).
    """

    images: int
    rows: int
    cols: int
    chunks: tuple
    a_words: int
    b_words: int
    pixels_outer: bool = True
    sets: int = 1


def _parts(total, step):
    return [(start, min(step, total - start)) for start in range(0, total, step)]


def _even(total, step):
    """The smallest step that needs no more parts than `step`."""
    return -(-total // -(-total // step))


def chunks_of(channels, kernel, step, rows, cols):
    """All chunks of at most `step` channels and rows x cols taps."""
    return tuple(Chunk(c0, cn, r0, rn, k0, kn) for c0, cn in _parts(channels, step) for r0,
                 rn in _parts(kernel[0], rows) for k0, kn in _parts(kernel[1], cols))


def _sizes(total):
    """Candidate tile sizes along one loop: every even split."""
    found, parts = [], 1
    while parts <= total:
        size = -(-total // parts)
        found.append(size)
        if size == 1:
            break
        parts = -(-total // (size - 1))
    return found


def _shapes(images, rows, cols, fits):
    """Candidate (images, rows, columns): whole images, then rows of one, then columns of a row."""
    shapes = [(i, rows, cols) for i in _sizes(images)]
    shapes += [(1, r, cols) for r in _sizes(rows)[1:]]
    shapes = [shape for shape in shapes if fits(*shape)]
    if not shapes:
        shapes = [(1, r, c) for c in _sizes(cols)[1:] for r in _sizes(rows) if fits(1, r, c)]
    return shapes


def _splits(channels, kernel, tn, step):
    """Candidate (channels, tap rows, tap columns) of a chunk, large ones first."""
    for size in _sizes(-(-channels // tn)):
        yield size * tn, *kernel
    if step < tn:
        yield step, *kernel
    for rows in range(kernel[0] - 1, 0, -1):
        yield tn, rows, kernel[1]
        if step < tn:
            yield step, rows, kernel[1]
    for cols in range(kernel[1] - 1, 0, -1):
        yield tn, 1, cols
        if step < tn:
            yield step, 1, cols


def _no_fit(what, config):
    return UnsupportedError(
        f"no tile of {what} fits buffers of {config.a_depth} and {config.b_depth} "
        f"words and {config.acc_depth} accumulators"
    )


def _sweep(moving, config):
    return max(moving, config.tm, 16)


@cache
def forward_tiling(w, config):
    """Tile of a forward pass of Window `w`: rows and columns count outputs of the pooling, if
    any."""
    tm, tn, elems = config.tm, config.tn, config.beat_elems
    lanes = tm if w.ident else tn
    out = (w.out if w.pool is None else tuple((o - k) // s + 1 for o, k, s in zip(w.out, *w.pool,
                                                                                  strict=True)))
    blocks = -(-w.m // tm)
    best = None
    for double in (2, 1):
        for step, kr, kc in _splits(w.n, w.kernel, lanes, lanes):
            if w.packed and kc < w.kernel[1] and kc % w.packed:
                continue
            groups = min(step, -(-w.n // lanes) * lanes) // lanes
            taps = kr * kc
            a_words = 0 if w.ident else (w.n if w.packed else groups * lanes) * taps
            if a_words > config.a_depth // double:
                continue

            def words(i, r, c, groups=groups, kr=kr, kc=kc):
                pitch = w.span(1, w.pooled(1, c), kc)
                if w.packed:
                    pitch = -(-pitch // w.packed)
                return groups * i * w.span(0, w.pooled(0, r), kr) * pitch

            def fits(i, r, c, words=words, double=double):
                pixels = i * w.pooled(0, r) * w.pooled(1, c)
                b = words(i, r, c)
                return (pixels <= config.acc_depth and b <= config.b_depth // double
                        and b * max(w.packed, 1) <= 0xFFFF)

            chunks = chunks_of(w.n, w.kernel, step, kr, kc)
            weight_beats = blocks * w.n * w.kernel[0] * w.kernel[1] * tm // elems
            for i, r, c in _shapes(w.images, *out, fits):
                count = (-(-w.images // i)) * (-(-out[0] // r)) * (-(-out[1] // c))
                moving = i * w.pooled(0, r) * w.pooled(1, c)
                sweeps = sum((1 if w.packed
                              else ch.groups(lanes)) * ch.rows * (-(-ch.cols // w.packed)
                                                                  if w.packed else ch.cols)
                             for ch in chunks)
                compute = (count * blocks * (sweeps * _sweep(moving,
                                                             config) + len(chunks) * LOOP_OVERHEAD))
                cb = 4 if w.packed else lanes
                tile_beats = words(i, r, c) * len(chunks) * (w.packed or 1) * cb // elems
                b_slots = config.b_depth // max(words(i, r, c), 1)
                a_slots = config.a_depth // max(a_words, 1)
                per_tile = tn // tm
                a_tiles = -(-blocks // per_tile) * len(chunks)
                for pixels_outer in (True, False):
                    if pixels_outer:
                        loads_b = count * tile_beats * (1 if len(chunks) <= b_slots else blocks)
                        loads_a = weight_beats * (1 if a_tiles <= a_slots else count)
                    else:
                        loads_b = (tile_beats * count * (1 if count * len(chunks) <= b_slots
                                                         else blocks))
                        loads_a = weight_beats * (1 if len(chunks) <= a_slots else count)
                    post = count * blocks * moving * config.groups
                    cost = max(compute, loads_a + loads_b, post)
                    if double == 1:
                        cost = compute + loads_a + loads_b
                    cost += 0.01 * (compute + loads_a + loads_b)
                    if best is None or cost < best[0]:
                        best = cost, Tile(i, r, c, chunks, a_words, words(i, r, c), pixels_outer)
        if best is not None:
            return best[1]
    raise _no_fit(f"a {w.kernel} window on {w.size}", config)


@cache
def backward_tiling(w, config, tags=False):
    """Tile of the dX pass of `w`: rows and columns count input pixels of the window."""
    tm, tn, elems = config.tm, config.tn, config.beat_elems
    lanes = tm if w.ident else tn
    blocks = -(-w.n // tm)
    best = None
    for double in (2, 1):
        for step, kr, kc in _splits(w.m, w.kernel, lanes, lanes):
            groups = min(step, -(-w.m // lanes) * lanes) // lanes
            a_words = 0 if w.ident else groups * min(tm, w.n) * kr * kc
            if a_words > config.a_depth // double:
                continue

            def words(i, r, c, groups=groups, kr=kr, kc=kc):
                return groups * i * w.reach(0, r, kr) * w.reach(1, c, kc)

            def fits(i, r, c, words=words, double=double):
                b = words(i, r, c)
                return (i * r * c <= config.acc_depth and b <= config.b_depth // double
                        and (not tags or b <= config.a_depth // double))

            chunks = chunks_of(w.m, w.kernel, step, kr, kc)
            phases = w.stride[0] * w.stride[1]
            weight_beats = blocks * w.m * w.kernel[0] * w.kernel[1] * tm // elems
            for i, r, c in _shapes(w.images, *w.size, fits):
                count = (-(-w.images // i)) * (-(-w.size[0] // r)) * (-(-w.size[1] // c))
                moving = max(1, i * r * c // phases)
                sweeps = sum(ch.groups(lanes) * ch.rows * ch.cols for ch in chunks)
                compute = (count * blocks * (sweeps * _sweep(moving,
                                                             config)
                                             + phases * len(chunks) * LOOP_OVERHEAD))
                tile_beats = words(i, r, c) * len(chunks) * lanes // elems * (2 if tags else 1)
                b_slots = config.b_depth // max(words(i, r, c), 1)
                a_slots = config.a_depth // max(a_words, 1)
                for pixels_outer in (True, False):
                    if pixels_outer:
                        loads_b = count * tile_beats * (1 if len(chunks) <= b_slots else blocks)
                        loads_a = weight_beats * (1 if blocks * len(chunks) <= a_slots else count)
                    else:
                        loads_b = (tile_beats * count * (1 if count * len(chunks) <= b_slots
                                                         else blocks))
                        loads_a = weight_beats * (1 if len(chunks) <= a_slots else count)
                    cost = max(compute, loads_a + loads_b)
                    if double == 1:
                        cost = compute + loads_a + loads_b
                    cost += 0.01 * (compute + loads_a + loads_b)
                    if best is None or cost < best[0]:
                        best = cost, (i, r, c, chunks, pixels_outer, words(i, r, c), a_words)
        if best is not None:
            i, r, c, chunks, pixels_outer, b_words, a_words = best[1]
            sets = 1
            if c == w.size[1]:
                # one long transfer for several blocks, but still some for the units to overlap
                count = -(-w.images // i) * -(-w.size[0] // r)
                sets = min(config.acc_depth // (i * r * c), -(-count * blocks // 4), blocks)
                if a_words:
                    sets = min(sets, config.a_depth // double // a_words)
                sets = _even(blocks, sets)
            a_words = b_words if tags else a_words * sets
            return Tile(i, r, c, chunks, a_words, b_words, pixels_outer, sets)
    raise _no_fit(f"the gradient of a {w.kernel} window on {w.size}", config)


@cache
def gradient_tiling(w, config):
    """Tile of the dW pass of `w`: rows and columns count output pixels of the window."""
    tm, tn, elems = config.tm, config.tn, config.beat_elems
    blocks = -(-w.m // tm)
    cb = 4 if w.packed else tm
    best = None
    for double in (2, 1):
        for step, kr, kc in _splits(w.n, w.kernel, tn, min(cb, tn)):
            channels = min(step, w.n)
            entries = channels * kr * kc + 1
            if entries > config.acc_depth:
                continue
            groups = -(-channels // tn)

            def words(i, r, c, groups=groups, kr=kr, kc=kc):
                return groups * i * w.span(0, r, kr) * w.span(1, c, kc)

            def fits(i, r, c, words=words, double=double):
                pixels = i * r * c
                return (pixels <= config.a_depth // double and words(i, r,
                                                                     c) <= config.b_depth // double)

            chunks = chunks_of(w.n, w.kernel, step, kr, kc)
            sets = min(blocks, config.acc_depth // entries)
            sets = _even(blocks, sets)
            for i, r, c in _shapes(w.images, *w.out, fits):
                count = (-(-w.images // i)) * (-(-w.out[0] // r)) * (-(-w.out[1] // c))
                np = i * r * c
                groups_a = -(-min(sets, blocks) // (tn // tm))
                if groups_a * np > config.a_depth // double:
                    # the words of several tiles of A: one slot each
                    if groups_a > config.a_depth // np:
                        continue
                per_chunk = max(channels * kr * kc + 1, tn, 16)
                compute = (count * blocks * len(chunks) * (-(-np // tn) * per_chunk
                                                           + LOOP_OVERHEAD))
                passes = len(chunks) * -(-blocks // sets)
                width = cb if groups == 1 and channels <= cb else tn
                loads_b = passes * count * words(i, r, c) * width // elems
                loads_a = len(chunks) * count * np * blocks * tm // elems
                cost = max(compute, loads_a + loads_b)
                if double == 1:
                    cost = compute + loads_a + loads_b
                cost += 0.01 * (compute + loads_a + loads_b)
                if best is None or cost < best[0]:
                    best = cost, Tile(i, r, c, chunks, np, words(i, r, c), sets=sets)
        if best is not None:
            return best[1]
    raise _no_fit(f"the weight gradient of a {w.kernel} window on {w.size}", config)
