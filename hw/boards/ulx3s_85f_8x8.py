"""ULX3S with half the array of ulx3s-85f."""

from dataclasses import replace

from gradgate.hw.boards import ulx3s_85f
from gradgate.hw.ecp5 import OPTIONS

__all__ = ["BOARD", "LOADER", "design"]

LOADER = ulx3s_85f.LOADER

BOARD = replace(
    ulx3s_85f.BOARD,
    name="ulx3s-85f-8x8",
    description="ULX3S, LFE5U-85F: 8x8 bf16, 32 MB SDRAM of 16 bits",
    config=replace(ulx3s_85f.BOARD.config, tn=8),
    clock_hz=70e6,
    # refreshes come after fewer of these cycles and take fewer: within 3 % of LiteDRAM
    # (tests/sim/test_sdram_profiles.py)
    timing=replace(ulx3s_85f.BOARD.timing, refresh_interval=546, refresh_cycles=11),
)


def design(build=bytes(8)):
    """The Design of the bitstream; `build` is Identity.build."""
    return ulx3s_85f.design(build, BOARD, OPTIONS)
