"""Small enough for tests and waveforms; simulation only."""

from gradgate.hw.boards.profile import Board, MemoryTiming
from gradgate.hw.config import Config

__all__ = ["BOARD"]

BOARD = Board(
    name="tiny",
    description="2x4 bf16, small buffers: for tests and waveforms (simulation only)",
    config=Config(
        tm=2, tn=4, fmt="bf16", beat_bits=32, a_depth=256, b_depth=256, acc_depth=128
    ),
    memory_size=4 << 20,
    clock_hz=50e6,
    timing=MemoryTiming(latency=8),
)
