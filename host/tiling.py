"""Choice of tiles: how much of a layer one COMPUTE takes, within buffers and accumulators."""

from dataclasses import dataclass
from functools import cache
from math import prod

from .errors import UnsupportedError

__all__ = ["Window", "Chunk", "Tile", "forward_tiling", "backward_tiling", "gradient_tiling"]

SLOTS_MAX = 32  # tiles that a buffer is cut into at most
ACCUMULATE_DEPTH = 16  # cycles until an accumulator can be visited again
LOOP_OVERHEAD = 24  # cycles an instruction costs besides its work


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

    def unpooled(self, axis, count, aligned=False):
        """Rows (columns) that a LOAD works off while it undoes the pooling for `count` neighbouring
        ones: those of all windows touched, at most. `aligned`: the first is the first of a
        window."""
        if self.pool is None:
            return count
        stride = self.pool[1][axis]
        return -(-(count + (0 if aligned else stride - 1)) // stride) * stride

    def reach(self, axis, count, taps):
        """Most output rows (columns) that `count` neighbouring input ones take part in, through
        any of the chunks of `taps` taps."""
        stride, kernel = self.stride[axis], self.kernel[axis]
        through = max(
            (min(t + taps, kernel) - 1) // stride - t // stride for t in range(0, kernel, taps)
        )
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
    tile. `sets`: blocks of channels that fill one region of accumulators (dX, dW).
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
    return tuple(
        Chunk(c0, cn, r0, rn, k0, kn)
        for c0, cn in _parts(channels, step)
        for r0, rn in _parts(kernel[0], rows)
        for k0, kn in _parts(kernel[1], cols)
    )


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


def _choose(candidates, what, config):
    """The cheapest of candidates(parts), (cost, Tile) each: with buffers in two parts, so that
    units overlap, or undivided if nothing else fits. Raises UnsupportedError."""
    for parts in (2, 1):
        found = min(candidates(parts), key=lambda candidate: candidate[0], default=None)
        if found is not None:
            return found[1]
    raise UnsupportedError(
        f"no tile of {what} fits buffers of {config.a_depth} and {config.b_depth} words and "
        f"{config.acc_depth} accumulators"
    )


def _cost(parts, compute, loads, post):
    """Cycles of a pass; the units overlap if buffers have two parts. Ties go to less work."""
    longest = max(compute, loads, post) if parts == 2 else compute + loads + post
    return longest + 0.01 * (compute + loads)


def _orders(config, count, blocks, chunks, b, a):
    """Both orders of the loops as (pixels outside, beats loaded).

    `count` pixel tiles meet `blocks` blocks of channels, in `chunks` chunks; `b` is (words of a
    tile in buffer B, beats of all its chunks), `a` (words of a tile in A, tiles, beats of all).
    """
    b_slots = min(SLOTS_MAX, config.b_depth // max(b[0], 1))
    a_slots = min(SLOTS_MAX, config.a_depth // max(a[0], 1))
    yield (
        True,
        (
            count * b[1] * (1 if chunks <= b_slots else blocks)
            + a[2] * (1 if a[1] <= a_slots else count)
        ),
    )
    yield (
        False,
        (
            count * b[1] * (1 if count * chunks <= b_slots else blocks)
            + a[2] * (1 if chunks <= a_slots else count)
        ),
    )


def _tiles(shape, whole):
    """Tiles of `shape` in `whole`, both (images, rows, columns)."""
    return prod(-(-total // size) for total, size in zip(whole, shape, strict=True))


def _sweep(moving, config):
    return max(moving, config.tm, ACCUMULATE_DEPTH)


@cache
def forward_tiling(w, config):
    """Tile of a forward pass of Window `w`: rows and columns count outputs of the pooling, if any.

    Raises UnsupportedError if no tile fits.
    """
    tm, tn = config.tm, config.tn
    lanes, packed = tm if w.ident else tn, max(w.packed, 1)
    out = (
        w.out
        if w.pool is None
        else tuple((o - k) // s + 1 for o, k, s in zip(w.out, *w.pool, strict=True))
    )
    blocks = -(-w.m // tm)
    weight_beats = 0 if w.ident else blocks * w.n * prod(w.kernel) * tm // config.beat_elems
    drain = max(config.groups, prod(w.pool[0]) if w.pool else 1)

    def candidates(parts):
        for step, kr, kc in _splits(w.n, w.kernel, lanes, lanes):
            if kc < w.kernel[1] and kc % packed:
                continue
            groups = -(-min(step, w.n) // lanes)
            a_words = 0 if w.ident else (w.n if w.packed else groups * lanes) * kr * kc
            if a_words > config.a_depth // parts:
                continue
            chunks = chunks_of(w.n, w.kernel, step, kr, kc)
            sweeps = sum(c.groups(lanes) * c.rows * -(-c.cols // packed) for c in chunks)

            def words(i, r, c, groups=groups, kr=kr, kc=kc):
                pitch = -(-w.span(1, w.pooled(1, c), kc) // packed)
                return groups * i * w.span(0, w.pooled(0, r), kr) * pitch

            def fits(i, r, c, words=words):
                return i * w.pooled(0, r) * w.pooled(1, c) <= config.acc_depth and words(
                    i, r, c
                ) <= min(config.b_depth // parts, 0xFFFF // packed)

            for i, r, c in _shapes(w.images, *out, fits):
                count = _tiles((i, r, c), (w.images, *out))
                moving = i * w.pooled(0, r) * w.pooled(1, c)
                compute = (
                    count * blocks * (sweeps * _sweep(moving, config) + len(chunks) * LOOP_OVERHEAD)
                )
                b_words = words(i, r, c)
                b_beats = b_words * len(chunks) * (tn if w.packed else lanes) // config.beat_elems
                a_tiles = -(-blocks // (tn // tm)) * len(chunks)
                for outer, loads in _orders(
                    config,
                    count,
                    blocks,
                    len(chunks),
                    (b_words, b_beats),
                    (a_words, a_tiles, weight_beats),
                ):
                    post = count * blocks * i * r * c * drain
                    yield (
                        _cost(parts, compute, loads, post),
                        Tile(i, r, c, chunks, a_words, b_words, outer),
                    )

    return _choose(candidates, f"a {w.kernel} window on {w.size}", config)


@cache
def backward_tiling(w, config, tags=False):
    """Tile of the dX pass of Window `w`: rows and columns count input pixels of the window; with
    `tags`, these take the place of weights in buffer A.

    Raises UnsupportedError if no tile fits.
    """
    tm, lanes = config.tm, config.tm if w.ident else config.tn
    blocks, phases = -(-w.n // tm), prod(w.stride)
    weight_beats = 0 if w.ident else blocks * w.m * prod(w.kernel) * tm // config.beat_elems

    def sets(i, r, c, parts, a_words):
        if c < w.size[1]:
            return 1
        # one long transfer for several blocks, but still some for the units to overlap
        some = min(
            config.acc_depth // (i * r * c),
            blocks,
            -(-_tiles((i, r, c), (w.images, *w.size)) * blocks // 4),
        )
        return _even(blocks, min(some, config.a_depth // parts // a_words) if a_words else some)

    def candidates(parts):
        for step, kr, kc in _splits(w.m, w.kernel, lanes, lanes):
            groups = -(-min(step, w.m) // lanes)
            a_words = 0 if w.ident else groups * min(tm, w.n) * kr * kc
            if a_words > config.a_depth // parts:
                continue
            chunks = chunks_of(w.m, w.kernel, step, kr, kc)
            sweeps = sum(c.groups(lanes) * c.rows * c.cols for c in chunks)

            def words(i, r, c, groups=groups, kr=kr, kc=kc):
                return groups * i * w.reach(0, r, kr) * w.reach(1, c, kc)

            def fits(i, r, c, words=words):
                depth = min(config.a_depth, config.b_depth) if tags else config.b_depth
                return i * r * c <= config.acc_depth and words(i, r, c) <= depth // parts

            for i, r, c in _shapes(w.images, *w.size, fits):
                count = _tiles((i, r, c), (w.images, *w.size))
                compute = (
                    count
                    * blocks
                    * (
                        sweeps * _sweep(i * r * c // phases, config)
                        + phases * len(chunks) * LOOP_OVERHEAD
                    )
                )
                b_words = words(i, r, c)
                positions = groups * i
                for axis, taps, size in ((0, kr, r), (1, kc, c)):
                    positions *= w.unpooled(axis, w.reach(axis, size, taps))
                b_beats = positions * len(chunks) * lanes // config.beat_elems * (1 + tags)
                for outer, loads in _orders(
                    config,
                    count,
                    blocks,
                    len(chunks),
                    (b_words, b_beats),
                    (a_words, blocks * len(chunks), weight_beats),
                ):
                    post = count * blocks * i * r * c * config.groups
                    some = sets(i, r, c, parts, a_words)
                    in_a = b_words if tags else a_words * some
                    yield (
                        _cost(parts, compute, loads, post),
                        Tile(i, r, c, chunks, in_a, b_words, outer, some),
                    )

    return _choose(candidates, f"the gradient of a {w.kernel} window on {w.size}", config)


@cache
def gradient_tiling(w, config):
    """Tile of the dW pass of Window `w`: rows and columns count output pixels of the window.

    Raises UnsupportedError if no tile fits.
    """
    tm, tn = config.tm, config.tn
    blocks = -(-w.m // tm)
    cb = 4 if w.packed else tm

    def candidates(parts):
        for step, kr, kc in _splits(w.n, w.kernel, tn, cb):
            entries = min(step, w.n) * kr * kc + 1
            if entries > config.acc_depth:
                continue
            chunks = chunks_of(w.n, w.kernel, step, kr, kc)
            groups = -(-min(step, w.n) // tn)
            sets = _even(blocks, min(blocks, config.acc_depth // entries))
            a_tiles = -(-sets // (tn // tm))

            def words(i, r, c, groups=groups, kr=kr, kc=kc):
                return groups * i * w.span(0, r, kr) * w.span(1, c, kc)

            def fits(i, r, c, words=words, a_tiles=a_tiles):
                return (
                    i * r * c <= config.a_depth // max(parts, a_tiles)
                    and words(i, r, c) <= config.b_depth // parts
                )

            for i, r, c in _shapes(w.images, *w.out, fits):
                count, pixels = _tiles((i, r, c), (w.images, *w.out)), i * r * c
                compute = (
                    count
                    * blocks
                    * len(chunks)
                    * (-(-pixels // tn) * max(entries, tn, ACCUMULATE_DEPTH) + LOOP_OVERHEAD)
                )
                width = cb if step <= cb else tn
                positions = i
                for axis, size in ((0, r), (1, c)):
                    aligned = w.pool is None or size % w.pool[1][axis] == 0 or size == w.out[axis]
                    positions *= w.unpooled(axis, size, aligned)
                loads = (
                    len(chunks)
                    * count
                    * (-(-blocks // sets) * words(i, r, c) * width + positions * blocks * tm)
                    // config.beat_elems
                )
                yield (
                    _cost(parts, compute, loads, 0),
                    Tile(i, r, c, chunks, pixels, words(i, r, c), sets=sets),
                )

    return _choose(candidates, f"the weight gradient of a {w.kernel} window on {w.size}", config)
