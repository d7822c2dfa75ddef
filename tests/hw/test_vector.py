# amaranth: UnusedElaboratable=no
"""hw/vector.py: values, overflow and latency of every combination of steps, also mixed."""

import random

import pytest
from amaranth.sim import Simulator
from gradgate.hw import numerics
from gradgate.hw.config import Config
from gradgate.hw.vector import VectorPipeline

from tests.hw.operands import FloatSource

CONFIGS = [Config(tm=2, tn=4, beat_bits=32), Config(tm=4, tn=8, beat_bits=64),
           Config(tm=2, tn=4, fmt="fp32", beat_bits=64)]
FLAGS = ("scale", "bias", "opd_add", "relu", "mask", "sgd", "mom", "out_fp32", "tags")
NUMBERS = ("x", "opd", "mom", "bias")
MODES = [(), ("bias", "relu"), ("scale", "mask"), ("opd_add", "relu"), ("bias", "tags"),
         ("scale", "bias", "relu", "mask"), ("scale", "opd_add"), ("sgd",), ("sgd", "mom")]


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
    """(result, momentum' or None, overflow): docs/numerics.md, section 3."""
    do = Sums()
    if steps["sgd"]:
        g1 = do(numerics.fadd, x, do(numerics.fmul, steps["imm0"], opd))
        mom = do(numerics.fadd, do(numerics.fmul, steps["imm1"], mom) if steps["mom"] else 0, g1)
        return do(numerics.fsub, opd, do(numerics.fmul, steps["lr"], mom)), mom, do.overflow
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
    return x if steps["out_fp32"] else do(numerics.to_operand, fmt, x), None, do.overflow


def join(words, width):
    return sum(word << width * i for i, word in enumerate(words))


def run(config, entries):
    """((cycle, bits) of the beats of each output, cycles of `overflow`); entries = {cycle: (steps,
    vector)}."""
    dut, beats, aux, overflows = VectorPipeline(config), [], [], []
    blank = dict.fromkeys(FLAGS, 1) | dict.fromkeys(("imm0", "imm1", "lr"), HUGE)

    async def testbench(ctx):
        for cycle in range(max(entries) + dut.latency + 3):
            steps, vector = entries.get(cycle, (blank, {}))
            ctx.set(dut.en, cycle in entries)
            ctx.set(dut.steps, steps)  # of the one vector alone
            for name, words in vector.items():
                ctx.set(getattr(dut, name), words)
            _, _, en, beat, aux_en, aux_beat, overflow = await ctx.tick().sample(
                dut.o_en, dut.o, dut.aux_en, dut.aux, dut.overflow)
            if en:
                beats.append((cycle, beat))
            if aux_en:
                aux.append((cycle, aux_beat))
            if overflow:
                overflows.append(cycle)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
    return beats, aux, overflows


def random_steps(rng, mode, out_fp32):
    source = FloatSource(rng, "fp32")
    steps = {name: int(name in mode) for name in FLAGS} | {"out_fp32": out_fp32}
    return steps | {name: source.near(127, 2) for name in ("imm0", "imm1", "lr")}


def random_vector(rng, config):
    """Numbers that overflow now and then, and their neighbours for ties and cancellation."""
    source = FloatSource(rng, "fp32")
    vector = {name: [source.any() for _ in range(config.vlanes)] for name in ("x", "opd", "mom")}
    return vector | {"bias": [source.relative(x) for x in vector["x"]],
                     "tags": [rng.getrandbits(7) for _ in range(config.vlanes)]}


def check(config, entries):
    """Beats and their cycles by the docstring, overflow where there is some."""
    stages = VectorPipeline(config).stages
    latency = VectorPipeline(config).latency
    beats, aux, overflows = run(config, entries)
    wanted, wanted_aux, flagged = [], [], set()
    halves, half_tags = [], []
    for cycle, (steps, vector) in entries.items():
        results = [element(config.fmt, steps, *(vector[name][i] for name in NUMBERS))
                   for i in range(config.vlanes)]
        words = [result for result, *_ in results]
        if any(overflow for *_, overflow in results):
            flagged.add(cycle)
        if steps["sgd"]:
            wanted.append((cycle + stages["weight"] + 1, join(words, 32)))
        elif config.fmt == "fp32" or steps["out_fp32"]:
            wanted.append((cycle + stages["result"] + 1, join(words, 32)))
        else:
            halves += words
            if len(halves) == config.beat_elems:
                wanted.append((cycle + stages["operand"] + 1, join(halves, 16)))
                halves = []
        if steps["mom"]:
            wanted_aux.append((cycle + stages["momentum"] + 1,
                               join([mom for _, mom, _ in results], 32)))
        if steps["tags"]:
            half_tags += [numerics.tag(config.fmt, tag) for tag in vector["tags"]]
            if len(half_tags) == config.beat_elems:
                wanted_aux.append((cycle + 1, join(half_tags, config.elem_bits)))
                half_tags = []
    assert beats == wanted
    assert aux == wanted_aux
    assert bool(overflows) == bool(flagged)
    assert all(any(0 < at - cycle <= latency for cycle in flagged) for at in overflows)


@pytest.mark.parametrize("out_fp32", [0, 1])
@pytest.mark.parametrize("mode", MODES, ids="-".join)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_steps(config, mode, out_fp32):
    rng = random.Random(f"{mode}{out_fp32}")
    steps = random_steps(rng, mode, out_fp32)
    now, entries = 0, {}
    for _ in range(24):
        now += 1 + rng.choice([0, 0, 0, 1, 5])
        entries[now] = steps, random_vector(rng, config)
    check(config, entries)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_steps_travel(config):
    """Instructions of few vectors, as close to each other as allowed."""
    rng = random.Random(config.name)
    gap = VectorPipeline(config).sgd_gap
    now, entries, before = 0, {}, ()
    for mode in rng.choices(MODES, k=40):
        steps = random_steps(rng, mode, rng.getrandbits(1))
        now += gap - 1 if "sgd" in before and "sgd" not in mode else 1
        for _ in range(rng.choice([2, 2, 4, 6])):
            now += 1
            entries[now] = steps, random_vector(rng, config)
        before = mode
    check(config, entries)


HUGE, TINY, ONE, TWO = 0x7f7fffff, 0x00800000, 0x3f800000, 0x40000000
OVERFLOWS = {  # (steps, numbers of the one lane, does it overflow): each in one place alone
    "scale": ({"scale": 1, "imm0": TWO, "out_fp32": 1}, {"x": HUGE}, True),
    "bias": ({"bias": 1, "out_fp32": 1}, {"x": HUGE, "bias": HUGE}, True),
    "conversion": ({}, {"x": HUGE}, True),
    "no_conversion": ({"out_fp32": 1}, {"x": HUGE}, False),
    "decay": ({"sgd": 1, "imm0": TWO}, {"opd": HUGE}, True),
    "sum": ({"sgd": 1, "imm0": ONE}, {"x": HUGE, "opd": HUGE}, True),
    "momentum": ({"sgd": 1, "mom": 1, "imm1": TWO}, {"mom": HUGE}, True),
    "no_momentum": ({"sgd": 1, "imm1": TWO}, {"mom": HUGE}, False),
    "update": ({"sgd": 1, "mom": 1, "imm1": ONE}, {"x": HUGE, "mom": HUGE}, True),
    "step": ({"sgd": 1, "lr": TWO}, {"x": HUGE}, True),
    "weight": ({"sgd": 1, "lr": 0xbf800000}, {"x": HUGE, "opd": HUGE}, True),
    "no_sgd": ({"out_fp32": 1, "imm0": HUGE, "imm1": HUGE, "lr": HUGE},
               {"x": TINY, "opd": HUGE, "mom": HUGE, "bias": HUGE}, False),
}


@pytest.mark.parametrize("place", OVERFLOWS)
def test_overflow_of_each_operation(place):
    steps, numbers, overflow = OVERFLOWS[place]
    steps = dict.fromkeys(FLAGS, 0) | {"imm0": 0, "imm1": 0, "lr": 0} | steps
    blank = dict.fromkeys(NUMBERS, [0])
    vector = blank | {name: [bits] for name, bits in numbers.items()}
    beats, _, overflows = run(CONFIGS[0], {0: (steps, blank), 2: (steps, vector)})
    assert beats
    assert len(overflows) == overflow


def test_what_does_not_enter_does_not_overflow():
    config = CONFIGS[0]
    vector = dict.fromkeys(NUMBERS, [HUGE])
    dut, seen = VectorPipeline(config), []

    async def testbench(ctx):
        ctx.set(dut.steps, {"sgd": 1, "mom": 1, "imm0": TWO, "imm1": TWO, "lr": TWO})
        for name, words in vector.items():
            ctx.set(getattr(dut, name), words)
        for _ in range(2 * dut.latency):
            _, _, *sample = await ctx.tick().sample(dut.o_en, dut.aux_en, dut.overflow)
            seen.extend(sample)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
    assert not any(seen)


def test_config_is_checked():
    with pytest.raises(TypeError, match=r"^config must be a Config, not 64$"):
        VectorPipeline(64)
