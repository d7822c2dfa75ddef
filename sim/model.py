"""Backend `model`: the program executed bit-exactly by compiled C++, without a clock."""

import ctypes
from pathlib import Path

import numpy as np
from gradgate.boards import MemoryTiming
from gradgate.device import UNITS, Counters, Device, check_memory_size
from gradgate.errors import BusError, DeviceTimeout, NumericError, ProgramError
from gradgate.hw import isa
from gradgate.sim.toolchain import shared_library

__all__ = ["ModelDevice", "model_library"]

_HERE = Path(__file__).parent
_SOURCES = ("model.cpp", "model_load.cpp", "model_compute.cpp", "model_post.cpp", "model_state.h",
            "model_array.h", "model_numerics.h", "model_races.h")
_DEADLOCK, _BUS, _PROGRAM = 1, 2, 3  # enum Status of model_state.h


class _Report(ctypes.Structure):
    _fields_ = [
        ("status", ctypes.c_int32), ("nonfinite", ctypes.c_uint32), ("overflow", ctypes.c_uint32),
        ("instruction", ctypes.c_int64), ("heads", ctypes.c_int64 * 4),
        ("tokens", ctypes.c_uint32 * 16), ("fetched", ctypes.c_uint64),
        ("completed", ctypes.c_uint64 * 4), ("active", ctypes.c_uint64 * 4),
        ("read_bytes", ctypes.c_uint64), ("write_bytes", ctypes.c_uint64),
        ("text", ctypes.c_char * 224)]


def model_library(config):
    """The compiled model for one array and operand format, a ctypes library; built on first use."""
    sources = [_HERE / name for name in _SOURCES] + [("isa.h", isa.c_header())]
    path = shared_library(
        f"model_{config.tm}x{config.tn}_{config.fmt}", sources,
        defines={"TM": config.tm, "TN": config.tn, "MAN": config.man_bits})
    library = ctypes.CDLL(str(path))
    library.model_create.restype = ctypes.c_void_p
    library.model_create.argtypes = [ctypes.c_void_p, ctypes.c_uint64, *[ctypes.c_uint32] * 4,
                                     ctypes.c_int32]
    library.model_destroy.argtypes = [ctypes.c_void_p]
    library.model_run.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.POINTER(_Report)]
    library.model_dotacc.argtypes = [ctypes.c_uint64, *[ctypes.c_void_p] * 5]
    library.model_scalar.restype = ctypes.c_uint32
    library.model_scalar.argtypes = [ctypes.c_int32, ctypes.c_float, ctypes.c_float,
                                     ctypes.POINTER(ctypes.c_uint8)]
    return library


class ModelDevice(Device):
    """The simulation model as a device: docs/program.md and docs/numerics.md to the bit, no cycles.

    Counters hold instructions, bytes and `active` (exact); `cycles` is None, `busy` and `starved`
    are 0. Buffers and accumulators keep their contents from program to program; at first they hold
    garbage.

    Parameters
    ----------
    config : Config
        The build to model. Burst length and beat width change no result.
    memory_size : int
        Bytes of device memory, at most 2^addr_bits; zero at first.
    check : bool
        Also raise ProgramError when a product, a tag, an accumulation or a drain uses a word that
        was never written, when two units access a word (or region of accumulators) and no token
        puts them in order, when a POST reads ahead what one before it may still be writing, and
        when a sweep visits an accumulator twice. The units run ahead of each other at random as
        far as the tokens allow. Slower.
    timing : MemoryTiming or None
        The memory that compilers plan for; results do not depend on it. None: MemoryTiming().
    """

    name = "model"
    _handle = None

    def __init__(self, config, memory_size, *, check=False, timing=None):
        check_memory_size(config, memory_size)
        if not isinstance(timing, MemoryTiming | None):
            raise TypeError(f"timing must be a MemoryTiming, not {timing!r}")
        self.config = config
        self.timing = timing or MemoryTiming()
        self.memory_size = memory_size
        self._library = model_library(config)
        self._memory = np.zeros(memory_size, np.uint8)
        self._handle = self._library.model_create(
            self._memory.ctypes.data, memory_size, config.beat_bytes, config.a_depth,
            config.b_depth, config.acc_depth, check)
        if not self._handle:
            raise MemoryError("no memory for the model's buffers")

    def write(self, address, data):
        data = memoryview(data).cast("B")
        self._span(address, data.nbytes)[:] = np.frombuffer(data, np.uint8)

    def read(self, address, size):
        return self._span(address, size).tobytes()

    def _span(self, address, size):
        if not 0 <= address <= address + size <= self.memory_size:
            raise ValueError(f"{size} bytes at {address:#x} are outside of the memory of "
                             f"{self.memory_size} bytes")
        return self._memory[address:address + size]

    def run(self, address, *, timeout=1_000_000):
        """Run the program at `address` to its END; return Counters.

        A program that can make no progress is found at once: `timeout` does not matter here.
        """
        if not self._handle:
            raise ValueError("the device is closed")
        self._span(address, isa.BYTES)
        report = _Report()
        self._library.model_run(self._handle, address, ctypes.byref(report))
        self._raise(address, report)
        return Counters(
            active=dict(zip(UNITS, report.active, strict=True)),
            instructions=dict(zip(UNITS, report.completed, strict=True)),
            read_bytes=report.read_bytes, write_bytes=report.write_bytes)

    def _raise(self, address, report):
        text = report.text.decode()
        where = self._instruction(address, report.instruction)
        if report.status == _BUS:
            raise BusError(f"{text}, in {where}")
        if report.status == _DEADLOCK:
            raise DeviceTimeout("\n".join([text, *self._heads(address, report),
                                           "tokens: " + _tokens(report)]))
        if report.status == _PROGRAM:
            details = [text] + ([f"in {where}"] if report.instruction >= 0 else [])
            raise ProgramError("\n".join([*details, "tokens: " + _tokens(report)]))
        if report.nonfinite or report.overflow:
            what = [name for name in ("nonfinite", "overflow") if getattr(report, name)]
            meaning = {"nonfinite": "an infinity or NaN was read",
                       "overflow": "a result overflowed"}
            raise NumericError(f"{' and '.join(meaning[name] for name in what)}, first in {where}")

    def _instruction(self, address, index):
        """One instruction in words; fields that are 0 are left out."""
        start = address + index * isa.BYTES
        if index < 0 or start + isa.BYTES > self.memory_size:
            return f"instruction {index}"
        words = self._memory[start:start + isa.BYTES].view("<u4").tolist()
        if words[0] & 15 not in list(isa.Unit):
            return f"instruction {index}: " + " ".join(f"{word:08x}" for word in words)
        values = isa.decode(words)
        unit = values.pop("unit")
        return f"instruction {index}: {unit.name} " + " ".join(
            f"{name}={value}" for name, value in values.items() if value)

    def _heads(self, address, report):
        for unit, head, done in zip(UNITS, report.heads, report.completed, strict=True):
            if head < 0:
                yield f"{unit}: idle after {done} instructions"
                continue
            wait = int(self._memory[address + head * isa.BYTES]) >> 4
            missing = [UNITS[u] for u in range(4) if wait >> u & 1
                       and not report.tokens[4 * u + UNITS.index(unit)]]
            yield (f"{unit}: waits for {', '.join(missing)} before "
                   f"{self._instruction(address, head)}")

    def close(self):
        if self._handle:
            self._library.model_destroy(self._handle)
            self._handle = None

    def __del__(self):
        self.close()


def _tokens(report):
    """The counters that are not 0, as `from -> to: count`."""
    counts = [f"{UNITS[i // 4]} -> {UNITS[i % 4]}: {count}" for i, count in enumerate(report.tokens)
              if count]
    return ", ".join(counts) or "none"
