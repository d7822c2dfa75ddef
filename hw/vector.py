"""The arithmetic of the vector unit: docs/numerics.md, section 3, steps 2 to 8."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.delay import Delay
from gradgate.hw.floats import FloatAdd, FloatMul, ToOperand

__all__ = ["Steps", "VectorPipeline"]

_ONE = 0x3f800000


class Steps(data.Struct):
    """Which steps to do, and their constants (canonical fp32).

    At most one of `bias`, `opd_add` and `sgd`; with `sgd`, none of the others.
    """

    scale: 1
    bias: 1
    opd_add: 1
    relu: 1
    mask: 1
    sgd: 1
    fp32: 1  # the result is wanted in fp32 whatever the operand format
    imm0: 32  # scale; wd
    imm1: 32  # mu
    lr: 32


class VectorPipeline(wiring.Component):
    """V lanes of fp32 arithmetic that never stall, and the packing of their results into beats.

    Takes a vector per cycle, with `sgd` one per two cycles. A vector makes one beat in fp32, two
    with `sgd` (w', then momentum' one cycle later), half a beat in bf16.

    Costs 3 multipliers and 3 adders per lane, of which 2 and 2 serve `sgd` alone.

    Parameters
    ----------
    config : Config

    Members
    -------
    steps : In(Steps)
        Constant from the first vector of an instruction until its last beat.
    en : In(1)
        The vectors below are valid.
    x, opd, mom, bias : In(ArrayLayout(32, V))
        Canonical fp32: the vector; its operand, or w; its momentum; its bias. Anything where
        `steps` has no use for it.
    o_en : Out(1), o : Out(beat_bits)
        A beat.
    overflow : Out(1)
        One cycle high per cycle with at least one overflow.
    """

    def __init__(self, config):
        self._config = config
        vector = data.ArrayLayout(32, config.vlanes)
        super().__init__({
            "steps": In(Steps), "en": In(1),
            "x": In(vector), "opd": In(vector), "mom": In(vector), "bias": In(vector),
            "o_en": Out(1), "o": Out(config.beat_bits), "overflow": Out(1),
        })

    @property
    def config(self):
        return self._config

    @property
    def stages(self):
        """Cycle after `en` at which each result is there, by name."""
        mul, add = FloatMul.LATENCY, FloatAdd.LATENCY
        sum1 = mul + add
        return {"product": mul, "sum": sum1, "result": sum1 + 1,
                "operand": sum1 + 1 + ToOperand.LATENCY, "momentum": sum1 + add,
                "step": sum1 + add + mul, "weight": sum1 + 2 * add + mul}

    @property
    def latency(self):
        """Cycles from `en` to the last beat of a vector, at most."""
        return max(self.stages["operand"] + 1, self.stages["weight"] + 2)

    def elaborate(self, platform):
        m = Module()
        steps, stages = self.steps, self.stages
        vlanes = self.config.vlanes

        def units(name, make):
            made = [make() for _ in range(vlanes)]
            for i, unit in enumerate(made):
                m.submodules[f"{name}_{i}"] = unit
            return made

        def delayed(name, words, cycles):
            width = len(words[0])
            m.submodules[name] = delay = Delay(width * vlanes, cycles)
            m.d.comb += delay.i.eq(Cat(*words))
            return [delay.o[i * width:(i + 1) * width] for i in range(vlanes)]

        def any_overflow(made):
            return Cat(unit.overflow for unit in made).any()

        multiply, momentum, rate = (units(f"mul{k}", FloatMul) for k in (1, 2, 3))
        add, update, subtract = (units(f"add{k}", FloatAdd) for k in (1, 2, 3))
        convert = units("convert", lambda: ToOperand(self.config))

        # the last vectors without SGD may still be in the stages that only SGD uses when it begins
        history = Signal(self.latency)
        sgd_history = Signal(self.latency)
        m.d.sync += [history.eq(Cat(self.en, history)),
                     sgd_history.eq(Cat(self.en & steps.sgd, sgd_history))]
        of_sgd = ("momentum", "step", "weight")
        live = {name: (sgd_history if name in of_sgd else history)[cycle - 1]
                for name, cycle in stages.items()}

        # x * scale + (bias or operand), neutral constants for what is left out; g + wd * w
        side = [Mux(steps.sgd, x, Mux(steps.bias, bias, Mux(steps.opd_add, opd, 0)))
                for x, bias, opd in zip(self.x, self.bias, self.opd, strict=True)]
        side = delayed("side", side, stages["product"])
        factor = Signal(32)
        m.d.comb += factor.eq(Mux(steps.scale | steps.sgd, steps.imm0, _ONE))
        for i in range(vlanes):
            m.d.comb += [
                multiply[i].a.eq(Mux(steps.sgd, self.opd[i], self.x[i])),
                multiply[i].b.eq(factor),
                add[i].a.eq(multiply[i].o),
                add[i].b.eq(side[i]),
            ]

        # ReLU, mask, conversion
        keep = [~steps.mask | (~opd[31] & opd.any()) for opd in self.opd]
        keep = delayed("keep", keep, stages["sum"])
        result = [Signal(32, name=f"result_{i}", reset_less=True) for i in range(vlanes)]
        for i in range(vlanes):
            clear = (steps.relu & add[i].o[31]) | ~keep[i]
            m.d.sync += result[i].eq(Mux(clear, 0, add[i].o))
            m.d.comb += convert[i].i.eq(result[i])

        # mom' = mu * mom + g1; w' = w - lr * mom'
        mom = delayed("mom", self.mom, stages["sum"] - stages["product"])
        w = delayed("w", self.opd, stages["step"])
        for i in range(vlanes):
            m.d.comb += [
                momentum[i].a.eq(mom[i]), momentum[i].b.eq(steps.imm1),
                update[i].a.eq(momentum[i].o), update[i].b.eq(add[i].o),
                rate[i].a.eq(update[i].o), rate[i].b.eq(steps.lr),
                subtract[i].a.eq(w[i]),
                subtract[i].b.eq(Cat(rate[i].o[:31], ~rate[i].o[31] & rate[i].o.any())),
            ]
        new_mom = delayed("new_mom", [unit.o for unit in update],
                          stages["weight"] + 1 - stages["momentum"])

        # beats
        wide, second = Signal(), Signal()
        half = Cat(unit.o for unit in convert)
        low = Signal(len(half), reset_less=True)
        m.d.comb += wide.eq(steps.fp32 | (self.config.fmt == "fp32"))
        with m.If(steps.sgd):
            m.d.sync += [
                second.eq(live["weight"]),
                self.o_en.eq(live["weight"] | second),
                self.o.eq(Mux(second, Cat(new_mom), Cat(unit.o for unit in subtract))),
            ]
        with m.Elif(wide):
            m.d.sync += [self.o_en.eq(live["result"]), self.o.eq(Cat(result))]
        with m.Else():
            m.d.sync += [self.o_en.eq(live["operand"] & second), self.o.eq(Cat(low, half))]
            with m.If(live["operand"]):
                m.d.sync += [second.eq(~second), low.eq(half)]

        m.d.sync += self.overflow.eq(
            (live["product"] & any_overflow(multiply)) | (live["sum"] & any_overflow(add))
            | (~steps.sgd & ~wide & live["operand"] & any_overflow(convert))
            | (steps.sgd & live["sum"] & any_overflow(momentum))
            | (steps.sgd & live["momentum"] & any_overflow(update))
            | (steps.sgd & live["step"] & any_overflow(rate))
            | (steps.sgd & live["weight"] & any_overflow(subtract)))
        return m
