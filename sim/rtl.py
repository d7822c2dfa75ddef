"""Device on the simulated gateware: the Verilated top level with clock, bus and memory in C++."""

import ctypes
from fractions import Fraction

import numpy as np
from gradgate.boards import MemoryTiming
from gradgate.device import RECORD, UNITS, Device, check_memory_size
from gradgate.errors import BusError, DeviceError, DeviceTimeout
from gradgate.hw import isa
from gradgate.hw.control import ID, REGISTERS, VERSION
from gradgate.registers import COUNT, RESET, START, Registers
from gradgate.sim import verilate

__all__ = ["MemoryTiming", "Timing", "Harness", "RTLDevice"]

CHUNK = 200_000  # cycles between two looks at Ctrl-C


class Timing(ctypes.Structure):
    """struct Timing of sim/channel.h."""

    _fields_ = [(name, ctypes.c_uint32) for name in (
        "latency", "num", "den", "stall", "shared", "outstanding", "row_bytes", "row_cycles",
        "refresh_interval", "refresh_cycles")]

    @classmethod
    def of(cls, timing):
        """The same as a MemoryTiming."""
        pace = Fraction(timing.beat_cycles).limit_denominator(1000)
        return cls(timing.latency, pace.numerator, pace.denominator, int(timing.stall * 2**32),
                   timing.shared, timing.outstanding, timing.row_bytes, timing.row_cycles,
                   timing.refresh_interval, timing.refresh_cycles)


class Harness:
    """A simulator library: registers, memory and clock of one simulated device.

    Parameters
    ----------
    library : path
        From sim/verilate.py.
    memory_size : int
        Bytes.
    timing : MemoryTiming
    seed : int
        Of the stalls, and of registers and memories without an initial value.
    trace : path or None
        VCD file to write; the library must be built for it.

    Raises
    ------
    OSError
        `trace` cannot be written.
    MemoryError
        There is no room for `memory_size` bytes.
    """

    def __init__(self, library, memory_size, *, timing, seed=0, trace=None):
        self._handle = None
        if trace:
            open(trace, "wb").close()  # the simulator would not tell
        self._lib = ctypes.CDLL(str(library))
        for name, result, *arguments in (
                ("open", ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64,
                 ctypes.c_char_p),
                ("close", None), ("reset", None), ("cycles", ctypes.c_uint64),
                ("memory", ctypes.c_void_p), ("message", ctypes.c_char_p),
                ("bus_error", ctypes.c_char_p), ("clear_error", None), ("restart_refresh", None),
                ("fail", None, ctypes.c_uint64, ctypes.c_uint64),
                ("write_register", ctypes.c_int, ctypes.c_uint32, ctypes.c_uint32),
                ("read_register", ctypes.c_int, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32)),
                ("run", ctypes.c_int, ctypes.c_uint64),
                ("ended", ctypes.c_uint64), ("clear_records", None),
                ("records", ctypes.c_void_p, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint64))):
            function = getattr(self._lib, f"gradgate_{name}")
            function.restype = result
            function.argtypes = arguments if name == "open" else [ctypes.c_void_p, *arguments]
        self._handle = self._lib.gradgate_open(
            memory_size, ctypes.byref(Timing.of(timing)), seed,
            str(trace).encode() if trace else None)
        if not self._handle:
            raise MemoryError(f"no room for {memory_size} bytes of device memory")
        address = self._lib.gradgate_memory(self._handle)
        self._memory = memoryview((ctypes.c_uint8 * memory_size).from_address(address)).cast("B")

    def _call(self, name, *arguments):
        if self._handle is None:
            raise ValueError("the device is closed")
        return getattr(self._lib, f"gradgate_{name}")(self._handle, *arguments)

    def _checked(self, name, *arguments):
        result = self._call(name, *arguments)
        if result < 0:
            raise DeviceError(self._call("message").decode())
        return result

    @property
    def memory(self):
        """Device memory as a writable memoryview; not to be used after close."""
        if self._handle is None:
            raise ValueError("the device is closed")
        return self._memory

    @property
    def cycles(self):
        """Clock cycles since the simulator was opened."""
        return self._call("cycles")

    def reset(self):
        """Pulse the reset of the device and of the bus."""
        self._call("reset")

    def read_register(self, offset):
        value = ctypes.c_uint32()
        self._checked("read_register", offset, ctypes.byref(value))
        return value.value

    def write_register(self, offset, value):
        self._checked("write_register", offset, value)

    def run(self, cycles):
        """Clock until the interrupt, at most `cycles`; whether it came."""
        return bool(self._checked("run", cycles))

    @property
    def bus_error(self):
        """The first access that memory answered with an error since the last start, in words."""
        return self._call("bus_error").decode()

    def restart_refresh(self):
        """Count the refreshes of memory from the next cycle on, so that what runs next takes the
        same time whenever it runs."""
        self._call("restart_refresh")

    def clear_error(self):
        self._call("clear_error")

    @property
    def ended(self):
        """The value of `cycles` in the cycle in which the interrupt rose last."""
        return self._call("ended")

    def clear_records(self):
        self._call("clear_records")

    def records(self, unit):
        """What `unit`, by number, has executed since they were cleared: an array of RECORD.

        `start` and `done` are values of `cycles`. An instruction that has not completed has 0 in
        `done` and `active`.
        """
        count = ctypes.c_uint64()
        address = self._call("records", unit, ctypes.byref(count))
        return np.frombuffer(ctypes.string_at(address, count.value * RECORD.itemsize),
                             RECORD).copy()

    def fail(self, address, size):
        """Answer every access to `size` bytes at `address` with a bus error; size 0: none."""
        self._call("fail", address, address + size)

    def close(self):
        if self._handle is not None:
            self._memory = None
            self._lib.gradgate_close(self._handle)
            self._handle = None

    def __del__(self):
        self.close()


DRAIN = 100_000  # looks at STATUS until a reset must have found the bus empty


def _log2(value):
    return value.bit_length() - 1


class RTLDevice(Device):
    """Device simulated cycle by cycle from the Verilog of AXITop.

    Parameters
    ----------
    config : Config
    memory_size : int
        Bytes of device memory, at most 2^addr_bits; zero at first.
    timing : MemoryTiming or None
        None: MemoryTiming().
    seed : int
        Of memory stalls and of the power-up state of registers and on-chip memories.
    trace : path or None
        VCD file to write.
    asserts : bool
        Check the assertions of the gateware.
    max_cycles : int
        Last resort: a program that runs longer is stopped with DeviceTimeout.
    progress : callable or None
        Called with the cycles of the present program so far, several times a second.

    Raises
    ------
    TypeError, ValueError
        `memory_size` is not an int in range.
    DeviceError
        The simulated device does not answer as `config` says.
    MemoryError
        There is no room for the memory.
    """

    name = "rtl"

    def __init__(self, config, memory_size, timing=None, seed=0, trace=None, *, asserts=True,
                 max_cycles=10**12, progress=None):
        check_memory_size(config, memory_size)
        self.config = config
        self.memory_size = memory_size
        self.max_cycles = max_cycles
        self.progress = progress
        self.timing = timing or MemoryTiming()
        library = verilate.library(config, trace=bool(trace), asserts=asserts)
        self.harness = Harness(library, memory_size, timing=self.timing, seed=seed, trace=trace)
        self._check_identity()

    def write(self, address, data):
        data = memoryview(data).cast("B")
        self._check_range(address, len(data))
        self.harness.memory[address:address + len(data)] = data

    def read(self, address, size):
        self._check_range(address, size)
        return bytes(self.harness.memory[address:address + size])

    def run(self, address, *, timeout=1_000_000):
        self._check_range(address, isa.BYTES)
        try:
            self.harness.clear_error()
            self.harness.clear_records()
            self._set("PROG_ADDR", address)
            self._set("TIMEOUT", timeout)
            self.harness.restart_refresh()
            self._set("CTRL", START)
            self._wait(address)
            registers = self._registers()
            if fault := registers.fault():
                kind, what = fault
                if kind is BusError:
                    what = f"{what}: {self.harness.bus_error}"
                raise kind(f"{what}\n{registers.situation(address, self._program)}")
            counters = registers.counters(self.config)
            counters.records = self._records(counters.cycles)
            return counters
        except BaseException:
            self._recover()
            raise

    def close(self):
        self.harness.close()

    def _wait(self, address):
        cycles = 0
        while not self.harness.run(min(CHUNK, self.max_cycles - cycles)):
            cycles += CHUNK
            if self.progress:
                self.progress(cycles)
            if cycles >= self.max_cycles:
                raise DeviceTimeout(f"still running after {self.max_cycles} cycles\n"
                                    f"{self._registers().situation(address, self._program)}")

    def _recover(self):
        """Reset the device, and wait until memory has finished what was under way."""
        try:
            self._set("CTRL", RESET)
            for _ in range(DRAIN):
                if not self._get("STATUS"):
                    return
        except DeviceError:
            pass
        self.harness.reset()

    def _check_range(self, address, size):
        if not (0 <= address and address + size <= self.memory_size):
            raise BusError(f"{size} bytes at {address:#x} are outside the memory of "
                           f"{self.memory_size} bytes")

    def _check_identity(self):
        config = self.config
        expected = {
            "ID": ID,
            "VERSION": VERSION,
            "CONFIG0": (config.tm | config.tn << 8 | (config.fmt == "fp32") << 16
                        | _log2(config.beat_bytes) << 20 | _log2(config.max_burst) << 24
                        | (config.read_ports == 3) << 28 | (config.write_ports == 2) << 29),
            "CONFIG1": (_log2(config.a_depth) | _log2(config.b_depth) << 8
                        | _log2(config.acc_depth) << 16)}
        for name, value in expected.items():
            if (found := self._get(name)) != value:
                raise DeviceError(f"register {name} is {found:#010x}, not {value:#010x} as for "
                                  f"{config}")

    def _get(self, name):
        return self.harness.read_register(REGISTERS[name])

    def _set(self, name, value):
        self.harness.write_register(REGISTERS[name], value)

    def _registers(self):
        # in order, so that the low half of a counter comes before its high half
        return Registers([self.harness.read_register(4 * k) for k in range(COUNT)])

    def _records(self, cycles):
        """Counters.records of a program that has just ended after `cycles` cycles."""
        begin = self.harness.ended - cycles  # the interrupt rises in the first cycle after
        records = {}
        for u, unit in enumerate(UNITS):
            records[unit] = own = self.harness.records(u)
            own["start"] -= np.uint64(begin)
            own["done"] -= np.uint64(begin)
        return records

    def _program(self, address, size):
        return self.read(address, min(size, self.memory_size - address))
