"""A host for the blocks of the link, and what is around them: for tests."""

import random

from amaranth.sim import Simulator

from tests.hw.memory import collect, feed, watch


def transfer(dut, i, o, items, count, *, seed=0, stall=0.0, others=(), limit=20000, stamps=None):
    """Feed `items` to stream `i` of `dut` until `count` have come out of `o`; return all of these.

    Both ends stall with probability `stall`. `others` are further testbenches. For 40 more cycles
    whatever else comes is collected.
    """
    print("seed", seed)
    rng, got = random.Random(seed), []
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def source(ctx):
        await feed(ctx, i, items, rng, stall)

    async def main(ctx):
        await watch(ctx, lambda: len(got) >= count, limit)
        for _ in range(40):
            await ctx.tick()

    async def sink(ctx):
        await collect(ctx, o, got, rng, stall, stamps)

    sim.add_testbench(main)
    for testbench in (source, sink, *others):
        sim.add_testbench(testbench, background=True)
    sim.run()
    return got


def tokens(frames):
    """Frames as stream items of Token: their bytes, and an end each."""
    return [{"byte": byte or 0, "end": byte is None} for frame in frames for byte in [*frame, None]]


def frames_of(items):
    """The frames in stream items of Token; the last must have ended."""
    frames = [bytearray()]
    for item in items:
        if item.end:
            frames.append(bytearray())
        else:
            frames[-1].append(item.byte)
    assert not frames.pop()
    return [bytes(frame) for frame in frames]


def random_frame(rng, longest=600):
    """A frame as likely to be short as long, rich in zeros or poor in them."""
    length = rng.choice([rng.randrange(5), rng.randrange(260), rng.randrange(longest)])
    zeros = rng.choice([0, 0, 0.01, 0.5, 1])
    return bytes(0 if rng.random() < zeros else rng.randrange(1, 256) for _ in range(length))
