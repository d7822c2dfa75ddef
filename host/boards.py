"""Board profiles: what a device is made of and what its memory can do."""

from dataclasses import dataclass

from gradgate.hw.config import Config

from .errors import GradgateError

__all__ = ["Board", "BOARDS", "board"]


@dataclass(frozen=True, kw_only=True)
class Board:
    """One board, or one configuration that exists in simulation only.

    Parameters
    ----------
    name : str
        The key in BOARDS.
    description : str
        One line for people.
    config : Config
        Parameters of the gateware.
    memory_size : int
        Device memory in bytes.
    clock_hz : float
        Clock of the gateware; turns cycles into seconds.
    memory_latency : int
        Cycles from a read burst's address to its first beat.
    beat_cycles : float
        Cycles per beat that the memory sustains on long bursts, >= 1.
    shared_bus : bool
        Reads and writes share the bandwidth, as on a DRAM; otherwise each direction has it.
    """

    name: str
    description: str
    config: Config
    memory_size: int
    clock_hz: float
    memory_latency: int
    beat_cycles: float
    shared_bus: bool = False

    @property
    def peak_macs(self):
        """Multiply-accumulates per second with every multiplier busy."""
        return self.config.tm * self.config.tn * self.clock_hz


BOARDS = {
    b.name: b
    for b in (
        Board(
            name="ulx3s-85f",
            description="ULX3S, LFE5U-85F: 8x16 bf16, 32 MB SDRAM of 16 bits",
            config=Config(tm=8, tn=16, fmt="bf16", beat_bits=64),
            memory_size=32 << 20,
            clock_hz=80e6,
            memory_latency=12,
            # a 64-bit beat is four words of the 16-bit SDRAM; 87 % of its peak is assumed, which is
            # what LiteDRAM's native port is good for with bursts of 64 words
            beat_cycles=4.6,
            shared_bus=True,
        ),
        Board(
            name="zcu102",
            description="16x16 fp32, the array of EF-Train (simulation only)",
            config=Config(
                tm=16, tn=16, fmt="fp32", beat_bits=128, a_depth=4096, b_depth=4096, acc_depth=2048
            ),
            memory_size=512 << 20,
            clock_hz=100e6,
            memory_latency=40,
            beat_cycles=1.0,
        ),
        Board(
            name="tiny",
            description="2x4 bf16, small buffers: for tests and waveforms (simulation only)",
            config=Config(
                tm=2, tn=4, fmt="bf16", beat_bits=32, a_depth=256, b_depth=256, acc_depth=128
            ),
            memory_size=4 << 20,
            clock_hz=50e6,
            memory_latency=8,
            beat_cycles=1.0,
        ),
    )
}


def board(name):
    """The profile of that name.

    Raises GradgateError, listing the names there are, for any other.
    """
    try:
        return BOARDS[name]
    except KeyError:
        raise GradgateError(f"no board {name!r}; there are {', '.join(sorted(BOARDS))}") from None
