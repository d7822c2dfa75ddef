"""The fused dot-accumulate of docs/numerics.md, section 2: DotRow up to S, Accumulate from there.

All registers here are datapath registers and have no reset. Operands are canonical numbers.
"""

from operator import add

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.floats import (
    Normal,
    NormalAdd,
    leading_zeros,
    shift_left,
    unpack_fp32,
)
from gradgate.hw.multiplier import Multiplier

__all__ = ["PartialSum", "DotRow", "Accumulate", "reduce_tree"]


def reduce_tree(operator, values):
    """`values` reduced by `operator` as a balanced tree, in which sums grow a bit per level."""
    values = list(values)
    while len(values) > 1:
        pairs = [operator(x, y) for x, y in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[2 * len(pairs):]
    return values[0]


def _groups(values, size):
    return [values[i:i + size] for i in range(0, len(values), size)]


def _larger(x, y):
    return Mux(x > y, x, y)


class PartialSum(Normal):
    """S * 2^(E - 254 - F), exact and normalised; where that is less than 2^-200, of which
    Accumulate sees nothing, any such number.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config):
        check_config(config)
        super().__init__(config.frame + 2 + config.lane_bits)


class DotRow(wiring.Component):
    """The sum of tn products, aligned to the largest exponent and truncated there.

    Latency `latency`, one sum per cycle: max(4, 2 + c) for the products, which are given a cycle to
    get away from the multipliers, and their distances from the largest exponent, which takes c
    cycles to find: lane_bits for up to 8 lanes, half as many, rounded up, for more; then 1 to
    align, lane_bits to add, 1 for the magnitude, 2 to normalise. 12 for 8 and for 16 lanes. tn
    multipliers of man_bits + 1 bits, no RAM.

    Parameters
    ----------
    config : Config

    Members
    -------
    a, b : In(ArrayLayout(elem_bits, tn))
    a_live, b_live : In(tn)
        Which of them are not zero; see `live`.
    o : Out(PartialSum(config))
    """

    def __init__(self, config):
        check_config(config)
        self.config = config
        operands = data.ArrayLayout(config.elem_bits, config.tn)
        super().__init__({"a": In(operands), "b": In(operands), "o": Out(PartialSum(config)),
                          "a_live": In(config.tn), "b_live": In(config.tn)})

    def live(self, operands):
        """Which of `operands` are not zero: once for all rows that use them."""
        return Cat(x[self.config.man_bits:-1].any() for x in operands)

    @property
    def _levels(self):
        """Levels of the comparisons in one cycle: where there are few, their way is short."""
        return 1 if self.config.lane_bits <= 3 else 2

    @property
    def _align_stage(self):
        """Cycle in which products and their distances from the largest exponent are there."""
        return max(Multiplier.LATENCY + 1, 2 + -(-self.config.lane_bits // self._levels))

    @property
    def latency(self):
        return self._align_stage + 4 + self.config.lane_bits

    def elaborate(self, platform):
        m = Module()
        config = self.config
        man, frame, ready = config.man_bits, config.frame, self._align_stage

        def register(shape, name, value):
            target = Signal(shape, name=name, reset_less=True)
            m.d.sync += target.eq(value)
            return target

        def delay(shape, name, value, first, last):
            """`value`, there in cycle `first`, held back to cycle `last`."""
            for cycle in range(first + 1, last + 1):
                value = register(shape, f"r{cycle}_{name}", value)
            return value

        # products. A lane that is not live has exponent 0: what it makes counts only where the
        # largest exponent is below 32, and of sums of less than 2^-200 Accumulate sees nothing
        signs, exponents, products = [], [], []
        for lane in range(config.tn):
            a, b = self.a[lane], self.b[lane]
            exp_a, exp_b = a[man:-1], b[man:-1]
            multiplier = Multiplier(man + 1)
            m.submodules[f"multiplier_{lane}"] = multiplier
            m.d.comb += [
                multiplier.a.eq(Cat(a[:man], 1)), multiplier.b.eq(Cat(b[:man], 1)),
            ]
            live = self.a_live[lane] & self.b_live[lane]
            exponents.append(register(9, f"r1_exp_{lane}", Mux(live, exp_a + exp_b, 0)))
            signs.append(delay(1, f"sign_{lane}", a[-1] ^ b[-1], 0, ready))
            products.append(delay(2 * man + 2, f"product_{lane}", multiplier.o,
                                  Multiplier.LATENCY, ready))

        # the largest exponent, 0 if no lane is live
        values, cycle = exponents, 1
        while len(values) > 1:
            cycle += 1
            values = [register(9, f"r{cycle}_max_{i}", reduce_tree(_larger, group))
                      for i, group in enumerate(_groups(values, 1 << self._levels))]
        largest = delay(9, "max", values[0], cycle, ready - 1)

        # align; a term -t is ~t here, and the ones it lacks are counted
        terms, cycle = [], ready + 1
        for lane in range(config.tn):
            exponent = delay(9, f"exp_{lane}", exponents[lane], 1, ready - 1)
            distance = Signal(9, name=f"distance_{lane}")
            shift = register(5, f"r{ready}_shift_{lane}", distance[:5])
            far = register(1, f"r{ready}_far_{lane}", distance[5:].any())
            aligned = Signal(frame + 2, name=f"aligned_{lane}")
            scale = frame - 2 * man
            scaled = Cat(Const(0, scale), products[lane]) if scale > 0 else products[lane][-scale:]
            m.d.comb += [
                distance.eq(largest - exponent),
                aligned.eq(Mux(far, 0, scaled >> shift)),
            ]
            terms.append(register(signed(frame + 3), f"r{cycle}_term_{lane}",
                                  Cat(aligned, Const(0, 1)) ^ signs[lane].replicate(frame + 3)))
        ones = register(config.lane_bits + 1, f"r{cycle}_ones", reduce_tree(add, signs))

        # S, but for the ones; two at a time, as Yosys adds more of them with carries saved, which
        # takes more LUTs
        while len(terms) > 1:
            cycle += 1
            terms = [register(signed(len(terms[0]) + 1), f"r{cycle}_sum_{i}", add(*pair))
                     for i, pair in enumerate(_groups(terms, 2))]
        ones = delay(len(ones), "ones", ones, ready + 1, cycle)
        largest = delay(9, "max", largest, ready - 1, cycle)

        # sign and magnitude of S; both candidates at once, since -S = ~sum + (1 - ones)
        cycle += 1
        width = len(self.o.man)
        positive = Signal(signed(width + 1))
        negative = Signal(signed(width + 1))
        m.d.comb += [positive.eq(terms[0] + ones), negative.eq(~terms[0] + (1 - ones))]
        sign = register(1, f"r{cycle}_sign", positive[-1])
        magnitude = register(width, f"r{cycle}_magnitude", Mux(positive[-1], negative, positive))
        largest = register(9, f"r{cycle}_max", largest)

        # normalise
        cycle += 1
        zeros = register(range(width), f"r{cycle}_zeros", leading_zeros(magnitude))
        magnitude = register(width, f"r{cycle}_magnitude", magnitude)
        largest = register(9, f"r{cycle}_max", largest)
        sign = register(1, f"r{cycle}_sign", sign)
        man_normal = Signal(width)
        exponent = Signal(signed(10))
        result = Signal(PartialSum(config), reset_less=True)
        m.d.comb += [
            man_normal.eq(shift_left(magnitude, zeros)),
            exponent.eq(largest + (width - 1 - frame - 127) - zeros),
            self.o.eq(result),
        ]
        m.d.sync += [
            result.man.eq(man_normal),
            result.exp.eq(Mux(man_normal[-1], exponent, -512)),
            result.sign.eq(sign),
        ]
        return m


class Accumulate(wiring.Component):
    """o = acc + the partial sum, rounded once to fp32.

    Latency `latency`, one result per cycle. No multipliers, no RAM.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In(PartialSum(config))
    acc : In(32)
        Canonical fp32, sampled with i.
    o : Out(32)
    overflow : Out(1)
        o was limited to the largest finite number.
    """

    def __init__(self, config):
        partial = PartialSum(config)
        self.config = config
        super().__init__({"i": In(partial), "acc": In(32), "o": Out(32), "overflow": Out(1)})

    @property
    def latency(self):
        return NormalAdd.LATENCY

    def elaborate(self, platform):
        m = Module()
        m.submodules.add = adder = NormalAdd(PartialSum(self.config).width)
        m.d.comb += [
            adder.a.eq(self.i),
            unpack_fp32(self.acc, adder.b),
            self.o.eq(adder.o),
            self.overflow.eq(adder.overflow),
        ]
        return m
