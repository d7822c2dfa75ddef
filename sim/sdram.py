"""Bursts through hw/sdram.py and LiteDRAM to a simulated SDRAM chip, cycle by cycle."""

import ctypes
from pathlib import Path

import numpy as np
from amaranth.back import verilog
from amaranth.hdl import IOPort, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib.wiring import In
from gradgate.errors import DeviceError
from gradgate.hw.sdram import SDRAM
from gradgate.sim import litedram, verilate

__all__ = ["Transfer", "Bench", "library"]

HERE = Path(__file__).parent
START = 100_000  # cycles in which the memory must have started, at any clock


class Transfer(ctypes.Structure):
    """One burst, and the cycles in which its command, first and last beat and answer pass."""

    _fields_ = [(n, ctypes.c_uint32) for n in ("port", "write", "addr", "beats")] + [
        (n, ctypes.c_uint64) for n in ("earliest", "address", "first", "last", "answer")]


class Counts(ctypes.Structure):
    """Commands that the chip has seen."""

    _fields_ = [(n, ctypes.c_uint64) for n in ("activates", "reads", "writes", "refreshes")]


def library(config, controller):
    """Path of the simulator of SDRAM with a `controller` of gradgate.dram; built when not in the
    cache."""
    dq = IOPort(16, name="dq")
    sdram = SDRAM(config, controller.init, dq)
    ports = {"dq": (dq, PortDirection.Inout)}
    for path, member, value in sdram.signature.flatten(sdram):
        direction = PortDirection.Input if member.flow == In else PortDirection.Output
        ports["_".join(path)] = (Value.cast(value), direction)
    return verilate.build(
        "sdram", verilog.convert(sdram, name="Bench", ports=ports, emit_src=False), top="Bench",
        harness="sdram.cpp", defines={"BEAT_BYTES": config.beat_bytes},
        **litedram.options(controller))


class Bench:
    """The memory, started; closed with `close` or as a context.

    Parameters
    ----------
    path : path
        From `library`.
    config : Config
    clock_hz : float
        For the times of the chip.
    seed : int
        Of registers without an initial value, of data pins that nobody drives, and of stalls.

    Raises
    ------
    DeviceError
        The memory does not start, or the controller breaks a rule of the chip meanwhile.
    """

    def __init__(self, path, config, clock_hz, *, seed=0):
        self._config, self._lib = config, ctypes.CDLL(str(path))
        for name, result, *arguments in (
                ("open", ctypes.c_void_p, ctypes.c_double, ctypes.c_uint32),
                ("close", None, ctypes.c_void_p), ("words", ctypes.c_void_p, ctypes.c_void_p),
                ("message", ctypes.c_char_p, ctypes.c_void_p),
                ("cycles", ctypes.c_uint64, ctypes.c_void_p),
                ("counts", ctypes.POINTER(Counts), ctypes.c_void_p),
                ("start", ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64),
                ("run", ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32,
                 ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p,
                 ctypes.c_uint64)):
            function = getattr(self._lib, f"sdram_{name}")
            function.restype, function.argtypes = result, arguments
        self._bench = self._lib.sdram_open(clock_hz, seed)
        if not self._lib.sdram_start(self._bench, START):
            raise DeviceError(self._lib.sdram_message(self._bench).decode() or "it never starts")

    @property
    def cycles(self):
        """Clock cycles since power-up."""
        return self._lib.sdram_cycles(self._bench)

    @property
    def counts(self):
        """The chip's Counts since power-up: a copy."""
        return Counts.from_buffer_copy(self._lib.sdram_counts(self._bench).contents)

    def run(self, transfers, data=b"", *, outstanding=8, stall=0.0, limit=100_000_000):
        """Do transfers, tuples (port, write, address, beats, earliest cycle).

        Those of a direction are done in order, at most `outstanding` at a time; each begins in its
        earliest cycle, counted from now, if it can. Ports are not told apart.

        Parameters
        ----------
        data : bytes
            What is written, in order; zeros if there is none.
        stall : float
            Probability that a master lets a cycle pass, each stream by itself.
        limit : int
            Cycles.

        Returns
        -------
        list of Transfer, bytes, int
            The same transfers with their cycles; what was read, in order; cycles in all.

        Raises
        ------
        DeviceError
            A rule of the chip or of the burst port was broken, or it takes too long.
        """
        done = (Transfer * len(transfers))(*(Transfer(*t) for t in transfers))
        sizes = [sum(t.beats for t in done if t.write == w) * self._config.beat_bytes
                 for w in (0, 1)]
        source = np.zeros(sizes[1], np.uint8)
        source[:len(data)] = np.frombuffer(data, np.uint8)
        target = np.zeros(sizes[0], np.uint8)
        cycles = self._lib.sdram_run(self._bench, done, len(done), outstanding,
                                     int(stall * 2**32), source.ctypes.data, target.ctypes.data,
                                     limit)
        if not cycles:
            raise DeviceError(self._lib.sdram_message(self._bench).decode())
        return list(done), target.tobytes(), cycles

    def close(self):
        if self._bench:
            self._lib.sdram_close(self._bench)
            self._bench = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
