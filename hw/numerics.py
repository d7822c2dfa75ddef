"""docs/numerics.md in plain Python integers: the reference of the arithmetic blocks.

Numbers are bit patterns (non-negative integers). Every function is exact up to its one documented
rounding; none of them is fast.
"""

from gradgate.hw.config import FORMATS

__all__ = ["MAX_FINITE", "canonicalise", "fadd", "fsub", "fmul", "to_operand", "dotacc", "tag"]

MAX_FINITE = 0x7f7fffff  # the largest finite fp32
_SIGN = 0x80000000


def canonicalise(fmt, bits):
    """A word from memory as (canonical number, whether it was infinite or NaN)."""
    man_bits = FORMATS[fmt][1]
    exponent = bits >> man_bits & 0xff
    return (0 if exponent in (0, 255) else bits), exponent == 255


def _unpack(fmt, bits):
    """A canonical number as integers (n, e), of value n * 2^e."""
    width, man_bits = FORMATS[fmt]
    exponent = bits >> man_bits & 0xff
    if exponent == 0:
        return 0, 0
    significand = 1 << man_bits | bits & ((1 << man_bits) - 1)
    return -significand if bits >> (width - 1) else significand, exponent - 127 - man_bits


def _round(n, e):
    """n * 2^e rounded to fp32 (docs/numerics.md, section 1) as (bits, overflow)."""
    if n == 0:
        return 0, False
    sign, n = (_SIGN, -n) if n < 0 else (0, n)

    drop = n.bit_length() - 24
    if drop > 0:
        twice_rest, unit = 2 * (n & ((1 << drop) - 1)), 1 << drop
        n >>= drop
        n += twice_rest > unit or (twice_rest == unit and n & 1)
    else:
        n <<= -drop
    biased = e + drop + 23 + 127 + (n >> 24)  # n is 2^24 when rounding has carried out

    if biased < 1:
        return 0, False
    if biased > 254:
        return sign | MAX_FINITE, True
    return sign | biased << 23 | n & 0x7fffff, False


def _add(n_a, e_a, n_b, e_b):
    e = min(e_a, e_b)
    return _round((n_a << (e_a - e)) + (n_b << (e_b - e)), e)


def fadd(a, b):
    """Canonical fp32 a + b as (bits, overflow)."""
    return _add(*_unpack("fp32", a), *_unpack("fp32", b))


def fsub(a, b):
    """Canonical fp32 a - b as (bits, overflow)."""
    return fadd(a, b ^ _SIGN if b else 0)


def fmul(a, b):
    """Canonical fp32 a * b as (bits, overflow)."""
    (n_a, e_a), (n_b, e_b) = _unpack("fp32", a), _unpack("fp32", b)
    return _round(n_a * n_b, e_a + e_b)


def to_operand(fmt, bits):
    """Canonical fp32 rounded to the operand format as (bits, overflow)."""
    if fmt == "fp32":
        return bits, False
    rounded = bits + 0x7fff + (bits >> 16 & 1) >> 16
    if rounded >> 7 & 0xff == 255:
        return rounded & 0x8000 | 0x7f7f, True
    return rounded, False


def dotacc(config, a, b, acc):
    """acc + a . b, rounded once, as (bits, overflow).

    Parameters
    ----------
    config : Config
        Of which the operand format and tn count.
    a, b : sequence of int
        tn canonical operands each.
    acc : int
        Canonical fp32.
    """
    if len(a) != config.tn or len(b) != config.tn:
        raise ValueError(f"a and b must have {config.tn} operands, not {len(a)} and {len(b)}")
    man, frame = config.man_bits, config.frame

    lanes = []
    for x, y in zip(a, b, strict=True):
        (n_x, e_x), (n_y, e_y) = _unpack(config.fmt, x), _unpack(config.fmt, y)
        if n_x and n_y:
            lanes.append((n_x * n_y, e_x + e_y + 2 * (127 + man)))
    if not lanes:
        return acc, False

    largest = max(e for _, e in lanes)
    total = 0
    for product, e in lanes:
        shift = frame - 2 * man - (largest - e)
        aligned = abs(product) << shift if shift >= 0 else abs(product) >> -shift
        total += aligned if product > 0 else -aligned
    return _add(*_unpack("fp32", acc), total, largest - 254 - frame)


def tag(fmt, index):
    """The operand that carries the pooling tag `index` (0..127)."""
    if not 0 <= index <= 127:
        raise ValueError(f"index must be in 0..127, not {index!r}")
    return (0x4000 | index) << (FORMATS[fmt][0] - 16)
