"""Lower bounds: examples by hand, the best of all tilings, and no program below them."""

from math import sqrt

import pytest
from gradgate.boards import MemoryTiming, board
from gradgate.bounds import bounds, on_chip_words
from gradgate.hw.config import Config
from gradgate.tiling import Window

KINDS = ("forward", "dX", "dW")
SMALL = Config(tm=4, tn=8, fmt="fp32", beat_bits=64, a_depth=64, b_depth=128, acc_depth=64)


def test_words_on_chip():
    assert on_chip_words(SMALL) == (64 + 128) * 8 + 2 * 64 * 4
    # two bf16 operands take the place of one partial sum
    half = Config(tm=4, tn=8, fmt="bf16", beat_bits=64, a_depth=64, b_depth=128, acc_depth=64)
    assert on_chip_words(half) == (64 + 128) * 8 // 2 + 2 * 64 * 4


@pytest.mark.parametrize("kind, read, written", [
    ("forward", 720 + 108, 600), ("dX", 600 + 108, 720), ("dW", 600 + 720 + 108, 108)])
def test_a_small_layer_by_hand(kind, read, written):
    """2 images of 3x10x12, 4x5x15 out; all fits on chip, so each word once."""
    w = Window(2, 3, 4, (10, 12), (5, 15), (3, 3), (2, 1), (1, 3))
    macs = 2 * 75 * 4 * 3 * 9
    timing = MemoryTiming(beat_cycles=2.5, shared=True)
    found = bounds(w, kind, SMALL, timing)
    assert found.compute_cycles == -(-macs // 32)
    assert found.bytes == 4 * (read + written)
    assert found.dram_cycles == 4 * (read + written) / 8 * 2.5


def test_the_small_core_has_the_multipliers_of_one_row():
    w = Window(2, 3, 4, (10, 12), (5, 15), (3, 3), (2, 1), (1, 3))
    micro = board("icebreaker")
    macs = 2 * 75 * 4 * 3 * 9
    assert bounds(w, "forward", micro.config, micro.timing).compute_cycles == -(-macs // 4)


def test_directions_and_ports_at_once():
    w = Window(2, 3, 4, (10, 12), (5, 15), (3, 3), (2, 1), (1, 3))
    config = Config(tm=4, tn=8, fmt="fp32", beat_bits=64, a_depth=64, b_depth=128, acc_depth=64,
                    read_ports=3, write_ports=2)
    assert bounds(w, "forward", config, MemoryTiming()).dram_cycles == 600 * 4 / 2 / 8
    assert bounds(w, "dW", config, MemoryTiming()).dram_cycles == 1428 * 4 / 3 / 8
    assert bounds(w, "forward", SMALL, MemoryTiming()).dram_cycles == (720 + 108) * 4 / 8


def test_a_gradient_that_is_stored_reads_no_master():
    w = Window(2, 3, 4, (10, 12), (5, 15), (3, 3), (2, 1), (1, 3))
    fused, stored = (bounds(w, "dW", SMALL, MemoryTiming(), fused=f) for f in (True, False))
    assert fused.bytes - stored.bytes == 108 * 4


def test_results_of_a_pooling_leave_the_chip():
    w = Window(1, 8, 8, (8, 8), (8, 8), (3, 3), (1, 1), (1, 1))
    pooled = Window(1, 8, 8, (8, 8), (8, 8), (3, 3), (1, 1), (1, 1), pool=((2, 2), (2, 2)))
    a, b = (bounds(x, "forward", SMALL, MemoryTiming()) for x in (w, pooled))
    assert a.bytes - b.bytes == 8 * (64 - 16) * 4
    assert a.compute_cycles == b.compute_cycles


def least_read(kind, w, words):
    """Fewest words read by all tilings that keep u x v finished partial sums on chip: what a tile
    touches, counted, times how many tiles there are (docs/model.md, section 7)."""
    taps, (s1, s0) = w.kernel[0] * w.kernel[1], w.stride
    reuse = max(1, taps / (s1 * s0))
    macs = w.images * w.out[0] * w.out[1] * w.m * w.n * taps
    best = float("inf")
    for u in range(1, words + 1):
        v = words // u
        if kind == "forward":
            read, done = u * taps / reuse + v * taps, u * v * taps
        elif kind == "dX":
            read, done = u + v * reuse, u * v * reuse
        else:
            read, done = u / reuse + v, u * v
        best = min(best, macs / done * read)
    return best


@pytest.mark.parametrize("kernel, stride", [((3, 3), (1, 1)), ((1, 1), (1, 1)), ((5, 5), (2, 2)),
                                            ((11, 11), (4, 4)), ((1, 1), (2, 2))])
@pytest.mark.parametrize("kind", KINDS)
def test_against_all_tilings(kind, kernel, stride):
    """No tiling reads less, and the best one hardly more than the bound would be if nothing lay
    on chip before and after."""
    w = Window(64, 512, 512, (56, 56), (56 // stride[0],) * 2, kernel, stride)
    found = bounds(w, kind, SMALL, MemoryTiming(), fused=False)
    maps = {"forward": w.m * w.out[0] * w.out[1], "dX": w.n * 56 * 56}
    written = (64 * maps[kind] if kind in maps else 512 * 512 * kernel[0] * kernel[1]) * 4
    words = on_chip_words(SMALL)
    read = (found.bytes - written) / 4 + 2 * words
    assert read <= least_read(kind, w, words) <= 1.02 * read


def test_more_memory_reads_less():
    w = Window(16, 512, 512, (28, 28), (28, 28), (3, 3), (1, 1), (1, 1))
    found = []
    for config in (SMALL, board("zcu102").config):
        words = on_chip_words(config)
        bound = bounds(w, "dX", config, MemoryTiming())
        read = (bound.bytes - 16 * 512 * 28 * 28 * 4) / 4
        found.append((bound.compute_cycles, (read + 2 * words) * sqrt(words)))
    (small, product), (large, same) = found
    assert product == pytest.approx(same)
    assert small == 8 * large


def test_a_layer_that_fits_is_read_once():
    """All of it lies on chip: then no word is needed twice."""
    w = Window(1, 16, 16, (8, 8), (8, 8), (3, 3), (1, 1), (1, 1))
    found = bounds(w, "forward", board("zcu102").config, MemoryTiming())
    assert found.bytes == 4 * (16 * 64 + 16 * 16 * 9 + 16 * 64)
