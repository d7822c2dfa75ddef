"""Every tile fits the buffers and accumulators, and is among the fastest."""

from types import SimpleNamespace

import pytest
from gradgate.boards import MemoryTiming, board
from gradgate.buffers import Lowering
from gradgate.errors import UnsupportedError
from gradgate.hw.config import Config
from gradgate.scheduler import scheduler
from gradgate.sketch import TIMES
from gradgate.tiling import Tile, Window, chunks_of
from gradgate.timeline import predict
from gradgate.trial import emit
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


@settings(max_examples=25, deadline=None)
@given(windows(), st.sampled_from(CONFIGS))
def test_tiles_fit(w, config):
    if w.pool:  # a window at least has to fit
        rows, columns = ((p - 1) * d + 1 for p, d in zip(w.pool[0], w.stride, strict=True))
        assume(w.pool[0][0] * w.pool[0][1] <= config.acc_depth and rows * columns <= config.b_depth)
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


def _cycles(kind, w, tile, config, timing=None):
    """Predicted cycles of all of a pass."""
    timing = timing or MemoryTiming()
    lw = Lowering(SimpleNamespace(config=config, timing=timing, **{kind: lambda *_: tile}))
    for _ in range(TIMES):
        emit(kind, lw, w, config)
    return predict(lw.finished(), config, timing).cycles / TIMES


# found by trying all mappings out: (window, (tile, words of it, order, blocks), chunks)
BEST = {
    "gradient": (Window(2, 64, 64, (14, 14), (14, 14)),
                 (2, 9, 8), (48, 1, 1), (144, 432, True, 3)),
    "backward": (Window(2, 32, 64, (8, 8), (8, 8), (3, 3), (1, 1), (1, 1)),
                 (2, 6, 8), (16, 1, 3), (96, 120, True, 2)),
    "forward": (Window(2, 32, 64, (8, 8), (8, 8), (3, 3), (1, 1), (1, 1)),
                (2, 8, 5), (16, 2, 2), (64, 108, False, 3)),
}


@pytest.mark.parametrize("kind", BEST)
def test_close_to_the_best_of_all(kind):
    w, size, step, more = BEST[kind]
    profile = board("zcu102")
    reduced = w.m if kind == "backward" else w.n
    best = Tile(*size, chunks_of(reduced, w.kernel, *step), *more)
    mine = getattr(scheduler(profile.config, profile.timing), kind)(w)
    mine, best = (_cycles(kind, w, tile, profile.config, profile.timing) for tile in (mine, best))
    assert mine <= 1.02 * best


def test_a_small_layer_is_as_fast_as_in_one_tile():
    w, config = Window(2, 16, 8, (6, 6), (6, 6), (3, 3), (1, 1), (1, 1)), Config()
    one = Tile(2, 6, 6, chunks_of(16, (3, 3), 16, 3, 3), 144, 128)
    mine = scheduler(config, MemoryTiming()).forward(w)
    assert _cycles("forward", w, mine, config) <= _cycles("forward", w, one, config)


@pytest.mark.parametrize("kind", ["forward", "backward", "gradient"])
def test_a_large_batch_is_no_slower_per_image(kind):
    config = Config(tm=4, tn=4, fmt="fp32", beat_bits=128, a_depth=256, b_depth=256, acc_depth=64,
                    read_ports=3, write_ports=2)
    per_image = []
    for images in (4, 32):
        w = Window(images, 8, 12, (8, 8), (8, 8), (3, 3), (1, 1), (1, 1))
        tile = getattr(scheduler(config, MemoryTiming()), kind)(w)
        per_image.append(_cycles(kind, w, tile, config) / images)
    assert per_image[1] <= 1.01 * per_image[0]


@pytest.mark.parametrize("kind", ["forward", "backward", "gradient"])
def test_tiles_for_parts_of_the_buffers(kind):
    config, w = Config(), Window(2, 32, 32, (12, 12), (12, 12), (3, 3), (1, 1), (1, 1))
    choose = getattr(scheduler(config, MemoryTiming()), kind)
    whole = choose(w)
    a, b = max(1, whole.a_words * 2 // 3), max(1, whole.b_words * 2 // 3)
    tile = choose(w, a_depth=a)
    assert tile.a_words <= a and tile.b_words <= config.b_depth
    tile = choose(w, b_depth=b)
    assert tile.b_words <= b and tile.a_words <= config.a_depth
    assert choose(w, a_depth=config.a_depth, b_depth=config.b_depth) == whole
    with pytest.raises(UnsupportedError, match="buffers of 1024 and 0 words"):
        choose(w, b_depth=0)


def test_what_cannot_fit_is_refused():
    config = Config(tm=2, tn=4, beat_bits=32, a_depth=16, b_depth=16, acc_depth=16)
    w = Window(1, 4, 4, (11, 11), (11, 11), pool=((5, 5), (5, 5)))
    with pytest.raises(UnsupportedError, match="16 and 16 words and 16 accumulators"):
        scheduler(config, MemoryTiming()).forward(w)
