"""ULX3S with an ECP5 of 85,000 LUTs."""

from gradgate.hw.boards.profile import Board, MemoryTiming
from gradgate.hw.config import Config

__all__ = ["BOARD"]

BOARD = Board(
    name="ulx3s-85f",
    description="ULX3S, LFE5U-85F: 8x16 bf16, 32 MB SDRAM of 16 bits",
    config=Config(tm=8, tn=16, fmt="bf16", beat_bits=64, acc_depth=2048),
    memory_size=32 << 20,
    clock_hz=80e6,
    # a 64-bit beat is four words of the SDRAM, which runs at the clock of the gateware; the
    # rest reproduces LiteDRAM and such a chip: streams within 3 %, the bursts of a training
    # step of the digits within 0.2 % (tests/sim/test_sdram.py)
    timing=MemoryTiming(
        latency=12,
        beat_cycles=4,
        shared=True,
        row_bytes=1024,
        row_cycles=8,
        refresh_interval=625,
        refresh_cycles=12,
    ),
)
