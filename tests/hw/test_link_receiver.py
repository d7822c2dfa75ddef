# amaranth: UnusedElaboratable=no
"""Only whole and undamaged requests pass, and nothing of them before they are."""

import random

import pytest
from amaranth.sim import Simulator
from gradgate.frames import Request, decode_ahead
from gradgate.hw.link_format import REGISTERS, WRITE
from gradgate.hw.link_receiver import Receiver

from tests.hw.link import tokens, transfer
from tests.hw.memory import collect, feed, watch


def write(rng, words):
    return Request(WRITE, rng.getrandbits(32), words, rng.randbytes(4 * words))


def frame(request, number=7):
    """What the receiver gets to see of a request: it and its CRC."""
    return decode_ahead(request.encode(number)[:-1])


def receive(frames, count, **options):
    dut = Receiver()
    return bytes(transfer(dut, dut.i, dut.o, tokens(frames), count, **options))


@pytest.mark.parametrize("seed", range(3))
def test_frames_pass(seed):
    rng = random.Random(seed)
    frames = [frame(rng.choice([write(rng, rng.randrange(65)), Request(0, 64, 64),
                                Request(REGISTERS, 0x14, 1)])) for _ in range(4)] + [b""]
    expected = b"".join(frames)
    assert receive(frames, len(expected), seed=seed, stall=0.3) == expected


def test_damaged_frames_do_not():
    rng = random.Random(3)
    whole = frame(write(rng, 3))
    damaged = []
    for _ in range(12):
        bad = bytearray(whole)
        for _ in range(rng.randrange(1, 5)):
            bad[rng.randrange(len(bad))] ^= rng.randrange(1, 256)
        damaged.append(bytes(bad))
    damaged += [whole[:-1], whole[1:], whole[:-4], whole + b"\0", whole[:9] + whole[10:], whole[:3],
                whole + whole]
    frames = [item for bad in damaged for item in (bad, whole)]
    assert receive(frames, len(whole) * len(damaged)) == whole * len(damaged)


def test_length_must_be_as_said():
    """Frames with the right CRC, but words more or fewer than they say."""
    rng = random.Random(4)
    wrong = [Request(WRITE, 0, 3, bytes(8)), Request(WRITE, 0, 3, bytes(16)),
             Request(0, 0, 2, bytes(8)), Request(WRITE, 0, 3, bytes(13)),
             Request(WRITE, 0, 64, b"")]
    good = frame(write(rng, 2))
    frames = [item for request in wrong for item in (frame(request), good)]
    assert receive(frames, len(good) * len(wrong)) == good * len(wrong)


def test_no_room():
    """A frame for which there is no room is dropped whole; those before and after it are not."""
    rng, dut, got, drops, full = random.Random(5), Receiver(), [], [], []
    frames = [frame(write(rng, words)) for words in (64, 50, 20, 1, 64)]
    assert len(frames[0] + frames[1] + frames[3]) <= 512 < len(frames[0] + frames[1] + frames[2])
    expected = frames[0] + frames[1] + frames[3] + frames[4]

    async def main(ctx):
        await feed(ctx, dut.i, tokens(frames[:4]), rng)
        full.append(True)
        await feed(ctx, dut.i, tokens(frames[4:]), rng)
        await watch(ctx, lambda: len(got) >= len(expected), 5000)

    async def take(ctx):
        while not full:
            await ctx.tick()
        await collect(ctx, dut.o, got, rng)

    async def count(ctx):
        while True:
            _, _, dropped = await ctx.tick().sample(dut.dropped)
            drops.append(dropped)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(main)
    sim.add_testbench(take, background=True)
    sim.add_testbench(count, background=True)
    sim.run()
    assert bytes(got) == expected
    assert sum(drops) == 1
