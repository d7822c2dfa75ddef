# amaranth: UnusedElaboratable=no
"""The device's end of the link: bytes in, bytes out, damage in between."""

import random
from itertools import pairwise

import pytest
from gradgate.frames import Request, Response
from gradgate.hw.config import Config
from gradgate.hw.link import Link
from gradgate.hw.link_format import FRESH, IDENTITY, REGISTERS, WRITE, Identity

from tests.hw.link import transfer
from tests.hw.memory import Memory

CONFIG = Config(tm=2, tn=4, beat_bits=32)
IDENT = Identity(board="test", config=CONFIG, memory_size=1 << 12, clock_hz=12_000_000)


def exchange(data, count, memory, **options):
    """The responses, at least `count` bytes of them, to the bytes `data`."""
    dut = Link(IDENT)

    async def reads(ctx):
        await memory.serve_reads(ctx, dut.read)

    async def writes(ctx):
        await memory.serve_writes(ctx, dut.write)

    got = transfer(dut, dut.i, dut.o, data, count, others=(reads, writes), **options)
    *frames, rest = bytes(got).split(b"\0")
    assert not rest
    return [Response.decode(frame) for frame in frames]


def test_identity():
    words = Identity.size() // 4
    answer = Response(REGISTERS | FRESH, 77, words, IDENT.pack())
    data = Request(REGISTERS, IDENTITY, words).encode(77)
    assert exchange(data, len(answer.encode()), Memory(CONFIG, random.Random(0))) == [answer]


@pytest.mark.parametrize("seed", range(3))
def test_damaged_requests_have_no_effect(seed):
    """Every second one is damaged: it is not answered, and memory is as if it had not been."""
    rng = random.Random(seed)
    memory = Memory(CONFIG, rng, size=1 << 12)
    expected, data, answers = bytearray(memory.data), b"", []
    for number in range(8):
        words = rng.randrange(1, 9)
        address = 32 * rng.randrange(128)
        payload = rng.randbytes(4 * words)
        good = Request(WRITE, address, words, payload).encode(number)
        bad = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(bad))
            match rng.randrange(4):
                case 0:
                    bad[at] ^= 1 << rng.randrange(8)
                case 1:
                    del bad[at]
                case 2:
                    bad.insert(at, rng.randrange(256))
                case 3:
                    bad[at] = 0
        # a good frame after a bad one that has lost its end would be lost with it
        data += bytes(bad) + b"\0"
        if bytes(bad).rstrip(b"\0") == good[:-1]:
            expected[address:address + 4 * words] = payload
            answers.append(Response(WRITE | FRESH, number, words))
        address = 32 * rng.randrange(128)
        data += Request(WRITE, address, words, payload).encode(100 + number)
        expected[address:address + 4 * words] = payload
        answers.append(Response(WRITE | FRESH, 100 + number, words))
    got = exchange(data, sum(len(answer.encode()) for answer in answers), memory, seed=seed)
    assert got == answers
    assert memory.data == expected


def test_reads_back_to_back():
    """No pause is as long as the shortest byte of a UART, also where frames and beats begin."""
    memory = Memory(CONFIG, random.Random(1), size=1 << 12, latency=20)
    data = b"".join(Request(0, 256 * k, 64).encode(k) for k in range(3))
    answers = [Response(FRESH, k, 64, bytes(memory.data[256 * k:256 * k + 256])) for k in range(3)]
    stamps = []
    got = exchange(data, sum(len(answer.encode()) for answer in answers), memory, stamps=stamps)
    assert got == answers
    assert max(after - before for before, after in pairwise(stamps)) < 40
    assert stamps[-1] - stamps[0] < 15 * len(stamps)


def test_type_of_identity():
    with pytest.raises(TypeError, match="^identity must be an Identity, not None$"):
        Link(None)
