# amaranth: UnusedElaboratable=no
"""hw/unpack.py: vectors of every kind of beat, the flag, one beat or vector per cycle."""

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
MODES = [{}, {"fp32": 1}, {"fp32": 1, "odd": 1}, {"fp32": 1, "pair": 1}]


def expected(config, mode, beats):
    """(vectors, nonfinite events): a vector is (first, second), second None unless `pair`."""
    def words(beat, fmt, count, low):
        size = 32 if fmt == "fp32" else 16
        pairs = [canonicalise(fmt, beat >> low + i * size & ((1 << size) - 1))
                 for i in range(count)]
        return [bits << 32 - size for bits, _ in pairs], any(bad for _, bad in pairs)

    if mode.get("pair"):
        pairs = [(words(a, "fp32", config.vlanes, 0), words(b, "fp32", config.vlanes, 0))
                 for a, b in zip(beats[::2], beats[1::2], strict=True)]
        return [(a, b) for (a, _), (b, _) in pairs], sum(x or y for (_, x), (_, y) in pairs)
    if mode.get("odd"):
        beats = beats[::2]
    fmt = "fp32" if mode.get("fp32") else config.fmt
    lows = [0] if fmt == "fp32" else [0, config.beat_bits // 2]
    made = [words(beat, fmt, config.vlanes, low) for beat in beats for low in lows]
    return [(vector, None) for vector, _ in made], sum(bad for _, bad in made)


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(mode) or "operand")
def test_vectors(config, mode, stall):
    rng = random.Random(7)
    source = FloatSource(rng, "fp32" if mode else config.fmt)
    beats = []
    for _ in range(40):
        words = [source.any() if rng.random() < 0.8 else rng.getrandbits(source.width)
                 | rng.choice([0, 0x7f80 << source.width - 16])
                 for _ in range(config.beat_bits // source.width)]
        beats.append(sum(word << k * source.width for k, word in enumerate(words)))
    vectors, nonfinite = expected(config, mode, beats)
    assert nonfinite

    dut, got, stamps, events = Unpack(config), [], [], []

    async def count(ctx):
        while True:
            _, _, event = await ctx.tick().sample(dut.nonfinite)
            events.append(event)

    async def testbench(ctx):
        for name, value in mode.items():
            ctx.set(getattr(dut, name), value)
        await feed(ctx, dut.i, beats, rng, stall)
        await watch(ctx, lambda: len(got) == len(vectors), 200)
        assert not ctx.get(dut.busy)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(count, background=True)
    simulator.add_testbench(partial(collect, stream=dut.o, items=got, rng=rng, stall=stall,
                                    stamps=stamps), background=True)
    simulator.add_testbench(testbench)
    simulator.run()

    for item, (first, second) in zip(got, vectors, strict=True):
        assert list(item.first) == first
        if second is not None:
            assert list(item.second) == second
    assert sum(events) == nonfinite
    if not stall:
        beats_each = max(1, len(beats) // len(vectors))
        assert stamps[-1] - stamps[0] == (len(vectors) - 1) * beats_each
