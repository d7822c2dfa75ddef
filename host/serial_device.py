"""Device on a board at the other end of a serial line."""

import contextlib
import time

import serial
from gradgate.hw import isa
from gradgate.hw.control import REGISTERS
from gradgate.hw.link_format import Identity

from .boards import Board
from .device import Device
from .errors import BusError, DeviceError, DeviceTimeout, LinkError
from .link import PATIENCE, Link
from .registers import COUNT, RESET, START, Registers

__all__ = ["SerialDevice", "SerialStream", "BAUDS"]

BAUDS = (3_000_000, 2_000_000, 1_000_000, 115_200)  # tried in turn
_PAUSE = 0.02  # seconds between two looks at a running program, at most
_DRAIN = 5.0  # seconds in which a reset must have found memory idle


class SerialStream:
    """A serial port as a Link wants it.

    `port` is whatever pyserial opens: a device, or a URL such as `socket://host:port`. Raises
    OSError if it cannot be opened.
    """

    def __init__(self, port, baud):
        self.name, self._baud, self._port = port, baud, None
        self.reopen()

    def reopen(self):
        self.close()
        self._port = serial.serial_for_url(
            self.name, baudrate=self._baud, timeout=0.005, write_timeout=10
        )
        # USB adapters hold what has come back for up to 16 ms otherwise; not all can be told
        with contextlib.suppress(Exception):
            self._port.set_low_latency_mode(True)

    def write(self, data):
        self._port.write(data)

    def read(self):
        data = self._port.read(1)
        return data + self._port.read(self._port.in_waiting) if data else data

    def close(self):
        if self._port is not None:
            self._port.close()


class SerialDevice(Device):
    """A board behind a serial port, with the gateware's Link in its bitstream.

    The bitstream must have been built for `board`. Transfers and requests are repeated until they
    have succeeded; a port that is gone may come back within 10 seconds. If the device itself has
    been reset, every call raises DeviceReset: a new SerialDevice goes on with it.

    Parameters
    ----------
    board : Board
    port : str
        A serial port, or any URL that pyserial opens.
    baud : int or None
        Bits per second. None: those of BAUDS, one after the other, until the device answers.
    patience : float
        Seconds until what is not answered is sent again, besides the time that the line takes.
    timing : MemoryTiming or None
        The memory to plan for, in place of the board's.
    progress : callable or None
        Called several times a second with a line of text: what is under way, and how far.

    Raises
    ------
    TypeError
        `board` is not a Board.
    LinkError
        The port cannot be opened, or nothing answers there.
    DeviceError
        Something else answers: the message names each parameter that differs.
    """

    name = "serial"
    reads_are_cheap = False

    def __init__(self, board, port, *, baud=None, patience=PATIENCE, timing=None, progress=None):
        if not isinstance(board, Board):
            raise TypeError(f"board must be a Board, not {board!r}")
        self.config, self.memory_size = board.config, board.memory_size
        self.timing = timing or board.timing
        self._clock_hz, self._progress, self._told = board.clock_hz, progress, 0.0
        self._stream, self.link, data = _connect(port, (baud,) if baud else BAUDS, patience)
        try:
            self.identity = _checked_identity(board, port, data)
        except BaseException:
            self.close()
            raise

    @property
    def build(self):
        """What tells one build of a board from another, in hexadecimal."""
        return self.identity.build.hex()

    def write(self, address, data):
        data = memoryview(data).cast("B")
        self._check_range(address, len(data))
        # memory is written in whole beats
        beat = self.config.beat_bytes
        low, high = address % beat, -(address + len(data)) % beat
        if data and (low or high):
            before = self.link.read(address - low, beat)[:low] if low else b""
            after = self.link.read(address + len(data) + high - beat, beat)[beat - high :]
            data = memoryview(before + bytes(data) + (after if high else b""))
        self.link.write(address - low, data, self._teller("write", len(data)))

    def read(self, address, size):
        self._check_range(address, size)
        beat = self.config.beat_bytes
        low, high = address % beat, -(address + size) % beat
        data = self.link.read(address - low, low + size + high, self._teller("read", size))
        return data[low : low + size]

    def run(self, address, *, timeout=1_000_000):
        """Run the program at `address` to its END; return Counters.

        Parameters and exceptions as of Device; also LinkError. A device that claims to be busy but
        gets nowhere for twice `timeout` and a second is taken for one that has timed out.
        """
        self._check_range(address, isa.BYTES)
        try:
            self.link.write_registers(REGISTERS["PROG_ADDR"], address, timeout)
            self.link.write_registers(REGISTERS["CTRL"], START)
            registers = self._wait(address, timeout)
            if fault := registers.fault():
                kind, what = fault
                raise kind(f"{what}\n{registers.situation(address, self._program)}")
            return registers.counters(self.config)
        except BaseException:
            self._recover()
            raise

    def close(self):
        self._stream.close()

    def _wait(self, address, timeout):
        """The registers when the program has ended."""
        pause, progress, since = 0.0, None, 0
        while True:
            registers = Registers(self.link.read_registers(0, COUNT))
            if registers.ended:
                return registers
            status, cycles = registers["STATUS"], registers.wide("CYCLES")
            if not status & 1:
                raise DeviceError(
                    f"the program at {address:#x} is not running, and has not ended: STATUS is "
                    f"{status:#x}"
                )
            if registers.progress != progress:
                progress, since = registers.progress, cycles
            elif timeout and cycles - since > 2 * timeout + self._clock_hz:
                raise DeviceTimeout(
                    f"no progress, and no timeout\n{registers.situation(address, self._program)}"
                )
            self._tell(f"running: {cycles} cycles, {registers['FETCHED']} instructions fetched")
            time.sleep(pause)
            pause = min(pause + 0.001, _PAUSE)

    def _recover(self):
        """Reset the device, and wait until memory has finished what was under way."""
        with contextlib.suppress(LinkError):
            self.link.write_registers(REGISTERS["CTRL"], RESET)
            end = time.monotonic() + _DRAIN
            while self.link.read_registers(REGISTERS["STATUS"], 1)[0]:
                if time.monotonic() > end:
                    return

    def _program(self, address, size):
        return self.read(address, min(size, self.memory_size - address))

    def _check_range(self, address, size):
        if not 0 <= address <= address + size <= self.memory_size:
            raise BusError(
                f"{size} bytes at {address:#x} are outside the memory of {self.memory_size} bytes"
            )

    def _tell(self, text):
        if self._progress and time.monotonic() - self._told > 0.2:
            self._told = time.monotonic()
            self._progress(text)

    def _teller(self, verb, size):
        return lambda done: self._tell(f"{verb}: {done} of {size} bytes")


def _connect(port, bauds, patience):
    """(stream, link, identity) of the device that answers at one of `bauds`."""
    size = Identity.size()
    for baud in bauds:
        try:
            stream = SerialStream(port, baud)
        except (OSError, ValueError) as error:
            raise LinkError(f"{port} cannot be opened: {error}") from error
        link = Link(stream, rate=baud / 10, patience=patience, attempts=3)
        try:
            data = link.open(size)
        except (OSError, LinkError) as error:
            stream.close()
            last = error
        except BaseException:
            stream.close()
            raise
        else:
            link.attempts = 8
            return stream, link, data
    tried = ", ".join(str(baud) for baud in bauds)
    raise LinkError(
        f"no gradgate answers on {port} at {tried} baud: is it the right port, is the board "
        f"configured?\n{last}"
    ) from last


def _checked_identity(board, port, data):
    """The Identity in `data`. Raises DeviceError unless it is that of `board`."""
    wanted = Identity(
        board=board.name,
        config=board.config,
        memory_size=board.memory_size,
        clock_hz=round(board.clock_hz),
    )
    try:
        found = Identity.unpack(data)
    except ValueError as error:
        raise DeviceError(
            f"what answers on {port} is not a gradgate of this version: {error}"
        ) from error
    if differences := found.differences(wanted):
        listed = "; ".join(f"{name} is {its}, not {mine}" for name, its, mine in differences)
        raise DeviceError(
            f"the bitstream on {port}, build {found.build.hex()}, is not for board {board.name}: "
            f"{listed}"
        )
    return found
