"""Board profiles: what a device is made of and what its memory can do.

A board of one's own is a TOML file whose path takes the place of the name: `board("mine.toml")`.
Its keys are the parameters of Board, with those of Config in the table [config] and those of
MemoryTiming in the table [timing]. What has a default there may be left out.

    name = "mine"
    description = "two banks of SDRAM on a board of mine"
    memory_size = 0x4000000  # bytes
    clock_hz = 75e6

    [config]
    tm = 8
    tn = 16
    fmt = "bf16"
    beat_bits = 64
    a_depth = 1024
    b_depth = 2048
    acc_depth = 1024
    max_burst = 64
    read_ports = 1
    write_ports = 1

    [timing]
    latency = 12
    beat_cycles = 2.0
    shared = true
    stall = 0.0
    outstanding = 8
    row_bytes = 2048
    row_cycles = 8
    refresh_interval = 585
    refresh_cycles = 12
"""

from dataclasses import dataclass
from fractions import Fraction

from gradgate.hw.config import Config, check_config

from .errors import GradgateError

__all__ = ["MemoryTiming", "Board", "BOARDS", "board"]


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
        Device memory in bytes, a multiple of the beat, at most 2^32.
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
        _check_type("clock_hz", self.clock_hz, (int, float), "a number")
        if not 0 < self.clock_hz < float("inf"):
            raise ValueError(f"clock_hz must be greater than 0, not {self.clock_hz!r}")

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
        ),
        Board(
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
        ),
        Board(
            name="icebreaker",
            description="iCEBreaker, iCE40UP5K: 2x4 bf16, 128 KiB on chip (gateware not built yet)",
            config=Config(
                tm=2, tn=4, fmt="bf16", beat_bits=32, a_depth=256, b_depth=256, acc_depth=64
            ),
            memory_size=128 << 10,
            clock_hz=24e6,
            timing=MemoryTiming(latency=3, beat_cycles=1, shared=True),
        ),
        Board(
            name="tiny",
            description="2x4 bf16, small buffers: for tests and waveforms (simulation only)",
            config=Config(
                tm=2, tn=4, fmt="bf16", beat_bits=32, a_depth=256, b_depth=256, acc_depth=128
            ),
            memory_size=4 << 20,
            clock_hz=50e6,
            timing=MemoryTiming(latency=8),
        ),
    )
}


def board(name):
    """The profile of that name, or in the file of that path if it ends in `.toml`.

    Raises GradgateError for a name that there is not, listing those there are, and for a file that
    is not a profile, with the key at fault and what it must be.
    """
    if name.endswith(".toml"):
        from .boardfile import read

        return read(name)
    try:
        return BOARDS[name]
    except KeyError:
        raise GradgateError(
            f"no board {name!r}; there are {', '.join(sorted(BOARDS))}, and files ending in .toml"
        ) from None
