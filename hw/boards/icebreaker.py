"""iCEBreaker with an iCE40UP5K."""

from gradgate.hw.boards.profile import Board, MemoryTiming
from gradgate.hw.config import Config

__all__ = ["BOARD"]

BOARD = Board(
    name="icebreaker",
    description="iCEBreaker, iCE40UP5K: 2x4 bf16, 128 KiB on chip (gateware not built yet)",
    config=Config(
        tm=2, tn=4, fmt="bf16", beat_bits=32, a_depth=256, b_depth=256, acc_depth=64
    ),
    memory_size=128 << 10,
    clock_hz=24e6,
    timing=MemoryTiming(latency=3, beat_cycles=1, shared=True),
)
