"""What candidates say of a pass is what its instructions do."""

import numpy as np
from gradgate.candidates import Cut
from gradgate.hw.isa import Unit
from gradgate.shapes import Shapes

from tests.host.spaces import BOARD, DEPTHS, cases, program, space


def demand(one, tile):
    """The Demand of a Tile among the candidates `one`."""
    shapes = Shapes(one.whole, one.blocks)
    sizes = zip(*shapes.sizes, shapes.sets, strict=True)
    wanted = tile.images, tile.rows, tile.cols, tile.sets
    shapes = shapes.only(np.array([size == wanted for size in sizes]))
    slots = [np.array([min(32, depth // words)]) for depth, words in
             zip(DEPTHS, (tile.a_words, tile.b_words), strict=True)]
    found = dict(one.demands(shapes, Cut(tile.chunks), *slots))
    return found.get(tile.pixels_outer, found[True])  # with one set or tile it is the same


def _beats(f, names):
    return np.prod([f[name] for name in names])


@cases
def test_loads_and_results(kind, name):
    one = space(kind, name)
    found = one.found()
    for candidate in found[::max(1, len(found) // 7)]:
        tile = candidate.tile
        wanted, instructions = demand(one, tile), program(kind, name, tile).instructions
        for unit, load, port in ((Unit.LOAD_A, wanted.a, (0, False)),
                                 (Unit.LOAD_B, wanted.b, (1, False))):
            mine = [f for u, f in instructions if u == unit]
            places = sum(_beats(f, ("nb", "n2", "n1", "n0", "spp")) *
                         (f["u1"] * f["u0"] if f.get("unpool") else 1) for f in mine)
            beats = sum(_beats(f, ("d_len", "d_n1", "d_n2", "d_n3")) *
                        (2 if f.get("unpool") else 1) for f in mine)
            if (kind, name, unit) == ("backward", "strided", Unit.LOAD_B):
                continue  # nothing is loaded for phases without taps
            # the last tile may have one image and need fewer, the last chunk too
            assert 0.6 * load.count <= len(mine) <= load.count, (unit, tile)
            assert places == load.cycles, (unit, tile)
            assert beats == load.streams[port].beats, (unit, tile)
        posts = [f for u, f in instructions if u == Unit.POST]
        out = wanted.post.streams[0, True]
        assert sum(_beats(f, ("o_len", "o_n1", "o_n2")) for f in posts) == out.beats
        # of parts of the taps, the bias is drained by itself
        assert 0 <= len(posts) - wanted.post.count <= one.blocks


@cases
def test_candidates_fit_and_differ(kind, name):
    one = space(kind, name)
    found = one.found()
    assert len({candidate.tile for candidate in found}) == len(found) > 10
    assert [c.cost for c in found] == sorted(c.cost for c in found)
    for candidate in found:
        tile = candidate.tile
        assert 0 < tile.a_words <= DEPTHS[0] and 0 < tile.b_words <= DEPTHS[1]
        assert kind == "gradient" or tile.sets * tile.images * tile.rows * tile.cols <= \
            BOARD.config.acc_depth


def test_uneven_parts_are_among_them():
    """Of a 1x1 convolution's dW: nine rows of 14, three blocks of four, 48 channels of 64."""
    tiles = [candidate.tile for candidate in space("gradient", "1x1").found()]
    assert any((t.rows, t.sets, t.chunks[0].channels) == (9, 3, 48) for t in tiles)
