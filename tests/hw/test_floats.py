# amaranth: UnusedElaboratable=no
"""The pipelines against hw/numerics.py: values, and the cycle in which they appear."""

import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator
from gradgate.hw import numerics
from gradgate.hw.config import Config
from gradgate.hw.floats import (
    FloatAdd,
    FloatMul,
    NormalAdd,
    ToOperand,
    canonicalise,
    leading_zeros,
    shift_left,
)

from tests.hw.operands import FloatSource
from tests.hw.pipeline import run_pipeline

SEED = 30
BF16 = Config()
FP32 = Config(fmt="fp32")


def evaluate(inputs, function, vectors):
    """Values of a combinational function of signals; `inputs` are the widths of these."""
    signals = [Signal(width) for width in inputs]
    m = Module()
    outputs = []
    for value in function(*signals):
        outputs.append(Signal(len(value)))
        m.d.comb += outputs[-1].eq(value)
    results = []

    async def bench(ctx):
        for vector in vectors:
            for signal, bits in zip(signals, vector, strict=True):
                ctx.set(signal, bits)
            await ctx.delay(1e-9)
            results.append(tuple(ctx.get(output) for output in outputs))

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    return results


def lone_sticky_bits():
    """Products of one guard bit and nothing below it but the last bit, in the last place of 48."""
    found = []
    for a in range(0xc00001, 0xc01001, 2):
        b = (1 << 23 | 1) * pow(a, -1, 1 << 24) % (1 << 24)
        if b >> 23 and a * b >> 47 and not a * b >> 24 & 1:
            found.append((127 << 23 | a & 0x7fffff, 127 << 23 | b & 0x7fffff))
    return found


def pairs(count):
    rng = random.Random(SEED)
    source = FloatSource(rng, "fp32")
    a = [source.any() for _ in range(count)]
    return [(x, source.relative(x) if rng.randrange(2) else source.any()) for x in a]


@pytest.mark.parametrize("component, reference",
                         [(FloatAdd, numerics.fadd), (FloatMul, numerics.fmul)])
def test_result_and_latency(component, reference):
    vectors = pairs(2000) + lone_sticky_bits() + [
        (0x7f7fffff, 0x73000000), (0x7f7fffff, 0x72ffffff), (0x3f800000, 0x33800000),
        (0x3f800001, 0x33800000), (0x3f800000, 0xb3000000), (0x3f800000, 0xb3000001),
        (0x00800001, 0x80800000), (0x3f7fffff, 0x00800000), (0x3f7ffffe, 0x00800001), (0, 0),
    ]
    results = run_pipeline(component(), ["a", "b"], ["o", "overflow"], component.LATENCY, vectors)
    wanted = [reference(*vector) for vector in vectors]
    assert any(overflow for _, overflow in wanted)
    assert sum(bits == 0 and 0 not in vector
               for (bits, _), vector in zip(wanted, vectors, strict=True)) > 20
    for vector, result, want in zip(vectors, results, wanted, strict=True):
        assert result == want, [hex(x) for x in vector]


def test_latencies():
    latencies = [part.LATENCY for part in (FloatAdd, FloatMul, ToOperand)]
    assert latencies == [5, 5, 1]


@pytest.mark.parametrize("config", [BF16, FP32], ids=lambda config: config.fmt)
def test_to_operand(config):
    vectors = [(a,) for a, _ in pairs(1500)]
    vectors += [(bits,) for bits in (0x7f7f7fff, 0x7f7f8000, 0xff7fffff, 0x3f808000, 0x3f818000, 0)]
    results = run_pipeline(ToOperand(config), ["i"], ["o", "overflow"], ToOperand.LATENCY, vectors)
    wanted = [numerics.to_operand(config.fmt, bits) for bits, in vectors]
    assert any(overflow for _, overflow in wanted) == (config.fmt == "bf16")
    assert results == wanted


@pytest.mark.parametrize("fmt, width", [("bf16", 16), ("fp32", 32)])
def test_canonicalise(fmt, width):
    rng = random.Random(SEED)
    man_bits = width - 9
    exponents = [0, 1, 254, 255, 127] * 100 + [rng.randrange(256) for _ in range(500)]
    vectors = [(rng.getrandbits(1) << (width - 1) | exponent << man_bits
                | rng.choice([0, rng.getrandbits(man_bits)]),) for exponent in exponents]
    results = evaluate([width], lambda value: canonicalise(fmt, value), vectors)
    assert results == [numerics.canonicalise(fmt, bits) for bits, in vectors]


@pytest.mark.parametrize("width", [1, 2, 5, 8, 11])
def test_leading_zeros(width):
    vectors = [(bits,) for bits in range(1, 1 << width)]
    results = evaluate([width], lambda value: [leading_zeros(value)], vectors)
    assert results == [(width - bits.bit_length(),) for bits, in vectors]


def test_shift_left():
    vectors = [(bits, amount) for bits in range(64) for amount in range(16)]
    results = evaluate([6, 4], lambda value, amount: [shift_left(value, amount)], vectors)
    assert results == [(bits << amount & 63,) for bits, amount in vectors]


@pytest.mark.parametrize("make, error, message", [
    (lambda: NormalAdd(24.0), TypeError, "width must be int, not 24.0"),
    (lambda: NormalAdd(23), ValueError, "width must be at least 24, not 23"),
    (lambda: ToOperand("bf16"), TypeError, "config must be a Config, not 'bf16'"),
])
def test_parameters_are_checked(make, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        make()
