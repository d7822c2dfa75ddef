"""Sums over many tile shapes at once are those over the tiles of each."""

from math import prod

from gradgate.shapes import Shapes
from hypothesis import given, settings
from hypothesis import strategies as st


def tiles(whole, size):
    """Sizes of all tiles of a map."""
    found = [()]
    for total, part in zip(whole, size, strict=True):
        found = [(*head, min(part, total - at)) for head in found for at in range(0, total, part)]
    return found


@settings(deadline=None)
@given(st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 20)), st.integers(1, 9))
def test_kinds_of_tiles(whole, blocks):
    shapes = Shapes(whole, blocks)
    for at in range(0, len(shapes), 7):
        mine = sorted(tiles(whole, [int(axis[at]) for axis in shapes.sizes]))
        kinds = [tuple(int(size[at]) for size in sizes) for number, sizes in shapes.kinds
                 for _ in range(int(number[at]))]
        assert sorted(kinds) == mine and shapes.places[at] == len(mine)
        sets = [int(blocks[at]) for number, blocks in shapes.blocks_in
                for _ in range(int(number[at]))]
        assert sum(sets) == blocks and len(sets) == shapes.regions[at]
        assert all(size == shapes.sets[at] for size in sets[:-1])


def test_every_size_of_a_small_map_is_there():
    shapes = Shapes((2, 14, 3), 4)
    assert len(shapes) == prod((2, 14, 3, 4))
    assert any((i, r, c, s) == (2, 9, 2, 3)
               for i, r, c, s in zip(*shapes.sizes, shapes.sets, strict=True))


def test_only_and_along():
    shapes = Shapes((1, 6, 5), 1)
    some = shapes.only(shapes.rows == 4)
    assert len(some) == 5 and (some.rows == 4).all() and some.whole == (1, 6, 5)
    assert some.along(1, lambda size: 10 * size).tolist() == (10 * some.cols).tolist()
