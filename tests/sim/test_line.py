"""The driver of serial ports, pyserial and all, against the gateware of the link on its pins."""

import random
import time
from dataclasses import replace

import gradgate
import pytest
from gradgate.errors import DeviceReset
from gradgate.hw.link_format import Identity
from gradgate.serial_device import SerialDevice
from gradgate.sim.line import PATIENCE, SimulatedPort, library

from tests.sim.line_top import verilog

DIVISOR = 8
BOARDS = {
    bits: replace(gradgate.board("tiny"), memory_size=1 << 16, config=replace(
        gradgate.board("tiny").config, tm=4, tn=4, fmt="fp32" if bits == 128 else "bf16",
        beat_bits=bits))
    for bits in (32, 64)}


def simulator(board):
    identity = Identity(board=board.name, config=board.config, memory_size=board.memory_size,
                        clock_hz=round(board.clock_hz), build=b"\0\1\2\3\4\5\6\xff")
    return library(f"link_{board.config.beat_bits}", verilog(identity, DIVISOR), "LinkTop")


@pytest.fixture(params=BOARDS)
def board(request):
    return BOARDS[request.param]


def test_memory_and_a_program(board):
    rng = random.Random(0)
    with SimulatedPort(simulator(board), DIVISOR) as simulated:
        with SerialDevice(board, simulated.port, baud=1_000_000, patience=PATIENCE) as device:
            expected = bytearray(board.memory_size)
            device.write(0, expected)
            for size in (1, 3, 9, 256, 1000, 7):
                address, data = rng.randrange(board.memory_size - size), rng.randbytes(size)
                device.write(address, data)
                expected[address:address + size] = data
            assert device.read(0, board.memory_size) == expected
            assert device.run(64).cycles == 2999
            assert device.run(64).cycles == 2999
            s = device.link.statistics
            assert (s.repeated, s.damaged, s.ignored) == (0, 0, 0)
            assert device.build == "00010203040506ff"


@pytest.mark.parametrize("speed", [0.98, 1.02])
def test_a_clock_that_is_off(speed):
    board, data = BOARDS[32], random.Random(1).randbytes(3000)
    with SimulatedPort(simulator(board), DIVISOR * speed) as simulated:
        with SerialDevice(board, simulated.port, baud=1_000_000, patience=PATIENCE) as device:
            device.write(100, data)
            assert device.read(100, len(data)) == data
            assert device.link.statistics.repeated == 0


@pytest.mark.parametrize("contents", ["random", "zeros", "no zeros"])
def test_share_of_the_line(contents):
    """At least 85 % of the bits of a bulk transfer in either direction are those of its bytes."""
    board, size = BOARDS[32], 1 << 16
    data = {"random": random.Random(2).randbytes(size), "zeros": bytes(size),
            "no zeros": b"\xa5" * size}[contents]
    with SimulatedPort(simulator(board), DIVISOR) as simulated:
        with SerialDevice(board, simulated.port, baud=1_000_000, patience=PATIENCE) as device:
            start = simulated.counts
            device.write(0, data)
            between = simulated.counts
            assert device.read(0, size) == data
            end = simulated.counts
    shares = [size * 10 * DIVISOR / (after[0] - before[0])
              for before, after in ((start, between), (between, end))]
    print("of the line's bits:", shares, "bytes to and from:", [
        (after[1] - before[1], after[2] - before[2])
        for before, after in ((start, between), (between, end))])
    assert between[1] - start[1] <= size / 256 * 270 and end[2] - between[2] <= size / 256 * 266
    assert min(shares) > 0.85


def test_reset_in_the_middle():
    """The host learns of it; the next session is as good as the first."""
    board = BOARDS[32]
    with SimulatedPort(simulator(board), DIVISOR) as simulated:
        with SerialDevice(board, simulated.port, baud=1_000_000, patience=PATIENCE) as device:
            told = []

            def reset(done):
                told.append(done)
                if len(told) == 5:
                    simulated.reset()

            device._tell = lambda text: reset(text)
            with pytest.raises(DeviceReset, match="may have lost what was in it"):
                device.write(0, bytes(1 << 16))
            assert len(told) >= 5
        with SerialDevice(board, simulated.port, baud=1_000_000, patience=PATIENCE) as device:
            device.write(0, b"as good")
            assert device.read(0, 7) == b"as good"
            assert device.run(0).cycles == 2999


def test_another_session():
    """A host that goes away in the middle of a transfer does not disturb the next one."""
    board = BOARDS[32]
    with SimulatedPort(simulator(board), DIVISOR) as simulated:
        with SerialDevice(board, simulated.port, baud=1_000_000, patience=PATIENCE) as device:
            device.link.stream.write(b"\x12\x34" * 100)
            device.link.stream.read = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
            with pytest.raises(KeyboardInterrupt):
                device.read(0, 1 << 15)
        time.sleep(0.01)
        with SerialDevice(board, simulated.port, baud=1_000_000, patience=PATIENCE) as device:
            device.write(0, b"undisturbed")
            assert device.read(0, 11) == b"undisturbed"
