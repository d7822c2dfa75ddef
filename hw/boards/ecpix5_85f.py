"""ECPIX-5 with an ECP5 of 85,000 LUTs; its DDR3 has to be levelled by a processor, so it is not
used."""

from gradgate.hw.boards.design import Design
from gradgate.hw.boards.profile import Board, MemoryTiming
from gradgate.hw.config import Config
from gradgate.hw.ecp5 import DENSE, OnChipTop
from gradgate.hw.link_format import Identity

__all__ = ["BOARD", "LOADER", "design"]

LOADER = "ecpix5"  # for openFPGALoader

BOARD = Board(
    name="ecpix5-85f",
    description="ECPIX-5, LFE5UM5G-85F: 8x16 bf16, 128 KiB on chip",
    config=Config(tm=8, tn=16, fmt="bf16", beat_bits=32, a_depth=512, b_depth=512, acc_depth=512,
                  max_burst=128, addr_bits=17),
    memory_size=128 << 10,
    clock_hz=80e6,
    timing=MemoryTiming(latency=3, beat_cycles=1, shared=True),
)


def design(build=bytes(8)):
    """The Design of the bitstream; `build` is Identity.build."""
    from amaranth_boards.ecpix5 import ECPIX585Platform

    def lights(platform):
        light = platform.request("rgb_led", 0, dir="-")
        return [light.b, light.g, light.r]

    identity = Identity(board=BOARD.name, config=BOARD.config, memory_size=BOARD.memory_size,
                        clock_hz=round(BOARD.clock_hz), build=build)
    top = OnChipTop(identity, baud=3_000_000, lights=lights)
    return Design(platform=ECPIX585Platform(), top=top, target_hz=BOARD.clock_hz, options=DENSE)
