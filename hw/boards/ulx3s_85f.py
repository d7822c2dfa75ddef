"""ULX3S with an ECP5 of 85,000 LUTs."""

from gradgate.dram import controller
from gradgate.hw.boards.design import Design
from gradgate.hw.boards.profile import Board, MemoryTiming
from gradgate.hw.config import Config
from gradgate.hw.ecp5 import DENSE, SDRAMTop
from gradgate.hw.link_format import Identity

__all__ = ["BOARD", "LOADER", "design"]

LOADER = "ulx3s"  # for openFPGALoader

BOARD = Board(
    name="ulx3s-85f",
    description="ULX3S, LFE5U-85F: 8x16 bf16, 32 MB SDRAM of 16 bits",
    config=Config(tm=8, tn=16, fmt="bf16", beat_bits=32, acc_depth=2048, max_burst=128,
                  addr_bits=25),
    memory_size=32 << 20,
    clock_hz=80e6,
    # a beat is two words of the SDRAM, which runs at the clock of the gateware: wider ones would
    # hardly be faster, and take 5,000 LUTs more (docs/boards.md). The rest reproduces LiteDRAM and
    # such a chip: streams within 3 %, the bursts of a training step of the digits within 0.2 %
    # (tests/sim/test_sdram.py)
    timing=MemoryTiming(
        latency=12,
        beat_cycles=2,
        shared=True,
        row_bytes=1024,
        row_cycles=8,
        refresh_interval=625,
        refresh_cycles=14,
    ),
)


def design(build=bytes(8)):
    """The Design of the bitstream; `build` is Identity.build."""
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    identity = Identity(board=BOARD.name, config=BOARD.config, memory_size=BOARD.memory_size,
                        clock_hz=round(BOARD.clock_hz), build=build)
    memory = controller(BOARD.clock_hz, device="LFE5U-85F-6BG381C")
    top = SDRAMTop(
        identity, memory.init, degrees=63, baud=3_000_000,
        lights=lambda platform: [platform.request("led", n, dir="-") for n in range(3)])
    return Design(platform=ULX3S_85F_Platform(), top=top, target_hz=BOARD.clock_hz,
                  files={"litedram_core.v": memory.verilog}, options=DENSE)
