"""What a device is to the rest of the host: memory, and a way to run a program in it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from .boards import MemoryTiming

__all__ = ["Device", "Counters", "UNITS", "RECORD", "check_memory_size"]

UNITS = ("LOAD_A", "LOAD_B", "COMPUTE", "POST")

# one instruction in Counters.records
RECORD = np.dtype([(name, np.uint64) for name in ("start", "done", "active", "starved")])


@dataclass
class Counters:
    """What the device counted while it ran one program, or the sum over several.

    `cycles` is None on a backend without a clock. The dicts have one entry per unit of UNITS:
    `busy`, cycles executing an instruction; `starved`, cycles waiting for tokens with an
    instruction at hand; `active`, cycles of useful work (docs/architecture.md, section 2);
    `instructions`, how many completed.

    `records` maps each unit to a numpy array of RECORD, one entry per instruction in the order of
    execution: `start`, the cycle in which the unit accepted it, and `done`, that in which it
    completed, both counted from the first cycle of the program; `active`, cycles of useful work
    after the completion of the one before and up to its own; `starved`, cycles that it waited for
    tokens at the head of the queue. None on a backend without a clock, and in a sum.
    """

    cycles: int | None = None
    busy: dict[str, int] = field(default_factory=lambda: dict.fromkeys(UNITS, 0))
    starved: dict[str, int] = field(default_factory=lambda: dict.fromkeys(UNITS, 0))
    active: dict[str, int] = field(default_factory=lambda: dict.fromkeys(UNITS, 0))
    instructions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(UNITS, 0))
    read_bytes: int = 0
    write_bytes: int = 0
    records: dict[str, np.ndarray] | None = field(default=None, repr=False, compare=False)

    def __add__(self, other):
        known = [c for c in (self.cycles, other.cycles) if c is not None]
        return Counters(
            sum(known) if known else None,
            *(
                {u: a[u] + b[u] for u in UNITS}
                for a, b in (
                    (self.busy, other.busy),
                    (self.starved, other.starved),
                    (self.active, other.active),
                    (self.instructions, other.instructions),
                )
            ),
            self.read_bytes + other.read_bytes,
            self.write_bytes + other.write_bytes,
        )


def check_memory_size(config, memory_size):
    """Raise TypeError or ValueError unless `memory_size` bytes are what addresses of `config`
    reach."""
    if type(memory_size) is not int:
        raise TypeError(f"memory_size must be int, not {memory_size!r}")
    if not 0 < memory_size <= 1 << 32:
        raise ValueError(f"memory_size must be in 1..2^32, not {memory_size!r}")
    if memory_size > 1 << config.addr_bits:
        raise ValueError(
            f"memory_size must be at most {1 << config.addr_bits} as addr_bits is "
            f"{config.addr_bits}, not {memory_size!r}"
        )


class Device(ABC):
    """One gradgate device: `config` (gradgate.hw.config.Config), `memory_size` in bytes, `name`,
    and `timing`, the MemoryTiming to plan for. `reads_are_cheap` if reading all weights takes next
    to no time.

    Addresses are byte addresses from 0. After any exception of `run` the device is reset and
    usable; its memory keeps its contents.
    """

    name: str
    memory_size: int
    timing = MemoryTiming()
    reads_are_cheap = True
    resident = None  # the Runtime whose network is in memory

    @abstractmethod
    def write(self, address, data):
        """Copy `data` (bytes-like, contiguous) to device memory."""

    @abstractmethod
    def read(self, address, size):
        """`size` bytes of device memory, as bytes."""

    @abstractmethod
    def run(self, address, *, timeout=1_000_000):
        """Run the program at `address` to its END; return Counters.

        `timeout` is in cycles without progress. Raises DeviceTimeout, BusError, ProgramError,
        NumericError.
        """

    def close(self):  # noqa: B027  (a backend may have nothing to release)
        """Release the device; closing twice does no harm."""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
