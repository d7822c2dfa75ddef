"""ULX3S with half the array of ulx3s-85f, at a clock that it reaches."""

from gradgate.hw.boards import ulx3s_85f
from gradgate.hw.boards.profile import Board, MemoryTiming
from gradgate.hw.config import Config

__all__ = ["BOARD", "LOADER", "design"]

LOADER = ulx3s_85f.LOADER

BOARD = Board(
    name="ulx3s-85f-8x8",
    description="ULX3S, LFE5U-85F: 8x8 bf16, 32 MB SDRAM of 16 bits",
    config=Config(tm=8, tn=8, fmt="bf16", beat_bits=64, acc_depth=2048),
    memory_size=32 << 20,
    clock_hz=62.5e6,
    # as of ulx3s-85f, but a row and a refresh take fewer of these cycles: within 3 % of LiteDRAM
    # (tests/sim/test_sdram_profiles.py)
    timing=MemoryTiming(
        latency=12,
        beat_cycles=4,
        shared=True,
        row_bytes=1024,
        row_cycles=8,
        refresh_interval=488,
        refresh_cycles=10,
    ),
)


def design(build=bytes(8)):
    """The Design of the bitstream; `build` is Identity.build."""
    return ulx3s_85f.design(build, BOARD)
