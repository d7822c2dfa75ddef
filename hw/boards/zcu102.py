"""The array of EF-Train and the memory around it: for the comparison, simulation only."""

from gradgate.hw.boards.profile import Board, MemoryTiming
from gradgate.hw.config import Config

__all__ = ["BOARD"]

BOARD = Board(
    name="zcu102",
    description="16x16 fp32, the array of EF-Train, DDR4 at three ports (simulation only)",
    config=Config(
        tm=16,
        tn=16,
        fmt="fp32",
        beat_bits=128,
        a_depth=8192,
        b_depth=16384,
        acc_depth=4096,
        max_burst=64,
        read_ports=3,
        write_ports=2,
    ),
    memory_size=1 << 32,
    clock_hz=100e6,
    timing=MemoryTiming(
        latency=40,
        beat_cycles=1,
        row_bytes=8192,
        row_cycles=4,
        refresh_interval=780,
        refresh_cycles=35,
    ),
)
