"""Geometry of tiles: windows, chunks, and the sizes that a scheduler chooses from."""

from dataclasses import dataclass

__all__ = ["Window", "Chunk", "Tile", "chunks_of", "sizes", "splits"]

SLOTS_MAX = 32  # tiles that a buffer is cut into at most
FEW = 8  # lane groups of which any number may be a chunk, not only even splits


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

    @property
    def drained(self):
        """Rows, columns that leave the accumulators: the output map, or that of the pooling."""
        if self.pool is None:
            return self.out
        return tuple((o - k) // s + 1 for o, k, s in zip(self.out, *self.pool, strict=True))

    def span(self, axis, count, taps=None):
        """Input rows (axis 0) or columns (1) under `count` output ones."""
        return (count - 1) * self.stride[axis] + (self.kernel[axis] if taps is None else taps)

    def pooled(self, axis, count):
        """Outputs of the window that `count` outputs of the pooling need."""
        if self.pool is None:
            return count
        kernel, stride = self.pool
        return (count - 1) * stride[axis] + kernel[axis]

    def step(self, axis):
        """Stride of the pooling that follows, 1 without."""
        return 1 if self.pool is None else self.pool[1][axis]

    def unpooled(self, axis, count, aligned=False):
        """Rows (columns) that a LOAD works off while it undoes the pooling for `count` neighbouring
        ones: those of all windows touched, at most. `aligned`: the first is the first of a
        window."""
        stride = self.step(axis)
        return -(-(count + (0 if aligned else stride - 1)) // stride) * stride

    def reach(self, axis, count, taps):
        """Most output rows (columns) that `count` neighbouring input ones take part in, through
        any of the chunks of `taps` taps."""
        stride, kernel = self.stride[axis], self.kernel[axis]
        through = max(
            (min(t + taps, kernel) - 1) // stride - t // stride for t in range(0, kernel, taps)
        )
        return (count + stride - 2) // stride + through + 1

    def under(self, axis, at, count, tap, taps):
        """(first, count) of the input rows (columns) under outputs at.. through taps tap.., padding
        included."""
        first = at * self.stride[axis] - self.padding[axis] + tap
        return first, self.span(axis, count, taps)

    def met(self, axis, at, count, tap, taps):
        """(first, count) of the output rows (columns) that meet input ones at.. through any of taps
        tap.., in the map or not."""
        stride, at = self.stride[axis], at + self.padding[axis]
        first = at // stride - (tap + taps - 1) // stride
        return first, (at + count - 1) // stride - tap // stride - first + 1

    def windows(self, axis, first, count):
        """(first, count) of the outputs of the pooling whose windows hold rows (columns) first..;
        of what is between windows, the ones before."""
        step = self.step(axis)
        return first // step, (first + count - 1) // step - first // step + 1


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

    `pixels_outer`: pixel tiles outside, sets of blocks inside. `a_words`, `b_words`: largest tile.
    `sets`: blocks of channels in one region of accumulators; all of them see a chunk before the
    next one comes.
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


def chunks_of(channels, kernel, step, rows, cols):
    """All chunks of at most `step` channels and rows x cols taps."""
    return tuple(
        Chunk(c0, cn, r0, rn, k0, kn)
        for c0, cn in _parts(channels, step)
        for r0, rn in _parts(kernel[0], rows)
        for k0, kn in _parts(kernel[1], cols)
    )


def sizes(total, every=1):
    """Candidate sizes of the parts along one loop, large ones first: all if there are no more than
    `every`, else those of even splits."""
    if total <= every:
        return list(range(total, 0, -1))
    found, parts = [], 1
    while parts <= total:
        size = -(-total // parts)
        found.append(size)
        if size == 1:
            break
        parts = -(-total // (size - 1))
    return found


def splits(channels, kernel, lanes, least):
    """Candidate (channels, tap rows, tap columns) of a chunk: lane groups with all taps, or parts
    of the taps for one group. `least` is the fewest channels, if less than `lanes`."""
    for groups in sizes(-(-channels // lanes), FEW):
        yield groups * lanes, *kernel
    steps = (lanes,) if least >= lanes else (lanes, least)
    for step in steps:
        if step < lanes:
            yield step, *kernel
        for rows in range(kernel[0] - 1, 0, -1):
            yield step, rows, kernel[1]
        for cols in range(kernel[1] - 1, 0, -1):
            yield step, 1, cols
