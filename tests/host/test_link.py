"""The host's end of the link against a twin of the device's, on a line that is worse than any."""

import random
import re
import time

import pytest
from gradgate.errors import DeviceReset, LinkError
from gradgate.frames import Request
from gradgate.hw.config import Config
from gradgate.hw.link_format import Identity
from gradgate.link import Link

from tests.host.link_twin import Line, Noise, Twin

IDENTITY = Identity(board="test", config=Config(), memory_size=1 << 16, clock_hz=10**6).pack()
START = 0x10


def link_to(twin, damage=lambda data: data, *, opened=True, seed=0, **options):
    options = {"patience": 0.005, "rate": 1e6, "reconnect": 0.3} | options
    link = Link(Line(twin, damage, seed), **options)
    if opened:
        assert link.open(len(IDENTITY)) == IDENTITY
    return link


def test_memory_and_registers():
    twin = Twin(IDENTITY)
    link, rng = link_to(twin), random.Random(0)
    seen = []
    for size in (4, 256, 260, 8192, 20000):
        address, data = 4 * rng.randrange(1000), rng.randbytes(size)
        link.write(address, data, seen.append)
        assert twin.memory[address:address + size] == data
        assert link.read(address, size) == data
        assert seen[-1] == size and seen == sorted(seen)
        seen.clear()
    link.write_registers(0x18, 7, 0xFFFFFFFF)
    assert twin.written == [(0x18, 7), (0x1C, 0xFFFFFFFF)]
    assert link.read_registers(0x14, 4) == [0, 7, 0xFFFFFFFF, 0]
    s = link.statistics
    assert (s.repeated, s.damaged, s.ignored) == (0, 0, 0)


@pytest.mark.parametrize("seed", range(2))
def test_ten_thousand_frames_with_one_percent_damaged(seed):
    """All data right on both sides, whatever happens to frames of either direction."""
    twin, noise = Twin(IDENTITY), Noise(seed, 0.01)
    link, rng = link_to(twin, noise, seed=seed), random.Random(seed)
    expected, frames = bytearray(twin.memory), 0
    while frames < 5000:  # and as many answers
        size = 4 * rng.choice([1, rng.randrange(1, 64), rng.randrange(1, 3000)])
        address = 4 * rng.randrange((len(expected) - size) // 4 + 1)
        if rng.random() < 0.5:
            data = bytes(size) if rng.random() < 0.1 else rng.randbytes(size)
            link.write(address, data)
            expected[address:address + size] = data
        else:
            assert link.read(address, size) == expected[address:address + size]
        frames = link.statistics.requests
    assert twin.memory == expected
    assert noise.damaged > 60 and link.statistics.repeated > 30


def test_every_tenth_frame_damaged():
    twin = Twin(IDENTITY)
    link, data = link_to(twin, Noise(3, 0.1), attempts=20), random.Random(3).randbytes(40000)
    link.write(0, data)
    assert link.read(0, len(data)) == data == twin.memory[:len(data)]


@pytest.mark.parametrize("seed", range(3))
def test_registers_are_written_once(seed):
    """Also when requests and answers are lost or doubled, also when numbers come round again."""
    twin = Twin(IDENTITY)
    link = link_to(twin, Noise(seed, 0.2), attempts=30, patience=0.002)
    for k in range(300):
        link.write_registers(START, k)
        link.read(0, 256 * (k % 3))
    assert twin.written == [(START, k) for k in range(300)]


def test_numbers_that_come_round():
    """A write to registers after exactly 256 other requests is not taken for a copy."""
    twin = Twin(IDENTITY)
    link = link_to(twin)
    for between in (254, 255, 256, 257, 511):
        for k in range(2):
            link.write_registers(START, k)
            for _ in range(between):
                link.read_registers(0, 1)
    assert twin.written == [(START, k % 2) for k in range(10)]


def test_only_what_is_lost_is_sent_again():
    """One of a hundred frames: found by the answer to the next, without waiting."""
    twin, count = Twin(IDENTITY), [0]

    def lose(data):
        count[0] += 1
        return b"" if count[0] == 60 else data

    link = link_to(twin, lose, patience=5)
    link.write(0, bytes(range(256)) * 100)
    assert twin.memory[:25600] == bytes(range(256)) * 100
    assert link.statistics.repeated == 1


def test_a_lost_end_of_a_frame():
    """It does not take the next attempt with it."""
    twin, count = Twin(IDENTITY), [0]

    def cut(data):
        count[0] += 1
        return data[:-1] if count[0] == 1 else data

    link = link_to(twin)
    link.stream.damage = cut
    link.write(0, b"abcd")
    assert link.statistics.repeated == 1


def test_one_frame_that_is_lost_often():
    """While others pass: their numbers do not come round to its own."""
    twin, rng, count = Twin(IDENTITY, 1 << 17), random.Random(5), [0]
    data = bytearray(rng.randbytes(120_000).replace(b"secret", b"public"))
    data[256:262] = b"secret"

    def lose(frame):
        count[0] += b"secret" in frame
        return b"" if b"secret" in frame and count[0] <= 15 else frame

    link = link_to(twin, lose, attempts=30)
    link.write(0, data)
    assert twin.memory[:len(data)] == data
    assert count[0] == 16 and link.statistics.repeated == 15


class Late(Line):
    """A line whose answers come after `delay` seconds, and then `pace` bytes at a time."""

    def __init__(self, twin, delay, pace=10**6):
        super().__init__(twin)
        self.delay, self.pace, self.since = delay, pace, None

    def write(self, data):
        super().write(data)
        self.since = self.since or time.monotonic()

    def read(self):
        time.sleep(0.001)
        if not self._coming or time.monotonic() - self.since < self.delay:
            return b""
        data, self._coming = bytes(self._coming[:self.pace]), self._coming[self.pace:]
        self.since = self.since if self._coming else None
        return data


def test_late_answers():
    """All requests are sent too often, but not because of the answers to the first attempts."""
    twin = Twin(IDENTITY)
    link = Link(Late(twin, 0), patience=0.02, rate=1e6)
    link.open(len(IDENTITY))
    link.stream.delay = 0.05
    link.write(0, b"x" * 20 * 256)
    assert twin.memory[:5120] == b"x" * 5120
    assert link.statistics.repeated in (20, 40)  # one or two attempts too early


def test_a_session_begins_when_the_one_before_has_been_heard():
    line = Late(Twin(IDENTITY), 0, pace=300)
    line.write(b"".join(Request(2, 256, 17).encode(number) for number in range(256)))
    link = Link(line, patience=0.005, rate=1e6, attempts=3)
    assert link.open(len(IDENTITY)) == IDENTITY
    assert link.statistics.repeated == link.statistics.ignored == 0


def test_device_without_an_answer():
    twin = Twin(IDENTITY)
    link = link_to(twin)
    link.stream.damage = lambda data: b""
    with pytest.raises(LinkError) as caught:
        link.write(0x1000, bytes(10000))
    message = str(caught.value)
    assert message.startswith("no answer from a line for tests\n0 of 40 requests answered")
    assert "32 under way, the oldest sent 8 times: write of 256 bytes of memory at 0x10" in message
    assert re.search(r"last answer 1\.\d s ago", message)
    link.stream.damage = lambda data: data  # it comes back
    link.write(0, b"abcd")
    assert link.read(0, 4) == b"abcd"


def test_silence_from_the_beginning():
    with pytest.raises(LinkError, match="no answer"):
        link_to(Twin(IDENTITY), lambda data: b"")


def test_one_frame_that_never_passes():
    """A line that swallows some character, as with flow control by software."""
    twin = Twin(IDENTITY)
    link = link_to(twin)
    link.stream.damage = lambda data: data.replace(b"\x11", b"")
    data = bytearray(b"\x22" * 10000)
    data[600] = 0x11
    with pytest.raises(LinkError, match="does not take this, 8 times: write of 256.*at 0x200"):
        link.write(0, data)


def test_only_noise_comes():
    rng = random.Random(0)
    link = link_to(Twin(IDENTITY))
    link.stream.read = lambda: rng.randbytes(50)
    with pytest.raises(LinkError, match="no answer"):
        link.read(0, 4)


@pytest.mark.parametrize("after", [1, 50, 100])
def test_reset_in_the_middle(after):
    """Noticed by the next answer; nothing is started on a device that was reset; a new session
    begins as if nothing had been."""
    twin, count = Twin(IDENTITY), [0]

    def reset(data):
        count[0] += 1
        if count[0] == after:
            twin.reset()
        return data

    link = link_to(twin)
    link.stream.damage = reset
    with pytest.raises(DeviceReset, match="has been reset, its memory may have lost"):
        link.write(0, bytes(20000))
        link.read(0, 20000)
    with pytest.raises(DeviceReset):
        link.write_registers(START, 1)
    assert twin.written == []
    link.stream.damage = lambda data: data
    assert link.open(len(IDENTITY)) == IDENTITY
    link.write_registers(START, 1)
    assert twin.written == [(START, 1)]


def test_answers_of_a_session_before():
    """Those that are still to come when a session begins are not taken for its own."""
    twin = Twin(IDENTITY)
    link = link_to(twin)
    line = link.stream
    twin.memory[:] = b"\1" * len(twin.memory)
    line.write(b"".join(Request(0, 0, 64).encode(number) for number in range(256)))
    again = Link(line, patience=0.005, rate=1e6)
    again.open(len(IDENTITY))
    twin.memory[:] = b"\2" * len(twin.memory)
    assert again.read(0, 4096) == b"\2" * 4096


class Unplugged(Line):
    """A port that is gone after `lasts` writes, for `misses` attempts to open it again."""

    def __init__(self, twin, lasts, misses):
        super().__init__(twin)
        self.lasts, self.misses = lasts, misses

    def write(self, data):
        self.lasts -= 1
        if self.lasts == 0:
            self._coming.clear()
        if self.lasts <= 0:
            raise OSError("device not configured")
        super().write(data)

    def reopen(self):
        self.misses -= 1
        if self.misses >= 0:
            raise OSError("no such device")
        self.lasts = 10**9


def test_a_port_that_comes_back():
    twin = Twin(IDENTITY)
    link = Link(Unplugged(twin, 7, 2), patience=0.01, rate=1e6)
    link.open(len(IDENTITY))
    data = random.Random(1).randbytes(40000)
    link.write(0, data)
    assert link.read(0, len(data)) == data
    assert link.statistics.repeated > 0


def test_a_port_that_does_not():
    link = Link(Unplugged(Twin(IDENTITY), 7, 10**9), patience=0.01, rate=1e6, reconnect=0.2)
    link.open(len(IDENTITY))
    with pytest.raises(LinkError, match="a line for tests is gone: no such device\n[1-9]"):
        link.write(0, bytes(40000))


def test_writes_to_registers_are_alone():
    with pytest.raises(ValueError, match="must be alone"):
        link_to(Twin(IDENTITY)).exchange([Request(3, 16, 1, b"1234"), Request(0, 0, 1)])
