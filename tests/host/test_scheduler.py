"""Every tile fits the buffers and accumulators, and is among the fastest."""

import pytest
from gradgate.boards import MemoryTiming
from gradgate.errors import UnsupportedError
from gradgate.hw.config import Config
from gradgate.scheduler import scheduler
from gradgate.tiling import Window
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.host.nets import CONFIGS
from tests.host.test_tiling import covers


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


@settings(max_examples=60, deadline=None)
@given(windows(), st.sampled_from(CONFIGS))
def test_tiles_fit(w, config):
    assume(w.pool is None or w.pool[0][0] * w.pool[0][1] <= config.acc_depth)
    tile = scheduler(config, MemoryTiming()).forward(w)
    pixels = tile.images * w.pooled(0, tile.rows) * w.pooled(1, tile.cols)
    assert pixels * tile.sets <= config.acc_depth
    assert 0 < tile.a_words <= config.a_depth and 0 < tile.b_words <= config.b_depth
    assert all(c.groups(config.tn) * config.tn * c.rows * c.cols <= config.a_depth
               for c in tile.chunks)
    assert covers(tile.chunks, w.n, w.kernel)

    tile = scheduler(config, MemoryTiming()).backward(w)
    assert tile.images * tile.rows * tile.cols * tile.sets <= config.acc_depth
    assert tile.a_words <= config.a_depth and tile.b_words <= config.b_depth
    assert covers(tile.chunks, w.m, w.kernel)

    tile = scheduler(config, MemoryTiming()).gradient(w)
    entries = max(c.channels * c.rows * c.cols for c in tile.chunks) + 1
    assert tile.sets * entries <= config.acc_depth
    assert tile.images * tile.rows * tile.cols <= config.a_depth
    assert tile.b_words <= config.b_depth
    assert covers(tile.chunks, w.n, w.kernel)


def test_a_small_layer_is_one_tile():
    w = Window(2, 16, 8, (6, 6), (6, 6), (3, 3), (1, 1), (1, 1))
    tile = scheduler(Config(), MemoryTiming()).forward(w)
    assert (tile.images, tile.rows, tile.cols, len(tile.chunks)) == (2, 6, 6, 1)


def test_what_cannot_fit_is_refused():
    config = Config(tm=2, tn=4, beat_bits=32, a_depth=16, b_depth=16, acc_depth=16)
    w = Window(1, 4, 4, (11, 11), (11, 11), pool=((5, 5), (5, 5)))
    with pytest.raises(UnsupportedError, match="16 and 16 words and 16 accumulators"):
        scheduler(config, MemoryTiming()).forward(w)
