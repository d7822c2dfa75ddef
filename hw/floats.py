"""Arithmetic of docs/numerics.md: pipelines that take operands and give a result every cycle.

All registers here are datapath registers and have no reset. Inputs are canonical numbers.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import FORMATS, check_config
from gradgate.hw.multiplier import Multiplier
from gradgate.hw.numerics import MAX_FINITE

__all__ = ["Normal", "NormalAdd", "FloatAdd", "FloatMul", "ToOperand", "canonicalise",
           "leading_zeros", "shift_left", "unpack_fp32"]


def canonicalise(fmt, value):
    """A word from memory as (canonical number, whether it was infinite or NaN); combinational."""
    width, man_bits = FORMATS[fmt]
    exponent = value[man_bits:width - 1]
    nonfinite = exponent.all()
    return Mux(exponent.any() & ~nonfinite, value, Const(0, width)), nonfinite


def leading_zeros(value):
    """Zeros above the most significant one, of `len(value)` bits; undefined for 0."""
    if len(value) == 1:
        return Const(0, 0)
    if len(value) == 2:
        return ~value[1]
    half = 1 << ((len(value) - 1).bit_length() - 1)
    high = value[-half:]
    low = Cat(Const(1, 2 * half - len(value)), value[:-half])
    return Cat(Mux(high.any(), leading_zeros(high), leading_zeros(low)), ~high.any())


def shift_left(value, amount):
    """`value << amount`, cut to the width of `value`.

    One multiplexer level per bit of `amount`: the operator would widen the result by the largest
    shift.
    """
    width = len(value)
    for bit, shift in enumerate(amount):
        step = min(1 << bit, width)
        value = Mux(shift, Cat(Const(0, step), value[:width - step]), value)
    return value


class Normal(data.StructLayout):
    """A number on its way to a rounding: (-1)^sign * man * 2^(exp - 127 - (width - 1)).

    The top bit of `man` is one, or the number is zero; then `man` is 0 and `exp` is -512, below
    that of any other number.

    Parameters
    ----------
    width : int
        Bits of the significand, at least 24.
    """

    def __init__(self, width):
        super().__init__({"man": unsigned(width), "exp": signed(10), "sign": unsigned(1)})
        self.width = width


def unpack_fp32(bits, normal):
    """Statements that give `normal`, a view of `Normal`, the value of canonical fp32 `bits`."""
    nonzero = bits[23:31].any()
    return [
        normal.man.eq(Cat(Const(0, len(normal.man) - 24), bits[:23], nonzero)),
        normal.exp.eq(Cat(bits[23:31], Const(0, 1), ~nonzero)),
        normal.sign.eq(bits[31]),
    ]


def _pack(m, sign, exponent, fraction, guard, sticky, nonzero):
    """1.fraction * 2^(exponent - 127) rounded to fp32, as (bits, overflow)."""
    # both roundings and all limits are judged beside the decision, not after it
    up = Signal()
    carry = Signal()
    overflow = Signal()
    m.d.comb += [
        up.eq(guard & (sticky | fraction[0])),
        carry.eq(up & fraction.all()),
        overflow.eq((exponent >= 255) | ((exponent == 254) & carry)),
    ]
    rounded = Cat(Mux(up, (fraction + 1)[:23], fraction),
                  Mux(carry, (exponent + 1)[:8], exponent[:8]))
    normal = nonzero & ((exponent >= 1) | ((exponent == 0) & carry))
    return Mux(normal, Cat(Mux(overflow, MAX_FINITE, rounded)[:31], sign), 0), overflow


def _round(m, unit, sign, exponent, normal, sticky):
    """The last cycle of NormalAdd and FloatMul: rounds `normal`, 1.fraction and the guard bit, into
    the registers behind `o` and `overflow` of `unit`."""
    r5_bits = Signal(32, reset_less=True)
    r5_overflow = Signal(reset_less=True)
    bits, overflow = _pack(m, sign, exponent, normal[1:24], normal[0], sticky, normal[24])
    m.d.sync += [r5_bits.eq(bits), r5_overflow.eq(overflow)]
    m.d.comb += [unit.o.eq(r5_bits), unit.overflow.eq(r5_overflow)]


class NormalAdd(wiring.Component):
    """o = a + b, exact, rounded once to fp32.

    Latency 5 (`LATENCY`): order, align, add, normalise, round. One sum per cycle. No multipliers,
    no RAM.

    Parameters
    ----------
    width : int
        Bits of the significands, at least 24.

    Members
    -------
    a, b : In(Normal(width))
    o : Out(32)
        Canonical fp32.
    overflow : Out(1)
        o was limited to the largest finite number.
    """

    LATENCY = 5

    def __init__(self, width):
        if type(width) is not int:
            raise TypeError(f"width must be int, not {width!r}")
        if width < 24:
            raise ValueError(f"width must be at least 24, not {width!r}")
        self.width = width
        normal = Normal(width)
        super().__init__({"a": In(normal), "b": In(normal), "o": Out(32), "overflow": Out(1)})

    def elaborate(self, platform):
        m = Module()
        width = self.width
        a, b = self.a, self.b

        # order by magnitude
        a_large = Signal()
        r1_large = Signal(Normal(width), reset_less=True)
        r1_small = Signal(width, reset_less=True)
        r1_distance = Signal(10, reset_less=True)
        r1_subtract = Signal(reset_less=True)
        m.d.comb += a_large.eq(Cat(a.man, a.exp).as_signed() >= Cat(b.man, b.exp).as_signed())
        m.d.sync += [
            r1_large.eq(Mux(a_large, a, b)),
            r1_small.eq(Mux(a_large, b.man, a.man)),
            r1_distance.eq(Mux(a_large, a.exp - b.exp, b.exp - a.exp)),
            r1_subtract.eq(a.sign ^ b.sign),
        ]

        # align to guard, round and sticky bits
        aligned, sticky = Cat(Const(0, 2), r1_small), Const(0, 1)
        shift_bits = (width + 1).bit_length()
        for bit in range(shift_bits):
            step = min(1 << bit, width + 2)
            sticky |= r1_distance[bit] & aligned[:step].any()
            aligned = Mux(r1_distance[bit], aligned[step:], aligned)
        far = r1_distance[shift_bits:].any()
        r2_large = Signal(Normal(width), reset_less=True)
        r2_small = Signal(width + 3, reset_less=True)
        r2_subtract = Signal(reset_less=True)
        m.d.sync += [
            r2_large.eq(r1_large),
            # what is subtracted is ready for it: with it `total` has a long way
            r2_small.eq(Mux(far, r1_small.any(), Cat(sticky, aligned))
                        ^ r1_subtract.replicate(width + 3)),
            r2_subtract.eq(r1_subtract),
        ]

        # add; the result is never negative
        total = Signal(width + 4)
        r3_total = Signal(width + 4, reset_less=True)
        r3_zeros = Signal((width + 3).bit_length(), reset_less=True)
        r3_exp = Signal(signed(11), reset_less=True)
        r3_sign = Signal(reset_less=True)
        m.d.comb += total.eq(Cat(Const(0, 3), r2_large.man)
                             + Cat(r2_small, r2_subtract) + r2_subtract)
        m.d.sync += [
            r3_total.eq(total),
            r3_zeros.eq(leading_zeros(total)),
            r3_exp.eq(r2_large.exp + 1),
            r3_sign.eq(r2_large.sign),
        ]

        # normalise to one, fraction and guard bit
        normal = Signal(width + 4)
        r4_normal = Signal(25, reset_less=True)
        r4_sticky = Signal(reset_less=True)
        r4_exp = Signal(signed(11), reset_less=True)
        r4_sign = Signal(reset_less=True)
        m.d.comb += normal.eq(shift_left(r3_total, r3_zeros))
        m.d.sync += [
            r4_normal.eq(normal[-25:]),
            r4_sticky.eq(normal[:-25].any()),
            r4_exp.eq(r3_exp - r3_zeros),
            r4_sign.eq(r3_sign),
        ]

        _round(m, self, r4_sign, r4_exp, r4_normal, r4_sticky)
        return m


class FloatAdd(wiring.Component):
    """o = fadd(a, b), canonical fp32.

    Latency 5 (`LATENCY`), one sum per cycle. No multipliers, no RAM.

    Members
    -------
    a, b : In(32)
    o : Out(32)
    overflow : Out(1)
        o was limited to the largest finite number.
    """

    LATENCY = NormalAdd.LATENCY

    a: In(32)
    b: In(32)
    o: Out(32)
    overflow: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.add = add = NormalAdd(24)
        m.d.comb += [
            unpack_fp32(self.a, add.a),
            unpack_fp32(self.b, add.b),
            self.o.eq(add.o),
            self.overflow.eq(add.overflow),
        ]
        return m


class FloatMul(wiring.Component):
    """o = fmul(a, b), canonical fp32.

    Latency 5 (`LATENCY`): three of the multiplier, normalise, round. One product per cycle. One
    24 x 24 multiplier, no RAM.

    Members
    -------
    a, b : In(32)
    o : Out(32)
    overflow : Out(1)
        o was limited to the largest finite number.
    """

    LATENCY = Multiplier.LATENCY + 2

    a: In(32)
    b: In(32)
    o: Out(32)
    overflow: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.multiplier = multiplier = Multiplier(24)
        product = multiplier.o

        # a zero has no hidden bit, so its product is 0 whatever the exponent
        r1_exp = Signal(9, reset_less=True)
        r2_exp = Signal(signed(10), reset_less=True)
        r3_exp = Signal(signed(10), reset_less=True)
        r1_sign = Signal(reset_less=True)
        r2_sign = Signal(reset_less=True)
        r3_sign = Signal(reset_less=True)
        m.d.comb += [
            multiplier.a.eq(Cat(self.a[:23], self.a[23:31].any())),
            multiplier.b.eq(Cat(self.b[:23], self.b[23:31].any())),
        ]
        m.d.sync += [
            r1_exp.eq(self.a[23:31] + self.b[23:31]), r2_exp.eq(r1_exp - 127), r3_exp.eq(r2_exp),
            r1_sign.eq(self.a[31] ^ self.b[31]), r2_sign.eq(r1_sign), r3_sign.eq(r2_sign),
        ]

        # the product of two significands in [1, 2) is in [1, 4)
        normal = Signal(48)
        r4_normal = Signal(25, reset_less=True)  # 1.fraction and the guard bit
        r4_sticky = Signal(reset_less=True)
        r4_exp = Signal(signed(11), reset_less=True)
        r4_sign = Signal(reset_less=True)
        m.d.comb += normal.eq(Mux(product[47], product, product << 1))
        m.d.sync += [r4_normal.eq(normal[23:]), r4_sticky.eq(normal[:23].any()),
                     r4_exp.eq(r3_exp + product[47]), r4_sign.eq(r3_sign)]
        _round(m, self, r4_sign, r4_exp, r4_normal, r4_sticky)
        return m


class ToOperand(wiring.Component):
    """Canonical fp32 rounded to the operand format.

    Latency 1 (`LATENCY`), one number per cycle. No multipliers, no RAM.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In(32)
    o : Out(elem_bits)
    overflow : Out(1)
        o was limited to the largest finite operand; never for fp32.
    """

    LATENCY = 1

    def __init__(self, config):
        check_config(config)
        self.config = config
        super().__init__({"i": In(32), "o": Out(config.elem_bits), "overflow": Out(1)})

    def elaborate(self, platform):
        m = Module()
        r1_bits = Signal(self.config.elem_bits, reset_less=True)
        m.d.comb += self.o.eq(r1_bits)
        if self.config.fmt == "fp32":
            m.d.sync += r1_bits.eq(self.i)
            return m

        rounded = Signal(15)
        overflow = Signal()
        r1_overflow = Signal(reset_less=True)
        m.d.comb += [
            rounded.eq(self.i[16:31] + (self.i[15] & (self.i[:15].any() | self.i[16]))),
            overflow.eq(rounded[7:].all()),
            self.overflow.eq(r1_overflow),
        ]
        m.d.sync += [
            r1_bits.eq(Cat(Mux(overflow, 0x7f7f, rounded), self.i[31])),
            r1_overflow.eq(overflow),
        ]
        return m
