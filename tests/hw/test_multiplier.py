# amaranth: UnusedElaboratable=no
"""Products in simulation, and the block of an ECP5 that takes their place on a board."""

import random

import pytest
from amaranth.hdl import Fragment, Instance
from gradgate.hw.multiplier import Block, Multiplier

from tests.hw.pipeline import run_pipeline

SEED = 30


class ECP5:
    family = "ecp5"


def vectors(width):
    rng = random.Random(SEED)
    return [(rng.getrandbits(width), rng.getrandbits(width)) for _ in range(100)] + [
        ((1 << width) - 1,) * 2]


@pytest.mark.parametrize("width", [1, 8, 18, 19, 24, 36])
def test_multiplier(width):
    assert Multiplier.LATENCY == 3
    results = run_pipeline(Multiplier(width), ["a", "b"], ["o"], 3, vectors(width))
    assert results == [(a * b,) for a, b in vectors(width)]


@pytest.mark.parametrize("latency", [2, 3])
def test_block(latency):
    results = run_pipeline(Block(12, latency), ["a", "b"], ["o"], latency, vectors(12))
    assert results == [(a * b,) for a, b in vectors(12)]


def instances(component):
    """All instances below `component` on an ECP5."""
    found = []

    def walk(fragment):
        if isinstance(fragment, Instance):
            found.append(fragment)
        for inner, *_ in fragment.subfragments:
            walk(inner)

    walk(Fragment.get(component, ECP5()))
    return found


@pytest.mark.parametrize("width, blocks, ranks", [
    (8, 1, {"INPUTA", "INPUTB", "PIPELINE", "OUTPUT"}),
    (24, 4, {"INPUTA", "INPUTB", "OUTPUT"}),  # and one more behind it, for the sum
])
def test_registers_of_the_ecp5(width, blocks, ranks):
    found = instances(Multiplier(width))
    assert [block.type for block in found] == ["MULT18X18D"] * blocks
    for block in found:
        clocked = {name[4:-4] for name, value in block.parameters.items() if value == "CLK0"}
        assert clocked == ranks


@pytest.mark.parametrize("make, error, message", [
    (lambda: Multiplier("8"), TypeError, "width must be int, not '8'"),
    (lambda: Multiplier(0), ValueError, "width must be in 1..36, not 0"),
    (lambda: Multiplier(37), ValueError, "width must be in 1..36, not 37"),
    (lambda: Block(19, 3), ValueError, "width must be in 1..18, not 19"),
    (lambda: Block(18, 1), ValueError, "latency must be 2 or 3, not 1"),
])
def test_parameters_are_checked(make, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        make()
