"""The device's end of the link in Python, and a line that damages what passes: for tests."""

import os
import random
import select
import threading
import time
import tty

from gradgate.frames import Request, Response
from gradgate.hw.link_format import FRESH, IDENTITY, REGISTERS, WRITE


class Twin:
    """What hw/link.py does, byte for byte, on `memory`, a bytearray, and `registers`, a dict.

    `written` collects the writes to registers, as (address, value).
    """

    def __init__(self, identity, memory_size=1 << 16):
        self.identity, self.memory = identity, bytearray(memory_size)
        self.registers, self.written = {}, []
        self.reset()

    def reset(self):
        """As after power-up, but that memory keeps its contents."""
        self._bytes, self._last, self._fresh = bytearray(), 0, True
        self.registers.clear()

    def feed(self, data):
        """Take bytes; returns those that it answers."""
        self._bytes += data
        *frames, self._bytes = self._bytes.split(b"\0")
        requests = [Request.decode(bytes(frame)) for frame in frames if frame]
        return b"".join(self.answer(request) for request in requests if request)

    def read_register(self, address):
        if address >= IDENTITY:
            at = address - IDENTITY
            return int.from_bytes(self.identity[at:at + 4], "little")
        return self.registers.get(address, 0)

    def write_register(self, address, value):
        self.registers[address] = value
        self.written.append((address, value))

    def answer(self, request):
        size, data = 4 * request.words, b""
        operation = request.operation | FRESH * self._fresh
        if not request.operation & REGISTERS:
            if request.operation & WRITE:
                self.memory[request.address:request.address + size] = request.payload
            else:
                data = bytes(self.memory[request.address:request.address + size])
        elif request.operation & WRITE:
            perform = request.number != self._last and not self._fresh
            self._last = request.number
            if not request.words:
                self._fresh = False
            for k in range(0, size * perform, 4):
                self.write_register(request.address + k,
                                    int.from_bytes(request.payload[k:k + 4], "little"))
        else:
            data = b"".join(self.read_register(request.address + k).to_bytes(4, "little")
                            for k in range(0, size, 4))
        return Response(operation, request.number, request.words, data).encode()


class Line:
    """A stream to a Twin, for a Link.

    `damage(data)` returns what becomes of data that one end sends: called for each frame, in both
    directions, with its zero. What the device says comes a little at a time.
    """

    name = "a line for tests"

    def __init__(self, twin, damage=lambda data: data, seed=0):
        self.twin, self.damage, self.rng = twin, damage, random.Random(seed)
        self._coming = bytearray()

    def _damaged(self, data):
        frames = data.split(b"\0")
        return b"".join([self.damage(frame + b"\0") for frame in frames[:-1]] + [frames[-1]])

    def write(self, data):
        self._coming += self._damaged(self.twin.feed(self._damaged(data)))

    def read(self):
        if not self._coming:
            time.sleep(0.0005)
        size = self.rng.randrange(1, 4000)
        data, self._coming = bytes(self._coming[:size]), self._coming[size:]
        return data

    def reopen(self):
        raise OSError("there is only one")


class Noise:
    """Damage of a share `rate` of the frames: flipped bits, lost, doubled or inserted bytes, whole
    frames lost or doubled; a burst of other bytes."""

    def __init__(self, seed, rate):
        self.rng, self.rate, self.damaged = random.Random(seed), rate, 0

    def __call__(self, data):
        rng = self.rng
        if rng.random() >= self.rate:
            return data
        self.damaged += 1
        data, at = bytearray(data), rng.randrange(len(data))
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:at + rng.choice([1, 1, 10, 100])]
            case 2:
                data[at:at] = data[at:at + 1]
            case 3:
                data[at:at] = rng.randbytes(rng.choice([1, 1, 20]))
            case 4:
                data.clear()
            case 5:
                data *= 2
            case 6:
                data[at:at + 20] = rng.randbytes(len(data[at:at + 20]))
        return bytes(data)


class Terminal:
    """A Twin behind a pseudo-terminal, whose other end, `port`, pyserial can open."""

    def __init__(self, twin, damage=lambda data: data):
        self._line, self._stop = Line(twin, damage), threading.Event()
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _serve(self):
        while not self._stop.is_set():
            if select.select([self._master], [], [], 0.01)[0]:
                self._line.write(os.read(self._master, 4096))
                while data := self._line.read():
                    while data:
                        data = data[os.write(self._master, data):]
