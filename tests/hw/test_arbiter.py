# amaranth: UnusedElaboratable=no
"""hw/arbiter.py: every initiator gets its own beats, in order; turns, rate, latency."""

import random
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.arbiter import ReadArbiter
from gradgate.hw.config import Config

from tests.hw.memory import Memory, collect, feed, watch


def random_bursts(config, rng, number):
    """Bursts that keep the rules: inside an aligned block of max_burst beats."""
    bursts = []
    for _ in range(number):
        low = rng.choice([0, rng.randrange(config.max_burst)])
        length = rng.choice([1, config.max_burst - low, rng.randint(1, config.max_burst - low)])
        block = rng.randrange((1 << 16) // config.beat_bytes // config.max_burst)
        bursts.append(((block * config.max_burst + low) * config.beat_bytes, length))
    return bursts


def run(config, bursts, seed, latency=1, stall=0.0, limit=20000):
    """Each initiator k asks for bursts[k]: (memory, beats of each, their cycles)."""
    rng = random.Random(seed)
    memory = Memory(config, rng, latency=latency, stall=stall)
    dut = ReadArbiter(config, len(bursts))
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    beats, stamps = [[] for _ in bursts], [[] for _ in bursts]
    wanted = [sum(length for _, length in mine) for mine in bursts]

    async def wait(ctx):
        await watch(ctx, lambda: [len(mine) for mine in beats] == wanted, limit)
        await ctx.tick().repeat(20)

    sim.add_testbench(partial(memory.serve_reads, port=dut.port), background=True)
    for k, mine in enumerate(bursts):
        port = dut.ports[k]
        commands = [dict(addr=address, len=length) for address, length in mine]
        sim.add_testbench(partial(feed, stream=port.cmd, items=commands, rng=rng, stall=stall))
        sim.add_testbench(partial(collect, stream=port.data, items=beats[k], rng=rng, stall=stall,
                                  stamps=stamps[k]), background=True)
    sim.add_testbench(wait)
    sim.run()
    assert beats == [[memory.beat(address + i * config.beat_bytes)
                      for address, length in mine for i in range(length)] for mine in bursts]
    return memory, stamps


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("latency, stall", [(1, 0.0), (1, 0.4), (25, 0.2)])
def test_random(count, latency, stall):
    config = Config(max_burst=8)
    seed = 100 * count + latency
    print("seed", seed)
    rng = random.Random(seed)
    bursts = [random_bursts(config, rng, 30 // count + k) for k in range(count)]
    run(config, bursts, seed, latency, stall)


@pytest.mark.parametrize("beat_bits", [32, 128])
def test_widths(beat_bits):
    config = Config(tm=4, fmt="fp32", beat_bits=beat_bits, max_burst=16)
    rng = random.Random(beat_bits)
    run(config, [random_bursts(config, rng, 8) for _ in range(3)], beat_bits, 3, 0.2)


def test_takes_turns():
    """Initiators that always ask are served one after the other."""
    config = Config(max_burst=8)
    bursts = [[(4096 * k + 64 * i, 8) for i in range(10)] for k in range(4)]
    memory, _ = run(config, bursts, 0)
    # the first may come before the others have asked
    order = [address // 4096 for address, _ in memory.reads]
    assert order[4:36] == [order[4 + k % 4] for k in range(32)]
    assert sorted(order[4:8]) == [0, 1, 2, 3]


@pytest.mark.parametrize("length, latency", [(1, 1), (1, 20), (8, 20)])
def test_full_rate(length, latency):
    config = Config(max_burst=8)
    bursts = [[(4096 * k + 64 * i, length) for i in range(20)] for k in range(3)]
    _, stamps = run(config, bursts, 0, latency)
    cycles = sorted(sum(stamps, []))
    assert cycles[-1] - cycles[0] == 60 * length - 1
    assert cycles[0] == 1 + latency  # offered in cycle 0, at the memory in cycle 1


def test_one_initiator_alone_gets_everything():
    config = Config(max_burst=8)
    _, stamps = run(config, [[], [(64 * i, 8) for i in range(20)], []], 0, 10)
    assert stamps[1][-1] - stamps[1][0] == 159


@pytest.mark.parametrize("config, count, error, message", [
    (64, 2, TypeError, r"^config must be a Config, not 64$"),
    (Config(), 2.0, TypeError, r"^count must be an integer, not 2\.0$"),
    (Config(), 0, ValueError, r"^count must be at least 1, not 0$"),
])
def test_rejects(config, count, error, message):
    with pytest.raises(error, match=message):
        ReadArbiter(config, count)
