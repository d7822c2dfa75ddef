# amaranth: UnusedElaboratable=no
"""Frames leave with their CRC."""

import random

import pytest
from gradgate.hw.link_transmitter import Transmitter

from tests.hw.link import frames_of, tokens, transfer
from tests.hw.test_link_crc import crc_of


@pytest.mark.parametrize("stall", [0, 0.4])
def test_frames(stall):
    rng, dut = random.Random(1), Transmitter()
    frames = [rng.randbytes(rng.randrange(1, 20)) for _ in range(5)]
    got = transfer(dut, dut.i, dut.o, tokens(frames), sum(len(frame) + 5 for frame in frames),
                   stall=stall)
    assert frames_of(got) == [frame + crc_of(frame) for frame in frames]


def test_cycles():
    dut, stamps = Transmitter(), []
    transfer(dut, dut.i, dut.o, tokens([bytes(10)]), 15, stamps=stamps)
    assert stamps[-1] - stamps[0] == 9 * 14
