# amaranth: UnusedElaboratable=no
"""hw/drain.py: order, pooling and tags of random walks, latency and throughput."""

import random
from dataclasses import replace
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.drain import Drain

from tests.hw.memory import collect, serve_drain, watch
from tests.hw.operands import FloatSource

CONFIGS = [Config(tm=2, tn=4, beat_bits=32, acc_depth=32), Config(tm=8, tn=16, beat_bits=64),
           Config(tm=4, tn=4, fmt="fp32", beat_bits=128), Config(tm=16, tn=16, beat_bits=64)]


def order(bits):
    """Canonical fp32 as an integer that compares like it."""
    return -(bits & 0x7fffffff) if bits >> 31 else bits


def expected(config, walk, acc):
    """(words, tags, last) of the vectors, by the loops of docs/program.md, section 5."""
    w1, w0 = (walk["w1"], walk["w0"]) if walk["pool"] else (1, 1)
    vectors, v = [], config.vlanes
    for i2 in range(walk["p2"]):
        for i1 in range(walk["p1"]):
            for i0 in range(walk["p0"]):
                at = walk["src_base"] + i2 * walk["as2"] + i1 * walk["as1"] + i0 * walk["as0"]
                words, tags = [], []
                for row in range(config.tm):
                    window = [acc[(at + j1 * walk["aw1"] + j0 * walk["aw0"]) % len(acc)][row]
                              for j1 in range(w1) for j0 in range(w0)]
                    keys = [order(value) for value in window]
                    tags.append(keys.index(max(keys)))
                    words.append(window[tags[-1]])
                vectors += [(words[k:k + v], tags[k:k + v], 0) for k in range(0, config.tm, v)]
    return vectors[:-1] + [(*words[:2], 1) for words in vectors[-1:]]


def random_walk(rng):
    pool = rng.randrange(2)
    walk = {name: rng.randint(-300, 300) for name in ("as2", "as1", "as0", "aw1", "aw0")}
    walk |= {name: rng.randint(1, 3) for name in ("p2", "p1", "p0", "w1", "w0")}
    walk |= {"src_base": rng.randrange(1 << 16), "pool": pool, "src_mem": 0}
    return walk


def drain(config, walks, seed, stall=0.0):
    """(vectors, their cycles, cycles of `start`, of reads, vectors expected) of `walks`, each begun
    as soon as the addresses of the one before are through."""
    rng = random.Random(seed)
    source = FloatSource(rng, "fp32")
    few = [source.any() for _ in range(3)]  # so that windows have equal elements
    acc = [[rng.choice([source.any(), *few]) for _ in range(config.tm)]
           for _ in range(2 * config.acc_depth)]
    dut, got, stamps, starts, reads = Drain(config), [], [], [], []
    wanted = [vector for walk in walks for vector in expected(config, walk, acc)]

    async def note_reads(ctx):
        now = 0
        while True:
            _, _, en = await ctx.tick().sample(dut.drain.en)
            if en:
                reads.append(now)
            now += 1

    async def testbench(ctx):
        now = 0
        for walk in walks:
            ctx.set(dut.walk, walk)
            ctx.set(dut.start, 1)
            starts.append(now)
            await ctx.tick()
            ctx.set(dut.start, 0)
            now += 1
            while ctx.get(dut.busy):
                await ctx.tick()
                now += 1
                assert now < 20000
            if rng.random() < stall:
                await ctx.tick()
                now += 1
        await watch(ctx, lambda: len(got) == len(wanted), 1000)
        await ctx.tick().repeat(20)
        assert len(got) == len(wanted)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(note_reads, background=True)
    simulator.add_testbench(partial(serve_drain, port=dut.drain, config=config, acc=acc, rng=rng),
                            background=True)
    simulator.add_testbench(partial(collect, stream=dut.o, items=got, rng=rng, stall=stall,
                                    stamps=stamps), background=True)
    simulator.add_testbench(testbench)
    simulator.run()
    got = [(list(vector.words), list(vector.tags), vector.last) for vector in got]
    return got, stamps, starts, reads, wanted


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_random_walks(config, stall):
    rng = random.Random(11)
    got, *_, wanted = drain(config, [random_walk(rng) for _ in range(20)], seed=12, stall=stall)
    assert got == wanted


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_window_of_eleven(config):
    config = replace(config, acc_depth=128)  # room for different numbers
    walk = dict(src_base=3, p2=1, p1=1, p0=2, w1=11, w0=11, as2=0, as1=0, as0=121, aw1=11, aw0=1,
                pool=1, src_mem=0)
    got, *_, wanted = drain(config, [walk], seed=13)
    assert got == wanted
    assert max(tag for _, tags, _ in got for tag in tags) > 63


@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_memory_source_is_counted(stall):
    """No reads, a vector each of undefined words, the last one marked."""
    config = CONFIGS[1]
    walk = dict(src_base=3, p2=2, p1=1, p0=5, w1=3, w0=3, as2=0, as1=0, as0=0, aw1=0, aw0=0, pool=0,
                src_mem=1)
    got, _, _, reads, wanted = drain(config, [walk, walk], seed=15, stall=stall)
    assert not reads
    assert [last for *_, last in got] == [last for *_, last in wanted]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("window", [None, (1, 1), (1, 2), (2, 2), (3, 5)])
def test_cycles(config, window):
    """A vector per cycle, but no more than an address per cycle, also from walk to walk."""
    w1, w0 = window or (7, 7)
    walk = dict(src_base=0, p2=2, p1=3, p0=5, w1=w1, w0=w0, as2=100, as1=10, as0=1, aw1=2, aw0=1,
                pool=window is not None, src_mem=0)
    got, stamps, starts, reads, wanted = drain(config, [walk, walk], seed=14)
    groups, each = config.groups, w1 * w0 if window else 1
    assert got == wanted
    last_reads = []  # of each window
    for start in starts:
        for k in range(2 * 3 * 5):
            begin = last_reads[-1] + 1 if k else start + 1
            free = last_reads[-1] + groups if last_reads else 0
            last_reads.append(max(begin + each - 1, free))
    assert starts == [0, last_reads[29] + 1]
    assert set(last_reads) <= set(reads)
    assert len(reads) == 2 * 30 * each
    assert stamps == [at + Drain.LATENCY - 1 + k for at in last_reads for k in range(groups)]


def test_config_is_checked():
    with pytest.raises(TypeError, match=r"^config must be a Config, not 64$"):
        Drain(64)
