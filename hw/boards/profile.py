"""What a profile consists of: what the host has to know of a board."""

from dataclasses import dataclass
from fractions import Fraction

from gradgate.hw.config import Config, check_config

__all__ = ["MemoryTiming", "Board"]


def _check_int(name, value, low, high):
    if type(value) is not int:
        raise TypeError(f"{name} must be int, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be in {low}..{high}, not {value!r}")


def _check_type(name, value, kinds, words):
    if type(value) not in kinds:
        raise TypeError(f"{name} must be {words}, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """Timing of the memory behind the AXI4 ports; sim/memory.h says what happens in which cycle.

    Parameters
    ----------
    latency : int
        Cycles from the address of a read to its first beat, and from the end of a write to its
        response; 1..65535. The same whatever else goes on.
    beat_cycles : int, float or Fraction
        Cycles per beat, 1..1000: the bandwidth of a channel.
    shared : bool
        All ports and both directions share one channel, as on a DRAM; otherwise each port has one
        per direction.
    stall : float
        Probability 0..1 (exclusive) that a channel of a bus (AR, R, AW, W, B, each by itself)
        stalls in a cycle. For tests.
    outstanding : int
        Bursts of each port and direction that may be under way, 1..1024.
    row_bytes : int
        Bytes of a row of the DRAM, a power of two; 0: rows do not matter.
    row_cycles : int
        Cycles lost, 0..1000, when a burst is in another row or direction than the one before it.
        Without effect when rows do not matter.
    refresh_interval : int
        Cycles from refresh to refresh, up to 2^32 - 1; 0: never.
    refresh_cycles : int
        Cycles that one takes, less than the interval; 0 without refresh.

    Raises
    ------
    TypeError
        A parameter has the wrong type.
    ValueError
        A parameter is out of range.
    """

    latency: int = 10
    beat_cycles: float | Fraction = 1
    shared: bool = False
    stall: float = 0.0
    outstanding: int = 8
    row_bytes: int = 0
    row_cycles: int = 0
    refresh_interval: int = 0
    refresh_cycles: int = 0

    def __post_init__(self):
        _check_type("beat_cycles", self.beat_cycles, (int, float, Fraction), "a number")
        _check_type("shared", self.shared, (bool,), "bool")
        _check_type("stall", self.stall, (int, float), "a number")
        _check_int("latency", self.latency, 1, 65535)
        if not 1 <= self.beat_cycles <= 1000:
            raise ValueError(f"beat_cycles must be in 1..1000, not {self.beat_cycles!r}")
        if not 0 <= self.stall < 1:
            raise ValueError(f"stall must be at least 0 and less than 1, not {self.stall!r}")
        _check_int("outstanding", self.outstanding, 1, 1024)
        _check_int("row_bytes", self.row_bytes, 0, 1 << 31)
        if self.row_bytes & (self.row_bytes - 1):
            raise ValueError(f"row_bytes must be 0 or a power of two, not {self.row_bytes!r}")
        _check_int("row_cycles", self.row_cycles, 0, 1000)
        _check_int("refresh_interval", self.refresh_interval, 0, (1 << 32) - 1)
        _check_int("refresh_cycles", self.refresh_cycles, 0, max(0, self.refresh_interval - 1))

    @property
    def miss_cycles(self):
        """Cycles that opening a row costs, 0 where memory has no rows."""
        return self.row_cycles if self.row_bytes else 0

    @property
    def capacity(self):
        """Part of the time in which memory is not refreshing itself."""
        return 1.0 - (self.refresh_interval and self.refresh_cycles / self.refresh_interval)


@dataclass(frozen=True, kw_only=True)
class Board:
    """One board, or one configuration that exists in simulation only.

    Parameters
    ----------
    name : str
        By which the command line and `gradgate.board` know it; unique.
    description : str
        One line for people.
    config : Config
        Parameters of the gateware.
    memory_size : int
        Device memory in bytes, a multiple of the beat, at most 2^addr_bits.
    clock_hz : float
        Clock of the gateware; turns cycles into seconds.
    timing : MemoryTiming
        What the memory can do.

    Raises
    ------
    TypeError
        A parameter has the wrong type.
    ValueError
        A parameter is out of range.
    """

    name: str
    description: str
    config: Config
    memory_size: int
    clock_hz: float
    timing: MemoryTiming

    def __post_init__(self):
        for name in ("name", "description"):
            _check_type(name, getattr(self, name), (str,), "str")
        check_config(self.config)
        _check_type("timing", self.timing, (MemoryTiming,), "a MemoryTiming")
        _check_int("memory_size", self.memory_size, 1, 1 << 32)
        if self.memory_size % self.config.beat_bytes:
            raise ValueError(
                f"memory_size must be a multiple of the beat, {self.config.beat_bytes} bytes, "
                f"not {self.memory_size!r}"
            )
        if self.memory_size > 1 << self.config.addr_bits:
            raise ValueError(
                f"memory_size must be at most {1 << self.config.addr_bits} as config.addr_bits is "
                f"{self.config.addr_bits}, not {self.memory_size!r}"
            )
        _check_type("clock_hz", self.clock_hz, (int, float), "a number")
        if not 0 < self.clock_hz < float("inf"):
            raise ValueError(f"clock_hz must be greater than 0, not {self.clock_hz!r}")

    @property
    def peak_macs(self):
        """Multiply-accumulates per second with every multiplier of the array busy."""
        return self.config.macs * self.clock_hz
