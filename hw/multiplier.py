"""Products of integers in the multipliers of the chip, with their own registers.

All registers here are datapath registers and have no reset.
"""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Block", "Multiplier"]


class Block(wiring.Component):
    """o = a * b, exact: one multiplier of the chip.

    Latency `latency`, one product per cycle. For an ECP5 a MULT18X18D with its own registers, which
    synthesis would leave unused: without them its 3.9 ns are on the way from one register to
    another, and each product takes four times as many flip-flops. For an iCE40 an SB_MAC16 with its
    own registers: Yosys 0.69 loses products when it moves registers there itself. For any other
    platform, and in simulation, what synthesis makes of it.

    Parameters
    ----------
    width : int
        Bits of a and of b, unsigned, 1..18; o has twice as many.
    latency : int
        2: inputs and product registered; 3: also within the multiplier.

    Raises
    ------
    ValueError
        `width` or `latency` is out of range.
    """

    def __init__(self, width, latency):
        if width not in range(1, 19):
            raise ValueError(f"width must be in 1..18, not {width!r}")
        if latency not in (2, 3):
            raise ValueError(f"latency must be 2 or 3, not {latency!r}")
        self._width, self.latency = width, latency
        super().__init__({"a": In(width), "b": In(width), "o": Out(2 * width)})

    def elaborate(self, platform):
        m = Module()
        if getattr(platform, "family", None) == "ecp5":
            m.submodules.mult = self._mult18x18d()
            return m
        if getattr(platform, "family", None) == "iCE40" and self._width <= 16:
            m.submodules.mult = self._mac16()
            return m
        r1_a = Signal(self._width, reset_less=True)
        r1_b = Signal(self._width, reset_less=True)
        m.d.sync += [r1_a.eq(self.a), r1_b.eq(self.b)]
        product = r1_a * r1_b
        for cycle in range(2, self.latency + 1):
            register = Signal(2 * self._width, name=f"r{cycle}_product", reset_less=True)
            m.d.sync += register.eq(product)
            product = register
        m.d.comb += self.o.eq(product)
        return m

    def _mult18x18d(self):
        ports = {"i_CLK0": ClockSignal(), "i_CE0": Const(1), "i_RST0": Const(0)}
        for name in ("SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB"):
            ports[f"i_{name}"] = Const(0)
        for bit in range(18):
            ports[f"i_A{bit}"] = self.a[bit] if bit < self._width else Const(0)
            ports[f"i_B{bit}"] = self.b[bit] if bit < self._width else Const(0)
        for bit in range(2 * self._width):
            ports[f"o_P{bit}"] = self.o[bit]
        ranks = ["INPUTA", "INPUTB", "OUTPUT"] + ["PIPELINE"] * (self.latency == 3)
        # a global reset in the middle of nothing is of no use to registers without one
        return Instance("MULT18X18D", p_GSR="DISABLED",
                        **{f"p_REG_{rank}_CLK": "CLK0" for rank in ranks}, **ports)

    def _mac16(self):
        product = Signal(32)
        pipelined = int(self.latency == 3)
        low = ("CI", "ACCUMCI", "SIGNEXTIN",
               *(f"{name}{half}" for half in ("TOP", "BOT")
                 for name in ("IRST", "ORST", "OLOAD", "ADDSUB", "OHOLD")),
               *(f"{name}HOLD" for name in "ABCD"))
        mult = Instance(
            "SB_MAC16", p_A_REG=Const(1, 1), p_B_REG=Const(1, 1),
            p_TOP_8x8_MULT_REG=Const(pipelined, 1), p_BOT_8x8_MULT_REG=Const(pipelined, 1),
            p_PIPELINE_16x16_MULT_REG1=Const(pipelined, 1),
            p_PIPELINE_16x16_MULT_REG2=Const(1, 1),
            p_TOPOUTPUT_SELECT=Const(3, 2), p_BOTOUTPUT_SELECT=Const(3, 2),
            i_CLK=ClockSignal(), i_CE=Const(1),
            i_A=self.a | Const(0, 16), i_B=self.b | Const(0, 16),
            i_C=Const(0, 16), i_D=Const(0, 16), **{f"i_{name}": Const(0) for name in low},
            o_O=product)
        fragment = Module()
        fragment.submodules.mac16 = mult
        fragment.d.comb += self.o.eq(product)
        return fragment


class Multiplier(wiring.Component):
    """o = a * b, exact.

    Latency 3 (`LATENCY`), one product per cycle. Up to 18 bits one Block; above, four, whose
    products are added in the last cycle.

    Parameters
    ----------
    width : int
        Bits of a and of b, unsigned, 1..36; o has twice as many.

    Raises
    ------
    TypeError
        `width` is not an int.
    ValueError
        `width` is out of range.
    """

    LATENCY = 3

    def __init__(self, width):
        if type(width) is not int:
            raise TypeError(f"width must be int, not {width!r}")
        if not 1 <= width <= 36:
            raise ValueError(f"width must be in 1..36, not {width!r}")
        self._width = width
        super().__init__({"a": In(width), "b": In(width), "o": Out(2 * width)})

    def elaborate(self, platform):
        m = Module()
        if self._width <= 18:
            m.submodules.block = block = Block(self._width, self.LATENCY)
            m.d.comb += [block.a.eq(self.a), block.b.eq(self.b), self.o.eq(block.o)]
            return m

        half = self._width // 2
        parts = {"low": slice(0, half), "high": slice(half, None)}
        products = {}
        for name_a, part_a in parts.items():
            for name_b, part_b in parts.items():
                block = Block(self._width - half, self.LATENCY - 1)
                m.submodules[f"{name_a}_{name_b}"] = block
                m.d.comb += [block.a.eq(self.a[part_a]), block.b.eq(self.b[part_b])]
                products[name_a, name_b] = block.o
        outer = Cat(products["low", "low"][:2 * half], products["high", "high"])
        cross = products["low", "high"] + products["high", "low"]
        r3_product = Signal(2 * self._width, reset_less=True)
        m.d.sync += r3_product.eq(outer + (cross << half))
        m.d.comb += self.o.eq(r3_product)
        return m
