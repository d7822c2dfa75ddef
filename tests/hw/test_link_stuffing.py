# amaranth: UnusedElaboratable=no
"""Byte stuffing against that of the host, in both directions."""

import random

import pytest
from gradgate.frames import encode_ahead, encode_behind
from gradgate.hw.link_stuffing import Stuff, Unstuff

from tests.hw.link import frames_of, random_frame, tokens, transfer

EDGES = [b"\0", b"\0\0", b"\1", bytes([7]) * 253, bytes([7]) * 254, bytes([7]) * 255,
         bytes([7]) * 253 + b"\0", bytes([7]) * 254 + b"\0", b"\0" + bytes([7]) * 254,
         bytes([9]) * 508, bytes([9]) * 509, bytes([255]) * 256]


def some_frames(seed):
    rng = random.Random(seed)
    return EDGES if seed == 0 else [random_frame(rng) for _ in range(4)]


@pytest.mark.parametrize("seed", range(4))
def test_unstuff(seed):
    frames = some_frames(seed)
    data = b"".join(encode_ahead(frame) + b"\0" for frame in frames)
    dut = Unstuff()
    count = sum(len(frame) + 1 for frame in frames)
    got = transfer(dut, dut.i, dut.o, data, count, seed=seed, stall=0.3 * (seed % 2))
    assert frames_of(got) == frames


def test_unstuff_after_garbage():
    """From a zero on, whatever came before is forgotten."""
    dut = Unstuff()
    for garbage in (bytes([200, 1, 2, 0]), bytes([255, 3, 0]), bytes([1, 1, 1, 0]), bytes([5, 0])):
        items = transfer(dut, dut.i, dut.o, garbage + encode_ahead(b"a\0b") + b"\0", 4)
        assert frames_of(items)[-1] == b"a\0b"


@pytest.mark.parametrize("seed", range(4))
def test_stuff(seed):
    frames = some_frames(seed)
    expected = b"".join(encode_behind(frame) + b"\0" for frame in frames)
    dut = Stuff()
    got = transfer(dut, dut.i, dut.o, tokens(frames), len(expected), seed=seed,
                   stall=0.3 * (seed % 2))
    assert bytes(got) == expected


def test_a_byte_a_cycle():
    frame, stamps = bytes(range(1, 255)) * 2, []
    dut = Stuff()
    transfer(dut, dut.i, dut.o, tokens([frame]), len(frame) + 4, stamps=stamps)
    # two codes for full runs, one at the end, the zero
    assert stamps[-1] - stamps[0] == len(frame) + 3
