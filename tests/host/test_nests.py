"""Loop nests: examples by hand, and what they say of the programs of a network."""

from dataclasses import replace
from math import prod

import pytest
from gradgate.boards import MemoryTiming, board
from gradgate.hw.config import Config
from gradgate.nests import nest, stored_bytes
from gradgate.nets import net
from gradgate.planning import plan
from gradgate.scheduler import scheduler
from gradgate.tiling import SLOTS_MAX, Tile, Window, chunks_of

CONFIG = Config(tm=4, tn=8, fmt="fp32", beat_bits=64, a_depth=256, b_depth=512, acc_depth=128)
WINDOW = Window(2, 16, 8, (8, 8), (8, 8), (3, 3), (1, 1), (1, 1))
# rows in two, channels in two chunks, both blocks of outputs in a region
TILE = Tile(1, 4, 8, chunks_of(16, (3, 3), 8, 3, 3), 72, 60, True, 2)


def loops(found):
    return [(loop.count, loop.what, loop.levels) for loop in found.loops]


def test_forward_by_hand():
    found = nest("forward", WINDOW, TILE, CONFIG)
    assert loops(found) == [
        (2, "1 of 2 images", ("A", "B", "DRAM")),
        (2, "4 of 8 rows", ("A", "B", "DRAM")),
        (2, "8 of 16 inputs", ("A", "B", "acc")),
        (2, "4 of 8 outputs", ("A", "B", "acc")),
        (9, "a tap", ("A", "B", "acc")),
        (32, "a pixel", ("A", "B", "acc")),
    ]
    assert (found.a.operand, found.a.words, found.a.slots) == ("weights", 72, 3)
    assert (found.b.operand, found.b.words, found.b.slots) == ("input", 60, 8)
    assert (found.results, found.accumulators) == ("output", 2 * 32)


@pytest.mark.parametrize("words, levels", [
    # eight tiles in all, four per image, two per row; the buffer has 512 words
    (64, ("B", "B", "B")), (65, ("DRAM", "B", "B")), (128, ("DRAM", "B", "B")),
    (129, ("DRAM", "DRAM", "B")), (256, ("DRAM", "DRAM", "B")), (257, ("DRAM", "DRAM", "DRAM"))])
def test_an_operand_lives_on_chip_in_the_loops_whose_tiles_fit(words, levels):
    found = nest("forward", WINDOW, replace(TILE, b_words=words), CONFIG)
    assert tuple(loop.levels[1] for loop in found.loops[:3]) == levels
    assert all(loop.levels[1] == "B" for loop in found.loops[3:])


def test_no_more_tiles_than_slots():
    """However small they are."""
    found = nest("forward", WINDOW, replace(TILE, a_words=1, b_words=1), CONFIG)
    assert found.a.slots == found.b.slots == SLOTS_MAX


def test_weights_stay_where_pixels_are_inside():
    """One tile of weights fits: it is loaded once per set of outputs, or once per tile of them."""
    window = replace(WINDOW, n=8, m=16)
    tile = Tile(1, 4, 8, chunks_of(8, (3, 3), 8, 3, 3), 200, 60, True, 2)
    inside = nest("forward", window, replace(tile, pixels_outer=False), CONFIG)
    assert [(text, levels[0]) for _, text, levels in loops(inside)[:3]] == [
        ("8 of 16 outputs", "DRAM"), ("1 of 2 images", "A"), ("4 of 8 rows", "A")]
    outside = nest("forward", window, tile, CONFIG)
    assert [(text, levels[0]) for _, text, levels in loops(outside)[:3]] == [
        ("1 of 2 images", "DRAM"), ("4 of 8 rows", "DRAM"), ("8 of 16 outputs", "DRAM")]


@pytest.mark.parametrize("words, level", [(128, "A"), (129, "DRAM")])
def test_a_tile_of_weights_has_as_many_blocks_as_lanes_hold(words, level):
    """Two of the four blocks of a region, so that all of them take two tiles."""
    window = replace(WINDOW, n=8, m=16)
    tile = Tile(1, 4, 8, chunks_of(8, (3, 3), 8, 3, 3), words, 60, True, 4)
    *_, blocks, _, _ = loops(nest("forward", window, tile, CONFIG))
    assert blocks == (4, "4 of 16 outputs", (level, "B", "acc"))


def test_strided_dx_by_hand():
    """A tile of weights has both blocks; each of the four phases has a quarter of the pixels."""
    window = Window(2, 16, 8, (8, 8), (4, 4), (3, 3), (2, 2), (1, 1))
    found = nest("dX", window, Tile(1, 8, 8, chunks_of(8, (3, 3), 8, 3, 3), 144, 25, True, 2),
                 CONFIG)
    assert loops(found) == [
        (2, "1 of 2 images", ("DRAM", "B", "DRAM")),
        (2, "8 of 16 inputs", ("DRAM", "B", "DRAM")),
        (2, "4 of 8 inputs", ("A", "B", "acc")),
        (9, "a tap", ("A", "B", "acc")),
        (16, "one of 4 pixels", ("A", "B", "acc")),
    ]
    assert (found.a.operand, found.b.operand, found.results) == ("weights", "gradient", "dX")
    assert found.accumulators == 2 * 64


def test_weight_gradient_by_hand():
    found = nest("dW", WINDOW, Tile(1, 4, 8, TILE.chunks, 32, 60, True, 1), CONFIG)
    assert loops(found) == [
        (2, "4 of 8 outputs", ("A", "B", "DRAM")),
        (2, "8 of 16 inputs", ("A", "B", "DRAM")),
        (2, "1 of 2 images", ("A", "B", "acc")),
        (2, "4 of 8 rows", ("A", "B", "acc")),
        (4, "8 pixels, in lanes", ("A", "B", "acc")),
        (72, "a weight", ("A", "B", "acc")),
    ]
    assert (found.a.operand, found.b.operand, found.results) == ("gradient", "input", "dW")
    assert found.accumulators == 73  # with the bias


def test_taps_share_the_lanes_of_a_thin_input():
    window = replace(WINDOW, n=3, packed=2)
    tile = Tile(2, 4, 8, chunks_of(3, (3, 3), 8, 3, 3), 9, 60, True, 2)
    found = nest("forward", window, tile, CONFIG)
    assert [loop for loop in loops(found) if loop[1].endswith("taps, in lanes")] == [
        (3 * 2, "2 taps, in lanes", ("A", "B", "acc"))]


@pytest.mark.parametrize("kind, select, a", [
    ("forward", False, None), ("dX", False, None), ("dX", True, "tags")])
def test_a_pooling_has_a_constant_or_tags_for_weights(kind, select, a):
    n, m = (4, 8) if kind == "forward" else (8, 4)  # the array sees one block
    window = Window(2, n, m, (8, 6), (4, 3), (2, 2), (2, 2), (0, 0), ident=True)
    schedule = scheduler(CONFIG, MemoryTiming())
    tile = schedule.forward(window) if kind == "forward" else schedule.backward(window, select)
    # a whole image, so that no tile is counted as larger than it is
    rows, cols = window.out if kind == "forward" else window.size
    tile = replace(tile, images=1, rows=rows, cols=cols)
    found = nest(kind, window, tile, CONFIG, select)
    assert a == (None if found.a is None else found.a.operand)
    assert all(loop.levels[0] == ("A" if a else "-") for loop in found.loops)
    # every position of the windows, and both blocks of channels
    assert prod(loop.count for loop in found.loops) == 2 * 48 * 2


def test_as_dict_names_the_levels():
    found = nest("forward", WINDOW, TILE, CONFIG).as_dict()
    assert found["loops"][0] == {"what": "1 of 2 images", "count": 2,
                                 "levels": {"a": "A", "b": "B", "results": "DRAM"}}
    assert found["b"] == {"operand": "input", "words": 60, "slots": 8}


@pytest.mark.parametrize("changes, kind, a, b", [
    # 5 inputs in two blocks of 4, 9 outputs in three: 10x12 pixels below, 5x15 above
    ({}, "forward", 12 * 5 * 9, 2 * 120 * 8),
    ({}, "dX", 12 * 5 * 9, 2 * 75 * 12),
    ({}, "dW", 2 * 75 * 12, 2 * 120 * 8),
    # a pooling of 2x2 is undone: its gradient and its tags
    ({"pool": ((2, 2), (2, 2))}, "dW", 2 * (2 * 14 * 12), 2 * 120 * 8),
    # one block at a time, of 9 channels or 13; tags
    ({"n": 4, "ident": True}, "forward", 2 * 75 * 12, 2 * 120 * 12),
    ({"n": 13, "m": 4, "ident": True}, "dX", 2 * 75 * 16, 2 * 75 * 16),
])
def test_stored_bytes_by_hand(changes, kind, a, b):
    window = replace(Window(2, 5, 9, (10, 12), (5, 15), (3, 3), (2, 1), (1, 3)), **changes)
    assert stored_bytes(kind, window, CONFIG) == (4 * a, 4 * b)


@pytest.mark.parametrize("name, where", [("1x", "zcu102"), ("digits", "tiny")])
def test_nests_and_programs_agree(name, where):
    module, shape = net(name)
    found = plan(module, shape, board(where), 4)
    nested = [one for one in found.passes if one.nest is not None]
    assert len(nested) >= 8
    once = 0
    for one in nested:
        label = one.time.layer, one.time.kind
        counted = prod(loop.count for loop in one.nest.loops)
        assert one.nest.accumulators <= board(where).config.acc_depth, label
        # loops count the last tile of each as full, and no sweep as shorter than the array wants
        if one.time.macs:
            assert one.bounds.compute_cycles <= counted, label
        if one.time.kind != "forward":
            continue
        # what is on chip in all loops is loaded once per tile
        over = [(loop.what.split(",")[0].split()[-1], loop.count)
                for loop in one.nest.loops if " of " in loop.what]
        for side, place, words in (("a", 0, ("outputs", "inputs")),
                                   ("b", 1, ("images", "rows", "columns", "inputs"))):
            if side in one.loads and one.nest.loops[0].levels[place] != "DRAM":
                tiles = prod(count for word, count in over if word in words)
                assert one.loads[side][0] <= tiles, label
                once += 1
    assert once
    assert sum(one.time.cycles for one in found.passes) == found.cycles
