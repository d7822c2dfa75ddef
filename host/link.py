"""The host's end of the link to a board: requests until they are answered; docs/link.md."""

import time
from collections import deque
from dataclasses import dataclass, field

from gradgate.hw.link_format import FRESH, IDENTITY, PAYLOAD, REGISTERS, WRITE

from .errors import DeviceReset, LinkError
from .frames import Request, Response

__all__ = ["Link", "Statistics", "PATIENCE"]

WINDOW = 32  # requests under way: those of a read fill 384 of the 512 bytes that the device keeps
_SPAN = 128  # of sequence numbers under way, so that none is taken for one of the round before
PATIENCE = 0.1  # seconds, more than a USB adapter and its driver ever hold an answer back
_SLOWEST = 2.0  # seconds between two attempts, at most, unless the first takes longer
_QUIET = 0.05  # seconds of silence after which nothing more is expected
_FRAME = 16  # bytes of a request and its response without their payload, at most


@dataclass
class Statistics:
    """What has passed since the link was made.

    `requests` answered; `repeated`, how often one was sent again; `damaged` and `ignored` frames
    that came: with a wrong CRC or length, and not waited for; bytes `sent` and `received`.
    """

    requests: int = 0
    repeated: int = 0
    damaged: int = 0
    ignored: int = 0
    sent: int = 0
    received: int = 0


@dataclass
class _Sent:
    """A request under way; the last of `times` attempts was the frame number `frame` of all."""

    index: int
    request: Request
    number: int
    frame: int
    times: int = 1


@dataclass
class _Transfer:
    """The requests of one call, by what has become of them."""

    waiting: deque
    answers: list
    flight: dict = field(default_factory=dict)  # sequence number -> _Sent, oldest first
    answered: int = 0
    moved: int = 0  # bytes read or written


class Link:
    """Requests to a device over a stream of bytes that may lose, change, double and invent some.

    Up to `window` requests are under way. The line keeps their order, so an answer tells that all
    requests sent before and not answered are lost: those are sent again at once. When nothing has
    come for a while all are, after twice the time from attempt to attempt.

    Parameters
    ----------
    stream : object
        `write(data)`; `read()`, bytes that have come, after some milliseconds b""; `reopen()` after
        either has raised OSError, with which it may answer again. `name`, for messages.
    rate : float
        Bytes per second of the line, as far as is known: patience for what is under way.
    patience : float
        Seconds beyond the time that the line takes until the second attempt.
    attempts : int
        How often a request is sent before LinkError, and how many attempts there are without any
        answer.
    reconnect : float
        Seconds in which a port that is gone may come back.
    """

    def __init__(
        self,
        stream,
        *,
        rate=11_520,
        patience=PATIENCE,
        attempts=8,
        window=WINDOW,
        reconnect=10.0,
    ):
        self.stream, self.rate, self.window = stream, rate, window
        self.patience, self.attempts, self.reconnect = patience, attempts, reconnect
        self.statistics = Statistics()
        self._pending = bytearray()  # the beginning of a frame
        self._number = 0
        self._last_register_write = None
        self._frames = 0  # sent
        self._heard = self._since = time.monotonic()  # last answer; begin of the present attempt
        self._opening = False

    def open(self, size):
        """Begin a session; returns the first `size` bytes of the device's identity.

        What was under way before is forgotten on both sides; memory and registers stay as they
        are. Raises LinkError.
        """
        self._drain()
        self._opening = True
        try:
            identity = self.exchange([Request(REGISTERS, IDENTITY, size // 4)])[0].data
            self.exchange([Request(REGISTERS | WRITE, 0, 0)])
        finally:
            self._opening = False
        return identity

    def read(self, address, size, progress=None):
        """`size` bytes of memory at `address`, both multiples of the beat.

        `progress` is called with the number of bytes read so far. Raises LinkError.
        """
        requests = [Request(0, start, length // 4) for start, length in _blocks(address, size)]
        return b"".join(answer.data for answer in self.exchange(requests, progress))

    def write(self, address, data, progress=None):
        """Copy `data` to memory at `address`, both multiples of the beat; parameters as of read."""
        requests = [
            Request(WRITE, start, length // 4, bytes(data[start - address :][:length]))
            for start, length in _blocks(address, len(data))
        ]
        self.exchange(requests, progress)

    def read_registers(self, address, count):
        """The values of `count` registers (at most 64) from `address` on. Raises LinkError."""
        data = self.exchange([Request(REGISTERS, address, count)])[0].data
        return [int.from_bytes(data[k : k + 4], "little") for k in range(0, 4 * count, 4)]

    def write_registers(self, address, *values):
        """Write registers from `address` on, once, however often it has to be sent.

        Raises LinkError; then it is not known whether they have been written.
        """
        data = b"".join(value.to_bytes(4, "little") for value in values)
        self.exchange([Request(REGISTERS | WRITE, address, len(values), data)])

    def exchange(self, requests, progress=None):
        """Carry out `requests`; returns their Responses.

        Requests that write what others of the same call read or write may be carried out in any
        order. Of those that write registers there is only one in a call.

        Raises LinkError.
        """
        if len(requests) > 1 and any(r.operation == WRITE | REGISTERS for r in requests):
            raise ValueError("a request that writes registers must be alone")
        transfer = _Transfer(deque(enumerate(requests)), [None] * len(requests))
        silent, self._since = 0, time.monotonic()
        while transfer.answered < len(requests):
            try:
                self._fill(transfer)
                came = self._take(transfer)
                if came:
                    silent, self._heard = 0, time.monotonic()
                    self._since = self._heard
                    if progress:
                        progress(transfer.moved)
                elif time.monotonic() - self._since > self._due(transfer, silent):
                    silent += 1
                    if silent >= self.attempts:
                        raise LinkError(f"no answer from {self.stream.name}{self._state(transfer)}")
                    self._again(transfer, list(transfer.flight.values()))
            except OSError as error:
                self._reopen(error, transfer)
        return transfer.answers

    def _due(self, transfer, silent):
        """Seconds without an answer after which the requests under way are sent again."""
        size = sum(_FRAME + 4 * sent.request.words for sent in transfer.flight.values())
        wait = min(self.patience * 2**silent, max(self.patience, _SLOWEST))
        return wait + 1.5 * size / self.rate

    def _fill(self, transfer):
        """Send what the window has room for."""
        data = bytearray()
        while transfer.waiting and len(transfer.flight) < self.window:
            oldest = next(iter(transfer.flight), self._number)
            if (self._number - oldest) % 256 >= _SPAN:
                break
            index, request = transfer.waiting.popleft()
            is_register_write = request.operation == REGISTERS | WRITE
            if is_register_write and self._number == self._last_register_write:
                self._advance()  # the device would take it for the same once more
            sent = _Sent(index, request, self._number, self._frames)
            if is_register_write:
                self._last_register_write = sent.number
            self._advance()
            self._frames += 1
            transfer.flight[sent.number] = sent
            data += request.encode(sent.number)
        self._send(data)

    def _advance(self):
        self._number = (self._number + 1) % 256

    def _again(self, transfer, lost):
        """Send requests once more."""
        data = bytearray(b"\0")  # ends what may be the beginning of a frame
        for sent in lost:
            if sent.times >= self.attempts:
                raise LinkError(
                    f"{self.stream.name} does not take this, {sent.times} times: {sent.request}"
                    + self._state(transfer)
                )
            sent.times += 1
            sent.frame = self._frames
            self._frames += 1
            self.statistics.repeated += 1
            data += sent.request.encode(sent.number)
        self._since = time.monotonic()
        self._send(data)

    def _send(self, data):
        if data:
            self.stream.write(bytes(data))
            self.statistics.sent += len(data)

    def _take(self, transfer):
        """Look at what has come; returns how many requests it has answered."""
        data = self.stream.read()
        self.statistics.received += len(data)
        self._pending += data
        *frames, rest = self._pending.split(b"\0")
        self._pending = bytearray(rest[-2 * PAYLOAD :])
        before = transfer.answered
        for frame in filter(None, frames):
            answer = Response.decode(bytes(frame))
            if answer is None:
                self.statistics.damaged += 1
            else:
                self._accept(transfer, answer)
        return transfer.answered - before

    def _accept(self, transfer, answer):
        sent = transfer.flight.get(answer.number)
        if sent is None or (answer.operation & ~FRESH, answer.words) != (
            sent.request.operation,
            sent.request.words,
        ):
            self.statistics.ignored += 1
            return
        if answer.operation & FRESH and not self._opening:
            raise DeviceReset(
                f"the device on {self.stream.name} has been reset, its memory may have lost "
                "what was in it: open it again and load what it needs" + self._state(transfer)
            )
        del transfer.flight[sent.number]
        transfer.answers[sent.index] = answer
        transfer.answered += 1
        transfer.moved += 4 * answer.words
        self.statistics.requests += 1
        lost = [other for other in transfer.flight.values() if other.frame < sent.frame]
        if lost:
            self._again(transfer, lost)

    def _drain(self):
        """Read until nothing comes any more, and end whatever frame has begun."""
        begin = quiet = time.monotonic()
        while (now := time.monotonic()) - quiet < _QUIET and now - begin < self.reconnect:
            if self.stream.read():
                quiet = time.monotonic()
        self._pending.clear()
        self._send(b"\0")

    def _reopen(self, error, transfer):
        """Wait for the port to come back, and send what was under way again."""
        start, pause = time.monotonic(), 0.05
        while True:
            time.sleep(pause)
            try:
                self.stream.reopen()
                self._pending.clear()
                self._again(transfer, list(transfer.flight.values()))
                return
            except OSError as again:
                error = again
            if time.monotonic() - start > self.reconnect:
                raise LinkError(
                    f"{self.stream.name} is gone: {error}{self._state(transfer)}"
                ) from error
            pause = min(2 * pause, 1.0)

    def _state(self, transfer):
        """What is under way, for error messages."""
        lines = [f"\n{transfer.answered} of {len(transfer.answers)} requests answered"]
        lines.append(f"last answer {time.monotonic() - self._heard:.1f} s ago")
        flight = list(transfer.flight.values())
        if flight:
            oldest = flight[0]
            lines.append(
                f"{len(flight)} under way, the oldest sent {oldest.times} times: {oldest.request}"
            )
        s = self.statistics
        lines.append(
            f"{s.sent} bytes sent and {s.received} received, {s.requests} requests answered, "
            f"{s.repeated} repeated, {s.damaged} frames damaged, {s.ignored} not expected"
        )
        return "\n".join(lines)


def _blocks(address, size):
    """(address, size) of the requests for a range: none goes beyond a multiple of PAYLOAD."""
    end = address + size
    while address < end:
        length = min(PAYLOAD - address % PAYLOAD, end - address)
        yield address, length
        address += length
