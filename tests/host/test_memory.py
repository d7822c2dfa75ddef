"""Addresses, and what is said when they run out."""

import pytest
from gradgate.errors import OutOfMemoryError
from gradgate.memory import Arena


def test_pieces_do_not_overlap():
    arena = Arena(100, 10_000, 10_000)
    sizes = [1, 64, 65, 0, 700]
    places = arena.place_all([(str(s), s) for s in sizes])
    end = 100
    for place, size in zip(places, sizes, strict=True):
        assert place >= end and place % 64 == 0
        end = place + size
    assert arena.place("more", 1) >= end


def test_alignment():
    arena = Arena(100, 10_000, 10_000)
    assert arena.place_all([("a", 10), ("b", 10)], 512) == [512, 576]


def test_out_of_memory_says_who_has_how_much():
    arena = Arena(64, 3 << 20, 4 << 20, [("weights", 1 << 20)])
    with pytest.raises(OutOfMemoryError) as error:
        arena.place_all([("small map", 3000), ("large map", 3 << 20)])
    lines = [line.split() for line in str(error.value).splitlines()]
    assert lines[0] == ["4.00", "MiB", "are", "needed,", "the", "device", "has", "4.00", "MiB:"]
    assert lines[1:] == [["3.00", "MiB", "large", "map"], ["1.00", "MiB", "weights"],
                         ["2.93", "KiB", "small", "map"]]
    end = arena.end
    arena.place("still usable", 100)
    assert arena.end > end


def test_out_of_memory_ends_with_what_helps():
    with pytest.raises(OutOfMemoryError, match="map\nless of it$"):
        Arena(0, 1024, 1024, remedy="less of it").place("map", 2000)


def test_long_lists_are_summed_up():
    arena = Arena(0, 1024, 1024)
    with pytest.raises(OutOfMemoryError, match="0.50 KiB  5 smaller ones"):
        arena.place_all([(str(i), 2048) for i in range(20)] + [(f"s{i}", 102) for i in range(5)])
