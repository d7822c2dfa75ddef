# amaranth: UnusedElaboratable=no
"""hw/unpack.py: vectors of every kind of beat, the flag, one vector per cycle."""

import random
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.numerics import canonicalise
from gradgate.hw.unpack import Unpack

from tests.hw.memory import collect, feed, watch
from tests.hw.operands import FloatSource

CONFIGS = [Config(tm=2, tn=4, beat_bits=32), Config(tm=4, tn=8, beat_bits=64),
           Config(tm=4, tn=4, fmt="fp32", beat_bits=128),
           Config(tm=2, tn=4, fmt="fp32", beat_bits=32)]


def expected(config, fp32, beats):
    """(vectors, nonfinite events)."""
    fmt = "fp32" if fp32 else config.fmt
    size = 32 if fmt == "fp32" else 16
    vectors, events = [], 0
    for beat in beats:
        for low in range(0, config.beat_bits, config.vlanes * size):
            pairs = [canonicalise(fmt, beat >> low + i * size & ((1 << size) - 1))
                     for i in range(config.vlanes)]
            vectors.append([bits << 32 - size for bits, _ in pairs])
            events += any(bad for _, bad in pairs)
    return vectors, events


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("fp32", [0, 1])
def test_vectors(config, fp32, stall):
    rng = random.Random(7)
    source = FloatSource(rng, "fp32" if fp32 else config.fmt)
    beats = []
    for _ in range(40):
        words = [source.any() if rng.random() < 0.8 else rng.getrandbits(source.width)
                 | rng.choice([0, 0x7f80 << source.width - 16])
                 for _ in range(config.beat_bits // source.width)]
        beats.append(sum(word << k * source.width for k, word in enumerate(words)))
    vectors, nonfinite = expected(config, fp32, beats)
    assert nonfinite

    dut, got, stamps, events = Unpack(config), [], [], []

    async def count(ctx):
        while True:
            _, _, event = await ctx.tick().sample(dut.nonfinite)
            events.append(event)

    async def testbench(ctx):
        ctx.set(dut.fp32, fp32)
        await feed(ctx, dut.i, beats, rng, stall)
        await watch(ctx, lambda: len(got) == len(vectors), 200)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(count, background=True)
    simulator.add_testbench(partial(collect, stream=dut.o, items=got, rng=rng, stall=stall,
                                    stamps=stamps), background=True)
    simulator.add_testbench(testbench)
    simulator.run()

    assert [list(vector) for vector in got] == vectors
    assert sum(events) == nonfinite
    if not stall:
        assert stamps[-1] - stamps[0] == len(vectors) - 1


def test_format_may_change_between_beats():
    config = CONFIGS[1]
    rng = random.Random(8)
    source = FloatSource(rng, "bf16")
    modes = [rng.randrange(2) for _ in range(30)]
    beats = [sum(source.any() << 16 * i for i in range(4)) for _ in modes]
    dut, got = Unpack(config), []

    async def testbench(ctx):
        ctx.set(dut.o.ready, 1)
        for fp32, beat in zip(modes, beats, strict=True):
            ctx.set(dut.fp32, fp32)
            ctx.set(dut.i.payload, beat)
            ctx.set(dut.i.valid, 1)
            done = 0
            while not done:
                _, _, done, vector = await ctx.tick().sample(dut.i.ready, dut.o.payload)
                got.append(list(vector))
                assert len(got) <= 2 * len(beats)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
    assert got == [vector for fp32, beat in zip(modes, beats, strict=True)
                   for vector in expected(config, fp32, [beat])[0]]


def test_config_is_checked():
    with pytest.raises(TypeError, match=r"^config must be a Config, not 64$"):
        Unpack(64)
