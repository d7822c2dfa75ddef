"""Every tile fits the buffers and accumulators; chunks cover the work exactly once."""

import pytest
from gradgate.errors import UnsupportedError
from gradgate.hw.config import Config
from gradgate.tiling import Window, backward_tiling, chunks_of, forward_tiling, gradient_tiling
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.host.nets import CONFIGS


@st.composite
def windows(draw):
    kernel = tuple(draw(st.integers(1, 11)) for _ in range(2))
    stride = tuple(draw(st.integers(1, 5)) for _ in range(2))
    size = tuple(draw(st.integers(max(1, k - 2), k + 40)) for k in kernel)
    padding = tuple(draw(st.integers(max(0, -(-(k - s) // 2)), 5))
                    for k, s in zip(kernel, size, strict=True))
    out = tuple((s + 2 * p - k) // d + 1
                for s, p, k, d in zip(size, padding, kernel, stride, strict=True))
    pool = None
    if draw(st.booleans()):
        pool = tuple(draw(st.integers(1, min(3, o))) for o in out)
        pool = pool, tuple(p + draw(st.integers(0, 1)) for p in pool)
    return Window(draw(st.integers(1, 40)), draw(st.integers(1, 150)), draw(st.integers(1, 150)),
                  size, out, kernel, stride, padding, pool=pool)


def covers(chunks, channels, kernel):
    seen = set()
    for c in chunks:
        for key in ((ch, kr, kc) for ch in range(c.c0, c.c0 + c.channels)
                    for kr in range(c.kr0, c.kr0 + c.rows) for kc in range(c.kc0, c.kc0 + c.cols)):
            assert key not in seen
            seen.add(key)
    return len(seen) == channels * kernel[0] * kernel[1]


@settings(max_examples=60, deadline=None)
@given(windows(), st.sampled_from(CONFIGS))
def test_tiles_fit(w, config):
    assume(w.pool is None or w.pool[0][0] * w.pool[0][1] <= config.acc_depth)
    tile = forward_tiling(w, config)
    pixels = tile.images * w.pooled(0, tile.rows) * w.pooled(1, tile.cols)
    assert pixels <= config.acc_depth
    assert 0 < tile.a_words <= config.a_depth and 0 < tile.b_words <= config.b_depth
    assert all(c.groups(config.tn) * config.tn * c.rows * c.cols <= config.a_depth
               for c in tile.chunks)
    assert covers(tile.chunks, w.n, w.kernel)

    tile = backward_tiling(w, config)
    assert tile.images * tile.rows * tile.cols <= config.acc_depth
    assert tile.a_words <= config.a_depth and tile.b_words <= config.b_depth
    assert covers(tile.chunks, w.m, w.kernel)

    tile = gradient_tiling(w, config)
    entries = max(c.channels * c.rows * c.cols for c in tile.chunks) + 1
    assert tile.sets * entries <= config.acc_depth
    assert tile.images * tile.rows * tile.cols <= config.a_depth
    assert tile.b_words <= config.b_depth
    assert covers(tile.chunks, w.n, w.kernel)


@given(st.integers(1, 6), st.integers(0, 3), st.integers(1, 30), st.integers(-5, 40))
def test_rows_worked_off_while_a_pooling_is_undone(kernel, more, count, first):
    stride = kernel + more
    w = Window(1, 1, 1, (50, 50), (50, 50), pool=((kernel, kernel), (stride, 1)))
    windows = {row // stride for row in range(first, first + count)}
    assert w.unpooled(0, count) >= len(windows) * stride
    windows = {row // stride for row in range(count)}
    assert w.unpooled(0, count, aligned=True) == len(windows) * stride
    assert max(len({row // stride for row in range(at, at + count)}) for at in range(stride)
               ) * stride == w.unpooled(0, count)
    assert Window(1, 1, 1, (50, 50), (50, 50)).unpooled(0, count) == count


def test_a_small_layer_is_one_tile():
    w = Window(2, 16, 8, (6, 6), (6, 6), (3, 3), (1, 1), (1, 1))
    tile = forward_tiling(w, Config())
    assert (tile.images, tile.rows, tile.cols, len(tile.chunks)) == (2, 6, 6, 1)


def test_what_cannot_fit_is_refused():
    config = Config(tm=2, tn=4, beat_bits=32, a_depth=16, b_depth=16, acc_depth=16)
    w = Window(1, 4, 4, (11, 11), (11, 11), pool=((5, 5), (5, 5)))
    with pytest.raises(UnsupportedError, match="16 and 16 words and 16 accumulators"):
        forward_tiling(w, config)


def test_chunks():
    assert covers(chunks_of(37, (5, 3), 16, 2, 3), 37, (5, 3))
    assert [c.last(16) for c in chunks_of(37, (1, 1), 32, 1, 1)] == [16, 5]
