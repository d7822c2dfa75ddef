# amaranth: UnusedElaboratable=no
"""Requests carried out, on memory and on the registers of a Control."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from gradgate.frames import Request
from gradgate.hw.config import Config
from gradgate.hw.control import REGISTERS as OFFSETS
from gradgate.hw.control import Control
from gradgate.hw.link import connect_registers
from gradgate.hw.link_commands import Commands
from gradgate.hw.link_format import FRESH, IDENTITY, REGISTERS, WRITE

from tests.hw.link import frames_of, transfer
from tests.hw.memory import Memory
from tests.hw.test_link_receiver import frame

CONFIGS = {32: Config(tm=2, tn=4, beat_bits=32), 64: Config(tm=8, tn=16, beat_bits=64),
           128: Config(tm=4, tn=4, fmt="fp32", beat_bits=128)}
ROM = bytes(range(100, 168))
OPEN = Request(WRITE | REGISTERS, 0, 0)


class Device(wiring.Component):
    """Commands with a Control behind its register port."""

    def __init__(self, config):
        self.commands, self.control = Commands(config, ROM), Control(config)
        self.core = self.control.core
        super().__init__({name: member for name, member in
                          self.commands.signature.members.items() if name != "registers"})

    def elaborate(self, platform):
        m = Module()
        m.submodules.commands, m.submodules.control = self.commands, self.control
        for name in self.signature.members:
            wiring.connect(m, getattr(self.commands, name), wiring.flipped(getattr(self, name)))
        connect_registers(m, self.commands.registers, self.control)
        return m


def run(requests, *, config=CONFIGS[32], seed=0, stall=0.0, memory=None):
    """Carry out `requests`, a list of (Request, number).

    Returns (what was read by each, FRESH or 0 of each response, what the core has seen)."""
    dut = Device(config)
    rng = random.Random(seed)
    memory = memory or Memory(config, rng, size=1 << 12)
    memory.stall, memory.latency = stall, 1 + 5 * bool(stall)
    seen = {"start": 0, "address": None}

    async def core(ctx):
        while True:
            _, _, start, address = await ctx.tick().sample(dut.core.start, dut.core.address)
            seen["start"] += start
            seen["address"] = address

    async def reads(ctx):
        await memory.serve_reads(ctx, dut.read)

    async def writes(ctx):
        await memory.serve_writes(ctx, dut.write)

    data = b"".join(frame(request, number) for request, number in requests)
    count = sum(4 + (0 if r.operation & WRITE else 4 * r.words) for r, _ in requests)
    items = transfer(dut, dut.i, dut.o, data, count, seed=seed, stall=stall,
                     others=(core, reads, writes))
    responses = frames_of(items)
    assert len(responses) == len(requests)
    for response, (request, number) in zip(responses, requests, strict=True):
        assert response[0] & 0x7F == request.operation
        assert response[1:3] == bytes((request.words, number))
    return [response[3:] for response in responses], [response[0] & FRESH for response in
                                                      responses], seen


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("bits", CONFIGS)
def test_memory(bits, stall):
    """What is written is in memory, nothing else has changed, and it is read again."""
    config, rng = CONFIGS[bits], random.Random(bits)
    memory = Memory(config, rng, size=1 << 12)
    expected, requests, wanted = bytearray(memory.data), [], []
    for number in range(10):
        words = rng.choice([config.beat_bytes // 4, 64, 4 * rng.randrange(1, 16)])
        block = rng.randrange(16) * 256
        address = block + rng.randrange(0, 257 - 4 * words, config.beat_bytes)
        payload = rng.randbytes(4 * words)
        if rng.random() < 0.5:
            requests.append((Request(WRITE, address, words, payload), number))
            expected[address:address + 4 * words] = payload
            wanted.append(b"")
        else:
            requests.append((Request(0, address, words), number))
            wanted.append(bytes(expected[address:address + 4 * words]))
    got, _, _ = run(requests, config=config, seed=bits, stall=stall, memory=memory)
    assert got == wanted
    assert memory.data == expected


def test_part_of_a_beat_is_not_written():
    config = CONFIGS[64]
    memory = Memory(config, random.Random(0), size=1 << 12)
    before = bytes(memory.data)
    got, _, _ = run([(Request(WRITE, 0, 1, b"abcd"), 0), (Request(0, 0, 1), 1),
                     (Request(WRITE, 0, 3, b"ABCDEFGHxxxx"), 2), (Request(0, 0, 2), 3)],
                    config=config, memory=memory)
    assert memory.data == b"ABCDEFGH" + before[8:]
    assert got == [b"", before[:4], b"", b"ABCDEFGH"]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("stall", [0, 0.4])
def test_registers_and_identity(bits, stall):
    config = CONFIGS[bits]
    values = [0x12345678, 0x9ABCDEF0]
    payload = b"".join(value.to_bytes(4, "little") for value in values)
    address = OFFSETS["PROG_ADDR"]
    assert OFFSETS["TIMEOUT"] == address + 4
    got, fresh, seen = run([
        (Request(REGISTERS, IDENTITY, len(ROM) // 4), 1), (OPEN, 2),
        (Request(WRITE | REGISTERS, address, 2, payload), 3), (Request(REGISTERS, address, 2), 4),
        (Request(REGISTERS, 0, 2), 5), (Request(REGISTERS, IDENTITY + 8, 1), 6)],
        config=config, stall=stall)
    assert got == [ROM, b"", b"", payload, b"TAGG\1\0\0\0", ROM[8:12]]
    assert fresh == [FRESH, FRESH, 0, 0, 0, 0]
    assert seen["address"] == values[0]


def test_start_is_done_once():
    """Doubled, it is answered twice; with another number it is another start."""
    start = Request(WRITE | REGISTERS, OFFSETS["CTRL"], 1, b"\1\0\0\0")
    _, _, seen = run([(OPEN, 9), (start, 10), (start, 10), (Request(REGISTERS, 0, 1), 11),
                      (start, 10)])
    assert seen["start"] == 1
    _, _, seen = run([(OPEN, 9), (start, 10), (start, 11)])
    assert seen["start"] == 2


def test_nothing_is_started_before_a_session_is_open():
    start = Request(WRITE | REGISTERS, OFFSETS["CTRL"], 1, b"\1\0\0\0")
    _, fresh, seen = run([(start, 10), (start, 11), (OPEN, 11), (start, 11), (start, 12)])
    assert seen["start"] == 1
    assert fresh == [FRESH, FRESH, FRESH, 0, 0]


@pytest.mark.parametrize("identity", [b"", b"123", bytes(260)])
def test_identity_is_checked(identity):
    with pytest.raises(ValueError, match="^identity must be of 4 to 256 bytes, a multiple of four"):
        Commands(CONFIGS[32], identity)
    with pytest.raises(TypeError, match="^config must be a Config, not 'x'$"):
        Commands("x", b"1234")
