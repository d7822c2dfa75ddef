# amaranth: UnusedElaboratable=no
"""hw/drain.py: order, pooling and tags of random walks, latency and throughput."""

import random
from collections import deque
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.accumulators import Accumulators
from gradgate.hw.config import Config
from gradgate.hw.drain import Drain

from tests.hw.memory import collect, watch
from tests.hw.operands import FloatSource

CONFIGS = [Config(tm=2, tn=4, beat_bits=32, acc_depth=32), Config(tm=8, tn=16, beat_bits=64),
           Config(tm=4, tn=4, fmt="fp32", beat_bits=128)]


def order(bits):
    """Canonical fp32 as an integer that compares like it."""
    return -(bits & 0x7fffffff) if bits >> 31 else bits


def expected(config, walk, acc):
    """The vectors, by the loops of docs/program.md, section 5."""
    w1, w0 = (walk["w1"], walk["w0"]) if walk["pool"] else (1, 1)
    vectors = []
    for i2 in range(walk["p2"]):
        for i1 in range(walk["p1"]):
            for i0 in range(walk["p0"]):
                at = walk["base"] + i2 * walk["as2"] + i1 * walk["as1"] + i0 * walk["as0"]
                words = []
                for row in range(config.tm):
                    window = [acc[(at + j1 * walk["aw1"] + j0 * walk["aw0"]) % len(acc)][row]
                              for j1 in range(w1) for j0 in range(w0)]
                    keys = [order(value) for value in window]
                    best = keys.index(max(keys))
                    words.append((0x4000 | best) << 16 if walk["tag_out"] else window[best])
                v = config.vlanes
                vectors += [words[k:k + v] for k in range(0, config.tm, v)]
    return vectors


def random_walk(rng):
    pool = rng.randrange(2)
    walk = {name: rng.randint(-300, 300) for name in ("as2", "as1", "as0", "aw1", "aw0")}
    walk |= {name: rng.randint(1, 3) for name in ("p2", "p1", "p0", "w1", "w0")}
    walk |= {"base": rng.randrange(1 << 16), "pool": pool, "tag_out": pool & rng.randrange(2)}
    if rng.random() < 0.1:
        walk[rng.choice(["p2", "p1", "p0"])] = 0
    return walk


def drain(config, walks, seed, stall=0.0):
    """(vectors, their cycles, cycles of `start`, vectors expected) of `walks`, one by one."""
    rng = random.Random(seed)
    source = FloatSource(rng, "fp32")
    few = [source.any() for _ in range(3)]  # so that windows have equal elements
    acc = [[rng.choice([source.any(), *few]) for _ in range(config.tm)]
           for _ in range(2 * config.acc_depth)]
    dut, got, stamps, starts, wanted = Drain(config), [], [], [], []

    async def serve(ctx):
        answers = deque()
        while True:
            _, _, en, addr = await ctx.tick().sample(dut.drain.en, dut.drain.addr)
            answers.append(acc[addr % len(acc)] if en
                           else [rng.getrandbits(32) for _ in range(config.tm)])
            if len(answers) == Accumulators.LATENCY:
                ctx.set(dut.drain.data, answers.popleft())

    async def testbench(ctx):
        now = 0
        for walk in walks:
            wanted.extend(expected(config, walk, acc))
            ctx.set(dut.walk, walk)
            ctx.set(dut.start, 1)
            starts.append(now)
            await ctx.tick()
            ctx.set(dut.start, 0)
            now += 1
            while len(got) < len(wanted):
                await ctx.tick()
                now += 1
                assert now < 20000
            assert not ctx.get(dut.busy)
        await ctx.tick().repeat(20)
        await watch(ctx, lambda: len(got) == len(wanted), 1)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(serve, background=True)
    simulator.add_testbench(partial(collect, stream=dut.o, items=got, rng=rng, stall=stall,
                                    stamps=stamps), background=True)
    simulator.add_testbench(testbench)
    simulator.run()
    return [list(vector) for vector in got], stamps, starts, wanted


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_random_walks(config, stall):
    rng = random.Random(11)
    got, _, _, wanted = drain(config, [random_walk(rng) for _ in range(20)], seed=12, stall=stall)
    assert got == wanted


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_window_of_eleven(config):
    walk = dict(base=3, p2=1, p1=1, p0=2, w1=11, w0=11, as2=0, as1=0, as0=121, aw1=11, aw0=1,
                pool=1, tag_out=1)
    got, _, _, wanted = drain(config, [walk], seed=13)
    assert got == wanted
    assert {word >> 23 for vector in got for word in vector} == {0x80}


@pytest.mark.parametrize("pool", [0, 1])
def test_cycles(pool):
    config = CONFIGS[1]
    walk = dict(base=0, p2=2, p1=3, p0=5, w1=2, w0=3, as2=100, as1=10, as0=1, aw1=2, aw0=1,
                pool=pool, tag_out=0)
    got, stamps, starts, wanted = drain(config, [walk], seed=14)
    each = 6 if pool else 1
    assert got == wanted
    assert [stamp - starts[0] for stamp in stamps] == [
        Drain.LATENCY + each - 1 + each * k for k in range(2 * 3 * 5 * config.groups)]
