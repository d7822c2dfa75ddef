# amaranth: UnusedElaboratable=no
"""Program fetch: all beats up to END, bursts within bounds, their cycles."""

import random
from dataclasses import replace

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


def fetch(config, count, address, *, seed=0, stall=0.0, latency=1, halt_at=None, limit=3000,
          asked=None):
    """Fetch `count` random instructions and END at `address`, for which `asked` may stand; returns
    (beats, their cycles, memory)."""
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
        ctx.set(dut.address, address if asked is None else asked)
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
    """The beats in order; nothing is read before the program or far beyond END."""
    config, rng = CONFIGS[name], random.Random(seed)
    count = rng.randrange(12)
    address = 0x2000 - config.beat_bytes * rng.randrange(200)
    beats, _, memory = fetch(config, count, address, seed=seed, stall=0.3,
                             latency=rng.choice([1, 30]))
    assert beats == [memory.beat(address + k * config.beat_bytes) for k in range(len(beats))]
    size = config.beat_bytes
    burst = min(config.max_burst, Fetch.BURST) * size
    end = address + BYTES * count
    stop = address + len(beats) * size
    assert end < stop <= end + Fetch.AHEAD * size
    at = address
    for start, length in memory.reads:
        assert start == at
        at += length * size
        assert at % burst == 0 and length * size <= burst
    assert at == stop


def test_addresses_wrap():
    """The program of a memory of 64 KiB, at an address beyond it."""
    config = replace(CONFIGS["w64_short"], addr_bits=16)
    beats, _, memory = fetch(config, 3, 0x2000, asked=0x7fff_2000)
    assert memory.reads[0] == (0x2000, 4) and len(beats) >= 8 * 3 + 1
    assert beats == [memory.beat(0x2000 + 8 * k) for k in range(len(beats))]


@pytest.mark.parametrize("latency", [1, 10, 40])
@pytest.mark.parametrize("name", ["w64_short", "w128_long"])
def test_cycles(name, latency):
    """A burst is asked for as soon as there is room, while others are on their way."""
    config = CONFIGS[name]
    _, stamps, memory = fetch(config, 41, 0x1000, latency=latency)
    burst = min(config.max_burst, Fetch.BURST)
    ahead = Fetch.AHEAD // burst
    assert [length for _, length in memory.reads] == [burst] * len(memory.reads)
    commands, taken = [], []
    for n in range(len(memory.reads)):
        commands.append(commands[-1] + 1 if n else 2)
        if n >= ahead:
            commands[n] = max(commands[n], taken[(n - ahead + 1) * burst - 1] + 2)
        for k in range(burst):
            taken.append(max(commands[n] + latency + 3 + k, *(t + 1 for t in taken[-1:]), 0))
    assert stamps == taken
    assert stamps[128] - stamps[64] == max(64, latency + burst + 4)


def test_instructions_follow_closely_behind_memory():
    """With 40 cycles of latency, about five cycles an instruction of four beats."""
    _, stamps, _ = fetch(CONFIGS["w128_long"], 63, 0x1000, latency=40, stall=0.0)
    assert stamps[63 * 4] - stamps[0] < 5 * 63


@pytest.mark.parametrize("cycle", [*range(0, 120, 9), 40, 41])
def test_halt(cycle):
    """After `halt` no burst begins, and what was asked for arrives."""
    config = CONFIGS["w128_long"]
    beats, _, memory = fetch(config, 60, 0x1000, latency=5, halt_at=cycle)
    assert len(beats) == sum(length for _, length in memory.reads)
    assert len(memory.reads) == sum(asked <= cycle for asked in (1, 2, 42, 74, 106))


def test_type_of_config():
    with pytest.raises(TypeError, match="^config must be a Config, not 'w32'$"):
        Fetch("w32")
