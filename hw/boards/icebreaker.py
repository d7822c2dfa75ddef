"""iCEBreaker with an iCE40UP5K."""

from gradgate.hw.boards.design import Design
from gradgate.hw.boards.profile import Board, MemoryTiming
from gradgate.hw.config import Config
from gradgate.hw.ice40 import OPTIONS, UP5KTop
from gradgate.hw.link_format import Identity

__all__ = ["BOARD", "LOADER", "design"]

LOADER = "ice40_generic"  # for openFPGALoader

BOARD = Board(
    name="icebreaker",
    description="iCEBreaker, iCE40UP5K: 2x4 bf16, the small core, 128 KiB on chip",
    config=Config(tm=2, tn=4, fmt="bf16", beat_bits=32, a_depth=256, b_depth=256, acc_depth=128,
                  max_burst=16, core="micro"),
    memory_size=128 << 10,
    clock_hz=18e6,
    timing=MemoryTiming(latency=3, beat_cycles=1, shared=True),
)


def design(build=bytes(8)):
    """The Design of the bitstream; `build` is Identity.build."""
    from amaranth_boards.icebreaker import ICEBreakerPlatform

    identity = Identity(board=BOARD.name, config=BOARD.config, memory_size=BOARD.memory_size,
                        clock_hz=round(BOARD.clock_hz), build=build)
    top = UP5KTop(identity, baud=3_000_000,
                  lights=lambda platform: [platform.request(f"led_{color}", 0, dir="-")
                                           for color in "gr"])
    return Design(platform=ICEBreakerPlatform(), top=top, target_hz=BOARD.clock_hz,
                  options=OPTIONS)
