"""What makes a tile better for the passes around it."""

from gradgate.costs import Demand, Load, Stream
from gradgate.neighbours import Neighbours

from tests.host.spaces import COSTS

DEPTH = 8192


def lost(a=None, words=64, computes=100, array=100_000):
    out = Load(100, {(0, True): Stream(100, 1, 64, 1)}, 1)
    demand = Demand(array, array, a or Load(0, {}, 0, 64, 32), Load(), out, 0, 0, computes)
    return Neighbours(COSTS, DEPTH, DEPTH).cycles(demand, words, 64)


def test_few_instructions():
    assert lost(computes=200) > lost(computes=100)


def test_room_in_the_buffer():
    assert lost(words=256) > lost(words=64)


def test_loads_that_end_early():
    assert lost(Load(0, {}, 0, 64, 32)) < lost(Load(0, {}, 0, 640, 32))


def test_loads_that_fit_beforehand():
    """If the array waits for loads, it is good that much of them can be done earlier."""
    slow = {"cycles": 200_000, "slots": 32}
    assert lost(Load(tiles=64, **slow), array=1000) < lost(Load(tiles=640, **slow), array=1000)


def test_it_decides_between_equals_only():
    assert abs(lost(words=DEPTH // 32, array=1_000_000)) < 0.01 * 1_000_000
