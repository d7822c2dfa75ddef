"""Boards behind an SDRAM at another clock than ulx3s-85f: as fast as their profiles say."""

import ctypes
from pathlib import Path

import gradgate.sim
import pytest
from gradgate import dram
from gradgate.boards import board
from gradgate.sim import sdram, toolchain

from tests.sim import test_memory as fast
from tests.sim.test_sdram import HERE, STREAMS, digits

pytestmark = pytest.mark.skipif(not dram.available(), reason="LiteDRAM is not installed")


@pytest.fixture(scope="module", params=["ulx3s-85f-8x8"])
def profile(request):
    profile = board(request.param)
    return profile, sdram.library(profile.config, dram.controller(profile.clock_hz))


@pytest.mark.parametrize("name", [*STREAMS, "digits"])
def test_streams_take_what_the_profile_says(profile, name):
    board, simulator = profile
    transfers = STREAMS.get(name) or digits()
    with sdram.Bench(simulator, board.config, board.clock_hz) as bench:
        cycles = bench.run(transfers, outstanding=board.timing.outstanding)[2]
    library = ctypes.CDLL(str(toolchain.shared_library(
        "memory_driver", [HERE / "memory_driver.cpp"],
        include=[Path(gradgate.sim.__file__).parent])))
    predicted = fast.run(library, board.timing, transfers, limit=10_000_000)[1]
    print(f"{name}: {cycles} cycles, profile {predicted / cycles - 1:+.1%}")
    assert abs(predicted / cycles - 1) < 0.03
