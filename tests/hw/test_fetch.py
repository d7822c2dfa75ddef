# amaranth: UnusedElaboratable=no
"""Program fetch: all beats up to END, bursts within bounds, room for all that is asked for."""

import random

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.fetch import Fetch
from gradgate.hw.isa import BYTES, Unit

from tests.hw.memory import Memory, collect, watch

CONFIGS = {
    "w32": Config(tm=2, tn=4, beat_bits=32),
    "w64_short": Config(tm=4, tn=8, beat_bits=64, max_burst=4),
    "w64_single": Config(tm=4, tn=8, beat_bits=64, max_burst=1),
    "w128_long": Config(tm=4, tn=4, fmt="fp32", beat_bits=128, max_burst=256),
}


def fetch(config, count, address, *, seed=0, stall=0.0, latency=1, halt_at=None, limit=3000):
    """Fetch `count` random instructions and END; returns (beats, their cycles, memory)."""
    print("seed", seed)
    rng = random.Random(seed)
    dut = Fetch(config)
    memory = Memory(config, rng, latency=latency, stall=stall)
    for k in range(count + 1):
        memory.data[address + BYTES * k] = rng.randrange(16) << 4 | (
            rng.randrange(15) if k < count else Unit.END)
    beats, stamps = [], []
    expected = (count + 1) * (BYTES // config.beat_bytes)

    async def main(ctx):
        ctx.set(dut.address, address)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        if halt_at is not None:
            for _ in range(halt_at):
                await ctx.tick()
            ctx.set(dut.halt, 1)
        else:
            # the END itself is complete only when its burst is
            head = expected - BYTES // config.beat_bytes + 1
            await watch(ctx, lambda: len(beats) >= head, limit)
        for _ in range(200 + latency):
            await ctx.tick()
        assert ctx.get(dut.idle)

    async def serve(ctx):
        await memory.serve_reads(ctx, dut.port)

    async def take(ctx):
        await collect(ctx, dut.o, beats, rng, stall, stamps)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(main)
    sim.add_testbench(serve, background=True)
    sim.add_testbench(take, background=True)
    sim.run()
    return beats, stamps, memory


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CONFIGS)
def test_program(name, seed):
    """The beats in order; nothing is read before the program or beyond the block of END."""
    config, rng = CONFIGS[name], random.Random(seed)
    count = rng.randrange(12)
    address = 0x2000 - config.beat_bytes * rng.randrange(200)
    beats, _, memory = fetch(config, count, address, seed=seed, stall=0.3,
                             latency=rng.choice([1, 30]))
    assert beats == [memory.beat(address + k * config.beat_bytes) for k in range(len(beats))]
    chunk = min(config.max_burst, 4 * BYTES // config.beat_bytes) * config.beat_bytes
    end = address + BYTES * count
    stop = address + len(beats) * config.beat_bytes
    assert end < stop <= end // chunk * chunk + chunk
    at = address
    for burst, length in memory.reads:
        assert burst == at
        at += length * config.beat_bytes
    assert at == stop


def test_cycles():
    """One beat per cycle within a burst; the next burst is asked for at the end of the last."""
    config = CONFIGS["w128_long"]
    _, stamps, memory = fetch(config, 11, 0x1000, latency=10)
    assert [length for _, length in memory.reads] == [16] * 3
    gaps = [b - a for a, b in zip(stamps, stamps[1:], strict=False)]
    assert gaps == ([1] * 15 + [12]) * 2 + [1] * 15  # command 1, latency 10, beat 1


@pytest.mark.parametrize("cycle", range(0, 60, 7))
def test_halt(cycle):
    """After `halt` no burst begins, and what was asked for arrives."""
    config = CONFIGS["w128_long"]
    beats, _, memory = fetch(config, 40, 0x1000, latency=5, halt_at=cycle)
    assert len(beats) == sum(length for _, length in memory.reads)
    assert len(memory.reads) <= cycle // 16 + 1


def test_type_of_config():
    with pytest.raises(TypeError, match="^config must be a Config, not 'w32'$"):
        Fetch("w32")
