# amaranth: UnusedElaboratable=no
"""hw/vector.py: values, overflow and latency of every combination of steps."""

import random

import pytest
from amaranth.sim import Simulator
from gradgate.hw import numerics
from gradgate.hw.config import Config
from gradgate.hw.vector import VectorPipeline

from tests.hw.operands import FloatSource

CONFIGS = [Config(tm=2, tn=4, beat_bits=32), Config(tm=4, tn=8, beat_bits=64),
           Config(tm=2, tn=4, fmt="fp32", beat_bits=64)]
FLAGS = ("scale", "bias", "opd_add", "relu", "mask", "sgd", "fp32")
NUMBERS = ("x", "opd", "mom", "bias")
MODES = [(), ("bias", "relu"), ("scale", "mask"), ("opd_add", "relu"),
         ("scale", "bias", "relu", "mask"), ("scale", "opd_add"), ("sgd",)]


class Sums:
    """Arithmetic that remembers overflows."""

    def __init__(self):
        self.overflow = False

    def __call__(self, function, *args):
        bits, overflow = function(*args)
        self.overflow |= overflow
        return bits


def positive(bits):
    return bits != 0 and not bits >> 31


def element(fmt, steps, x, opd, mom, bias):
    """(result bits of the element, overflow): docs/numerics.md, section 3."""
    do = Sums()
    if steps["sgd"]:
        g1 = do(numerics.fadd, x, do(numerics.fmul, steps["imm0"], opd))
        mom = do(numerics.fadd, do(numerics.fmul, steps["imm1"], mom), g1)
        return (do(numerics.fsub, opd, do(numerics.fmul, steps["lr"], mom)), mom), do.overflow
    if steps["scale"]:
        x = do(numerics.fmul, x, steps["imm0"])
    if steps["bias"]:
        x = do(numerics.fadd, x, bias)
    if steps["opd_add"]:
        x = do(numerics.fadd, x, opd)
    if steps["relu"] and not positive(x):
        x = 0
    if steps["mask"] and not positive(opd):
        x = 0
    return (x if steps["fp32"] else do(numerics.to_operand, fmt, x),), do.overflow


def join(words, width):
    return sum(word << width * i for i, word in enumerate(words))


def run(config, steps, vectors, gaps):
    """(cycles of `en`, beats as (cycle, bits), cycles of `overflow`); gaps[k] precedes vector k."""
    dut, beats, overflows = VectorPipeline(config), [], []
    enter = {}
    now = -1
    for vector, gap in zip(vectors, gaps, strict=True):
        now += 1 + gap
        enter[now] = vector

    async def testbench(ctx):
        ctx.set(dut.steps, steps)
        for cycle in range(now + dut.latency + 3):
            ctx.set(dut.en, cycle in enter)
            for name, words in enter.get(cycle, {}).items():
                ctx.set(getattr(dut, name), words)
            _, _, en, beat, overflow = await ctx.tick().sample(dut.o_en, dut.o, dut.overflow)
            if en:
                beats.append((cycle, beat))
            if overflow:
                overflows.append(cycle)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
    return list(enter), beats, overflows


@pytest.mark.parametrize("fp32", [0, 1])
@pytest.mark.parametrize("mode", MODES, ids="-".join)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_steps(config, mode, fp32):
    rng = random.Random(f"{mode}{fp32}")
    source = FloatSource(rng, "fp32")
    steps = {name: int(name in mode) for name in FLAGS} | {"fp32": fp32}
    steps |= {name: source.near(127, 2) for name in ("imm0", "imm1", "lr")}

    # numbers that overflow now and then, and their neighbours for ties and cancellation
    vectors = []
    for _ in range(24):
        vector = {name: [source.any() for _ in range(config.vlanes)]
                  for name in ("x", "opd", "mom")}
        vector["bias"] = [source.relative(x) for x in vector["x"]]
        vectors.append(vector)
    gaps = [rng.choice([0, 0, 0, 1, 5]) + steps["sgd"] for _ in vectors]
    entered, beats, overflows = run(config, steps, vectors, gaps)

    dut = VectorPipeline(config)
    narrow = config.fmt == "bf16" and not fp32 and not steps["sgd"]
    size = config.beat_bits // config.vlanes // (2 if narrow else 1)
    wanted, halves, flagged = [], [], set()
    for cycle, vector in zip(entered, vectors, strict=True):
        results = [element(config.fmt, steps, *(vector[name][i] for name in NUMBERS))
                   for i in range(config.vlanes)]
        words = list(zip(*(result for result, _ in results), strict=True))
        if any(overflow for _, overflow in results):
            flagged.add(cycle)
        if steps["sgd"]:
            done = cycle + dut.stages["weight"] + 1
            wanted += [(done, join(words[0], size)), (done + 1, join(words[1], size))]
        elif narrow:
            halves += words[0]
            if len(halves) == config.beat_elems:
                wanted.append((cycle + dut.stages["operand"] + 1, join(halves, size)))
                halves = []
        else:
            wanted.append((cycle + dut.stages["result"] + 1, join(words[0], size)))
    assert beats == wanted
    assert bool(overflows) == bool(flagged)
    assert all(any(0 < at - cycle <= dut.latency for cycle in flagged) for at in overflows)


HUGE, TINY, ONE, TWO = 0x7f7fffff, 0x00800000, 0x3f800000, 0x40000000
OVERFLOWS = {  # (steps, numbers of the one lane, does it overflow): each in one place alone
    "scale": ({"scale": 1, "imm0": TWO, "fp32": 1}, {"x": HUGE}, True),
    "bias": ({"bias": 1, "fp32": 1}, {"x": HUGE, "bias": HUGE}, True),
    "conversion": ({}, {"x": HUGE}, True),
    "no_conversion": ({"fp32": 1}, {"x": HUGE}, False),
    "decay": ({"sgd": 1, "imm0": TWO}, {"opd": HUGE}, True),
    "sum": ({"sgd": 1, "imm0": ONE}, {"x": HUGE, "opd": HUGE}, True),
    "momentum": ({"sgd": 1, "imm1": TWO}, {"mom": HUGE}, True),
    "update": ({"sgd": 1, "imm1": ONE}, {"x": HUGE, "mom": HUGE}, True),
    "step": ({"sgd": 1, "lr": TWO}, {"x": HUGE}, True),
    "weight": ({"sgd": 1, "lr": 0xbf800000}, {"x": HUGE, "opd": HUGE}, True),
    "no_sgd": ({"fp32": 1, "imm0": HUGE, "imm1": HUGE, "lr": HUGE},
               {"x": TINY, "opd": HUGE, "mom": HUGE, "bias": HUGE}, False),
}


@pytest.mark.parametrize("place", OVERFLOWS)
def test_overflow_of_each_operation(place):
    steps, numbers, overflow = OVERFLOWS[place]
    blank = dict.fromkeys(NUMBERS, [0])
    vector = blank | {name: [bits] for name, bits in numbers.items()}
    _, beats, overflows = run(CONFIGS[0], steps, [blank, vector], [0, 1])
    assert beats
    assert len(overflows) == overflow


def test_what_does_not_enter_does_not_overflow():
    config = CONFIGS[0]
    vector = dict.fromkeys(NUMBERS, [HUGE])
    dut, seen = VectorPipeline(config), []

    async def testbench(ctx):
        ctx.set(dut.steps, {"sgd": 1, "imm0": TWO, "imm1": TWO, "lr": TWO})
        for name, words in vector.items():
            ctx.set(getattr(dut, name), words)
        for _ in range(2 * dut.latency):
            _, _, en, overflow = await ctx.tick().sample(dut.o_en, dut.overflow)
            seen.append(en | overflow)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
    assert not any(seen)


def test_sgd_right_after_another_instruction():
    """Vectors that have left as beats but still travel in the pipeline are not taken for SGD's."""
    dut = VectorPipeline(CONFIGS[1])
    plain = dict.fromkeys(FLAGS, 0) | {"fp32": 1, "imm0": 0, "imm1": 0, "lr": 0}
    beats = []

    async def testbench(ctx):
        ctx.set(dut.steps, plain)
        ctx.set(dut.en, 1)
        await ctx.tick()
        ctx.set(dut.en, 0)
        for _ in range(3 * dut.latency):
            *_, en = await ctx.tick().sample(dut.o_en)
            beats.append(en)
            if en:
                ctx.set(dut.steps, plain | {"fp32": 0, "sgd": 1})

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()
    assert sum(beats) == 1
