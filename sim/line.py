"""A simulated design behind a pseudo-terminal, for the host's driver of serial ports."""

import ctypes
import threading
import time

from gradgate.errors import DeviceError
from gradgate.sim import litedram, verilate

__all__ = ["library", "SimulatedPort", "PATIENCE"]

CHUNK = 20_000  # cycles between two looks at what the caller wants
PATIENCE = 5  # seconds for the host to wait: on a busy machine a simulation hardly gets on
IDLE = 1_000, 0.001  # the same on a line that is not used, and seconds of sleep after them


def library(name, verilog, top, *, busy=False, sdram=None):
    """Path of the simulator of the module `top` of the text `verilog`; built when not in the cache.

    Its ports are clk, rst (synchronous, active high), rx and tx. `name` is for file names only.
    `busy`: the design has a port `running` as well, high while it does things that the line does
    not show. `sdram`: it has the pins of hw/sdram.py as well, by those names, with this
    gradgate.dram.Controller behind; the chip is simulated.
    """
    more = {} if sdram is None else litedram.options(sdram)
    return verilate.build(name, verilog, top=top, harness="line.cpp", **more,
                          defines={"HAS_RUNNING": int(busy), "HAS_SDRAM": int(sdram is not None)})


class SimulatedPort:
    """A design that runs in a thread of its own, with its serial line at a pseudo-terminal.

    The clock runs at full speed while the line is used or the design is busy, otherwise slowly.

    Parameters
    ----------
    path : path
        From `library`.
    bit : float
        Clock cycles per bit of the host's end.
    seed : int
        Of registers and memories without an initial value.
    clock_hz : float
        For the times of an SDRAM.

    Members
    -------
    port : str
        What to open.
    """

    def __init__(self, path, bit, *, seed=0, clock_hz=1e6):
        self._lib = ctypes.CDLL(str(path))
        for name, result, *arguments in (
                ("open", ctypes.c_void_p, ctypes.c_double, ctypes.c_uint64, ctypes.c_double),
                ("close", None, ctypes.c_void_p), ("port", ctypes.c_char_p, ctypes.c_void_p),
                ("message", ctypes.c_char_p, ctypes.c_void_p), ("reset", None, ctypes.c_void_p),
                ("run", ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64),
                ("cycles", ctypes.c_uint64, ctypes.c_void_p),
                ("bytes", None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint64))):
            function = getattr(self._lib, f"line_{name}")
            function.restype, function.argtypes = result, arguments
        self._handle = self._lib.line_open(bit, seed, clock_hz)
        if not self._handle:
            raise OSError("no pseudo-terminal to be had")
        self.port = self._lib.line_port(self._handle).decode()
        self._stop, self._lock, self._failure = threading.Event(), threading.Lock(), None
        self._thread = threading.Thread(target=self._clock, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()
        self._lib.line_close(self._handle)
        if self._failure and exc == (None,) * 3:
            raise DeviceError(self._failure)

    def reset(self):
        """Pulse the reset of the design, as of a button."""
        with self._lock:
            self._lib.line_reset(self._handle)

    @property
    def alive(self):
        """No assertion has failed, and no rule of an SDRAM been broken: what failed is raised at
        the end, as DeviceError."""
        return self._thread.is_alive()

    @property
    def counts(self):
        """(cycles, bytes to the device, bytes from it, bytes from it without a stop bit)."""
        counts = (ctypes.c_uint64 * 3)()
        with self._lock:
            self._lib.line_bytes(self._handle, counts)
            return self._lib.line_cycles(self._handle), *counts

    def _clock(self):
        idle, pause = IDLE
        used = True
        while not self._stop.is_set():
            with self._lock:
                used = self._lib.line_run(self._handle, CHUNK if used else idle)
            if used < 0:
                self._failure = self._lib.line_message(self._handle).decode()
                return
            if not used:
                time.sleep(pause)
