"""ULX3S with a smaller array."""

from dataclasses import replace

from gradgate.hw.boards import ulx3s_85f

__all__ = ["BOARD", "LOADER", "design"]

LOADER = ulx3s_85f.LOADER

BOARD = replace(ulx3s_85f.BOARD, name="ulx3s-85f-8x8",
                description="ULX3S, LFE5U-85F: as ulx3s-85f, 8x8",
                config=replace(ulx3s_85f.BOARD.config, tn=8))


def design(build=bytes(8)):
    """The Design of the bitstream; `build` is Identity.build."""
    return ulx3s_85f.design(build, BOARD)
