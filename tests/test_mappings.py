"""The mappings that the scheduler is checked against are all there, and their bounds hold."""

import random
from math import prod

import pytest
from gradgate.boards import MemoryTiming
from gradgate.hw.config import Config
from gradgate.scheduler import scheduler
from gradgate.tiling import Window

from benchmarks.mapping_space import Space
from tests.host.test_tiling import covers

SMALL = Config(tm=4, tn=4, fmt="fp32", beat_bits=128, a_depth=256, b_depth=256, acc_depth=64,
               read_ports=3, write_ports=2)
WIDE = Config(tm=8, tn=8, fmt="fp32", beat_bits=128, a_depth=512, b_depth=512, acc_depth=128)
TIMING = MemoryTiming(latency=40, row_bytes=1024, row_cycles=4, refresh_interval=780,
                      refresh_cycles=35)
WINDOWS = {
    "3x3": Window(2, 8, 12, (5, 4), (5, 4), (3, 3), (1, 1), (1, 1)),
    "1x1": Window(2, 16, 16, (6, 5), (6, 5)),
    "pooled": Window(2, 8, 8, (6, 4), (6, 4), (3, 3), (1, 1), (1, 1), pool=((2, 2), (2, 2))),
    "strided": Window(2, 8, 8, (7, 7), (4, 4), (3, 3), (2, 2), (1, 1)),
    "thin": Window(2, 3, 16, (6, 6), (6, 6), (3, 3), (1, 1), (1, 1), packed=2),
}
PASSES = ("forward", "backward", "gradient")


def space(name, kind):
    w = WINDOWS[name]
    return Space(kind, w, WIDE if w.packed else SMALL, TIMING)


cases = pytest.mark.parametrize("name, kind", [(name, kind) for name in WINDOWS for kind in PASSES
                                               if (name, kind) != ("thin", "backward")])


@cases
def test_no_mapping_undercuts_its_bound(name, kind):
    all_ = space(name, kind)
    tiles = list(all_.tiles())
    some = random.Random(1).sample(tiles, 4) + sorted(tiles, key=all_.bound)[:4]
    for tile in some:  # any, and those that look best
        cycles = all_.cycles(tile)
        assert all_.least() <= cycles and all_.bound(tile) <= cycles, tile


@cases
def test_the_bounds_say_something(name, kind):
    all_ = space(name, kind)
    best = getattr(scheduler(all_.config, TIMING), kind)(all_.w)
    assert all_.bound(best) > 0.5 * all_.cycles(best)


@cases
def test_every_mapping_fits_and_is_there_once(name, kind):
    all_ = space(name, kind)
    config, w = all_.config, all_.w
    tiles = list(all_.tiles())
    assert len(set(tiles)) == len(tiles)
    assert {tile.images for tile in tiles} == {1, 2}
    assert {tile.sets for tile in tiles} <= set(range(1, all_.blocks + 1))
    for tile in tiles:
        assert tile.a_words <= config.a_depth and tile.b_words <= config.b_depth
        assert kind == "gradient" or tile.sets * tile.images * tile.rows * tile.cols \
            <= config.acc_depth
    for chunks in {tile.chunks for tile in tiles}:
        assert covers(chunks, w.m if kind == "backward" else w.n, w.kernel)


@cases
def test_the_schedulers_choice_is_among_them(name, kind):
    all_ = space(name, kind)
    assert getattr(scheduler(all_.config, TIMING), kind)(all_.w) in set(all_.tiles())


@pytest.mark.parametrize("name, kind", [("3x3", "forward"), ("1x1", "gradient"),
                                        ("pooled", "backward"), ("strided", "forward")])
def test_none_of_the_most_promising_is_much_better(name, kind):
    all_ = space(name, kind)
    mine = all_.cycles(getattr(scheduler(all_.config, TIMING), kind)(all_.w))
    for tile in sorted(all_.tiles(), key=all_.bound)[:60]:
        assert mine <= 1.03 * all_.cycles(tile), tile


def test_with_room_for_everything_every_combination_is_there():
    config = Config(tm=4, tn=4, fmt="fp32", beat_bits=128, a_depth=8192, b_depth=8192,
                    acc_depth=4096)
    w = Window(2, 8, 12, (4, 4), (4, 3), (3, 2), (1, 1), (1, 0))
    shapes, chunks, sets = prod((2, 4, 3)), prod((2, 3, 2)), 3
    # the order of the loops matters where there are several tiles and several sets
    assert len(list(Space("forward", w, config, TIMING).tiles())) == (
        chunks * (shapes * sets + (shapes - 1) * (sets - 1)))
    assert len(list(Space("gradient", w, config, TIMING).tiles())) == chunks * shapes * sets


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="Tm = Tn"):
        Space("forward", WINDOWS["1x1"], Config(tm=2, tn=4, beat_bits=32), TIMING)
