"""The reference arithmetic against numpy, torch and exact fractions."""

import random
from fractions import Fraction

import numpy as np
import pytest
import torch
from gradgate.hw import numerics
from gradgate.hw.config import Config

from tests.hw.operands import FloatSource

SEED = 20


def config(fmt, tn):
    return Config(fmt=fmt, tn=tn, tm=2, beat_bits=32)


def pairs(count, rng):
    source = FloatSource(rng, "fp32")
    a = [source.any() for _ in range(count)]
    return [(x, source.relative(x) if rng.randrange(2) else source.any()) for x in a]


def float32(bits):
    return np.array(bits, np.uint32).view(np.float32)


def value(fmt, bits):
    """The exact value of a bit pattern, by way of float64."""
    return Fraction(float(float32(bits if fmt == "fp32" else bits << 16)))


def expected(result):
    """Canonical results and overflow flags of numpy float32 values."""
    bits = result.view(np.uint32)
    overflow = np.isinf(result)
    bits = np.where(overflow, bits & 0x80000000 | 0x7f7fffff, bits)
    return np.where(np.abs(result) < np.float32(2**-126), 0, bits).tolist(), overflow.tolist()


@pytest.mark.parametrize("operation, reference",
                         [(numerics.fadd, np.add), (numerics.fsub, np.subtract)])
def test_fadd_is_ieee(operation, reference):
    operands = pairs(20_000, random.Random(SEED))
    a, b = float32(operands).T
    with np.errstate(over="ignore"):
        bits, overflow = expected(reference(a, b))
    assert sum(overflow) > 100 and bits.count(0) > 100
    for i, (x, y) in enumerate(operands):
        assert operation(x, y) == (bits[i], overflow[i]), (hex(x), hex(y))


def test_fmul_is_ieee_with_unbounded_exponent():
    operands = pairs(20_000, random.Random(SEED))
    a, b = float32(operands).T
    product = a.astype(np.float64) * b  # exact: 48 bits, and far from the ends of float64
    # move tiny products up where float32 has all its bits, round there, judge by the moved limit
    tiny = np.abs(product) < 2.0**-100
    with np.errstate(over="ignore"):
        moved = np.where(tiny, product * 2.0**200, product).astype(np.float32)
    flushed = tiny & (np.abs(moved) < 2.0**74)
    rounded = np.where(tiny, moved.astype(np.float64) * 2.0**-200, moved).astype(np.float32)
    bits, overflow = expected(np.where(flushed, np.float32(0), rounded))
    assert sum(overflow) > 100 and flushed.sum() > 100
    for i, (x, y) in enumerate(operands):
        assert numerics.fmul(x, y) == (bits[i], overflow[i]), (hex(x), hex(y))


@pytest.mark.parametrize("a, b, result", [
    # (1 - 2^-24) 2^-126 has 24 bits; IEEE would round it to 2^-126, with its bounded exponent
    (0x3f7fffff, 0x00800000, (0, False)),
    # (1 + 2^-23) (1 - 2^-23) 2^-126 rounds up to 2^-126
    (0x3f7ffffe, 0x00800001, (0x00800000, False)),
    (0xbf7ffffe, 0x00800001, (0x80800000, False)),
    (0x00000000, 0x7f7fffff, (0, False)),
    (0xff7fffff, 0x40000000, (0xff7fffff, True)),
])
def test_fmul_at_the_ends(a, b, result):
    assert numerics.fmul(a, b) == result
    assert numerics.fmul(b, a) == result


@pytest.mark.parametrize("a, b, result", [
    # half a unit in the last place above the largest finite number: a tie, rounds to 2^128
    (0x7f7fffff, 0x73000000, (0x7f7fffff, True)),
    (0x7f7fffff, 0x72ffffff, (0x7f7fffff, False)),
    (0xff7fffff, 0xf3000000, (0xff7fffff, True)),
    # ties to even, both ways
    (0x3f800000, 0x33800000, (0x3f800000, False)),
    (0x3f800001, 0x33800000, (0x3f800002, False)),
    (0x3f800000, 0x33800001, (0x3f800001, False)),
    # cancellation to zero, and to below the smallest normal number
    (0xbf800000, 0x3f800000, (0, False)),
    (0x00800001, 0x80800000, (0, False)),
])
def test_fadd_at_the_ends(a, b, result):
    assert numerics.fadd(a, b) == result
    assert numerics.fadd(b, a) == result


def test_fsub_of_zero_is_not_negative_zero():
    assert numerics.fsub(0, 0) == (0, False)
    assert numerics.fsub(0x3f800000, 0) == (0x3f800000, False)


@pytest.mark.parametrize("fmt", ["bf16", "fp32"])
def test_canonicalise(fmt):
    shift = 0 if fmt == "bf16" else 16
    for bits in range(1 << 16):
        exponent = bits >> 7 & 255
        kept = bits << shift if 1 <= exponent <= 254 else 0
        assert numerics.canonicalise(fmt, bits << shift) == (kept, exponent == 255)


def test_to_operand_is_torch_rounding():
    source = FloatSource(random.Random(SEED), "fp32")
    halves = [0x3f808000, 0x3f818000, 0x3f808001, 0x3f817fff, 0x7f7f7fff, 0x7f7f8000, 0xff7fffff]
    numbers = halves + [source.any() for _ in range(20_000)]
    floats = torch.from_numpy(float32(numbers).copy())
    rounded = floats.to(torch.bfloat16)
    overflow = torch.isinf(rounded).tolist()
    bits = (rounded.view(torch.int16).to(torch.int32) & 0xffff).tolist()
    assert any(overflow)
    for i, number in enumerate(numbers):
        wanted = bits[i] & 0x8000 | 0x7f7f if overflow[i] else bits[i]
        assert numerics.to_operand("bf16", number) == (wanted, overflow[i]), hex(number)
        assert numerics.to_operand("fp32", number) == (number, False)


@pytest.mark.parametrize("fmt", ["bf16", "fp32"])
@pytest.mark.parametrize("tn", [4, 16, 64])
def test_dotacc_is_within_the_truncation(fmt, tn):
    """Off the exact value by less than one unit of the frame per lane and half an ulp."""
    rng, cfg = random.Random(SEED), config(fmt, tn)
    source, accs = FloatSource(rng, fmt), FloatSource(rng, "fp32")
    for _ in range(500):
        a = [source.near(127, 12) for _ in range(tn)]
        b = [source.near(127, 12) for _ in range(tn)]
        acc = accs.near(127, 20)
        bits, overflow = numerics.dotacc(cfg, a, b, acc)
        exact = value("fp32", acc) + sum(
            value(fmt, x) * value(fmt, y) for x, y in zip(a, b, strict=True))
        largest = max((x >> cfg.man_bits & 255) + (y >> cfg.man_bits & 255)
                      for x, y in zip(a, b, strict=True))
        unit = Fraction(2) ** (largest - 254 - cfg.frame)
        error = abs(value("fp32", bits) - exact)
        assert error < tn * unit + abs(value("fp32", bits)) * Fraction(2) ** -24
        assert not overflow


@pytest.mark.parametrize("fmt", ["bf16", "fp32"])
def test_dotacc_without_truncation_is_the_exact_sum_rounded_once(fmt):
    """Small integers never leave the frame, so the only rounding is that of the sum."""
    rng, cfg = random.Random(SEED), config(fmt, 4)
    for _ in range(2000):
        a = rng.choices(range(-15, 16), k=4)
        b = rng.choices(range(-15, 16), k=4)
        acc = np.float32(rng.uniform(-1, 1) * 2.0 ** rng.randint(-20, 40))
        bits, overflow = numerics.dotacc(
            cfg, *([int(np.float32(x).view(np.uint32)) >> (32 - cfg.elem_bits) for x in v]
                   for v in (a, b)), int(acc.view(np.uint32)))
        exact = np.float64(acc) + sum(x * y for x, y in zip(a, b, strict=True))
        assert bits == int(np.float32(exact).view(np.uint32)) and not overflow, (a, b, acc)


def test_dotacc_truncates_magnitudes():
    cfg, one = config("bf16", 16), 0x3f80
    assert cfg.frame == 18

    def dot(*lanes, acc=0):
        padded = list(lanes) + [(0, one)] * (16 - len(lanes))
        return numerics.dotacc(cfg, *zip(*padded, strict=True), acc)

    unit = (127 - 18) << 7  # 2^-18, one unit of a frame whose largest exponent is that of 1.0
    assert dot((one, one), (one, unit)) == (0x3f800000 + (1 << 5), False)
    assert dot((one, one), (one, unit | 0x40)) == (0x3f800000 + (1 << 5), False)
    assert dot((one, one), (one, 0x8000 | unit | 0x40)) == (0x3f800000 - (1 << 6), False)
    assert dot((one, one), (one, unit - (1 << 7) | 0x7f)) == (0x3f800000, False)
    assert dot((one, one), (one | 0x8000, one), (one, unit - 128)) == (0, False)
    assert dot(acc=0x12345678) == (0x12345678, False)
    assert dot((one, one), (one | 0x8000, one), acc=0x12345678) == (0x12345678, False)
    assert dot((0x7f7f, 0x7f7f)) == (0x7f7fffff, True)
    assert dot((0x0080, 0x0080)) == (0, False)


def test_dotacc_needs_tn_operands():
    with pytest.raises(ValueError, match="must have 16 operands, not 4 and 16"):
        numerics.dotacc(config("bf16", 16), [0] * 4, [0] * 16, 0)


@pytest.mark.parametrize("fmt, bits", [("bf16", 0x4000), ("fp32", 0x40000000)])
def test_tag_survives_storage(fmt, bits):
    for index in range(121):
        tag = numerics.tag(fmt, index)
        assert tag == bits | index << (0 if fmt == "bf16" else 16)
        assert numerics.canonicalise(fmt, tag) == (tag, False)
    with pytest.raises(ValueError, match="index must be in 0..127, not 128"):
        numerics.tag(fmt, 128)
