"""The arithmetic of the vector unit: docs/numerics.md, section 3, steps 2 to 8."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.delay import Delay
from gradgate.hw.drain import TAG_BITS
from gradgate.hw.floats import FloatAdd, FloatMul, ToOperand

__all__ = ["Steps", "VectorPipeline"]

_ONE = 0x3f800000


class Steps(data.Struct):
    """Which steps to do, and their constants (canonical fp32).

    At most one of `bias`, `opd_add` and `sgd`; with `sgd`, none of the others. `mom` only with
    `sgd`, `tags` only without.
    """

    scale: 1
    bias: 1
    opd_add: 1
    relu: 1
    mask: 1
    sgd: 1
    mom: 1
    out_fp32: 1  # the result is wanted in fp32 whatever the operand format; implied by `sgd`
    tags: 1
    imm0: 32  # scale; wd
    imm1: 32  # mu
    lr: 32


class VectorPipeline(wiring.Component):
    """V lanes of fp32 arithmetic that never stall, and the packing of their results into beats.

    Takes a vector per cycle; its steps travel with it. A vector makes one beat of `o` in fp32 and
    half of one in bf16: whole beats come `stages["result"] + 1` cycles after their vector, of bf16
    `stages["operand"] + 1` after the second one of the pair, of `sgd` (w') `stages["weight"] + 1`.
    On `aux` it makes with `mom` one beat (momentum') after `stages["momentum"] + 1` cycles; with
    `tags` one after 1 cycle in fp32, half of one in bf16. Without `mom` the momentum is zero.

    Steps may change after an even number of vectors and one cycle without a vector; from `sgd` to
    others after `sgd_gap` cycles, as results of those come earlier.

    Costs 3 multipliers and 3 adders per lane, of which 2 and 2 serve `sgd` alone.

    Parameters
    ----------
    config : Config

    Members
    -------
    en : In(1)
        The members below are valid.
    steps : In(Steps)
    x, opd, mom, bias : In(ArrayLayout(32, V))
        Canonical fp32: the vector; its operand, or w; its momentum; its bias. Anything where
        `steps` has no use for it.
    tags : In(ArrayLayout(7, V))
    o_en, aux_en : Out(1), o, aux : Out(beat_bits)
        A beat.
    overflow : Out(1)
        One cycle high per cycle with at least one overflow.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        vector = data.ArrayLayout(32, config.vlanes)
        super().__init__({
            "en": In(1), "steps": In(Steps),
            "x": In(vector), "opd": In(vector), "mom": In(vector), "bias": In(vector),
            "tags": In(data.ArrayLayout(TAG_BITS, config.vlanes)),
            "o_en": Out(1), "o": Out(config.beat_bits),
            "aux_en": Out(1), "aux": Out(config.beat_bits), "overflow": Out(1),
        })

    @property
    def config(self):
        return self._config

    @property
    def stages(self):
        """Cycle after `en` at which each result is there, by name."""
        mul, add = 1 + FloatMul.LATENCY, FloatAdd.LATENCY
        sum1 = mul + add
        return {"product": mul, "sum": sum1, "result": sum1 + 1,
                "operand": sum1 + 1 + ToOperand.LATENCY, "momentum": sum1 + add,
                "step": sum1 + add + mul, "weight": sum1 + 2 * add + mul}

    @property
    def latency(self):
        """Cycles from `en` to the last beat of a vector, at most."""
        return self.stages["weight"] + 1

    @property
    def sgd_gap(self):
        """Cycles from the last vector with `sgd` to the first one without, at least."""
        stages = self.stages
        return 1 + max(stages["weight"] - stages["result"], stages["momentum"])

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
            m.submodules[name] = delay = Delay(width * len(words), cycles)
            m.d.comb += delay.i.eq(Cat(*words))
            return [delay.o[i * width:(i + 1) * width] for i in range(len(words))]

        def marked(name, mark):
            """`mark` of the vector that is at each stage."""
            history = Signal(self.latency, name=name)
            m.d.sync += history.eq(Cat(mark, history))
            return {stage: history[cycle - 1] for stage, cycle in stages.items()}

        def any_overflow(made):
            return Cat(unit.overflow for unit in made).any()

        def factors(unit, name, a, b):
            """Give `unit` what it multiplies; the way to a chip's multipliers takes a cycle."""
            for port, value in ((unit.a, a), (unit.b, b)):
                near = Signal(32, name=f"near_{name}_{port.name}", reset_less=True)
                m.d.sync += near.eq(value)
                m.d.comb += port.eq(near)

        multiply, momentum, rate = (units(f"mul{k}", FloatMul) for k in (1, 2, 3))
        add, update, subtract = (units(f"add{k}", FloatAdd) for k in (1, 2, 3))
        convert = units("convert", lambda: ToOperand(self.config))

        whole = Signal()
        m.d.comb += whole.eq(steps.out_fp32 | (self.config.fmt == "fp32"))
        live = marked("live", self.en)
        live_sgd = marked("live_sgd", self.en & steps.sgd)
        live_mom = marked("live_mom", self.en & steps.mom)
        live_whole = marked("live_whole", self.en & ~steps.sgd & whole)
        live_half = marked("live_half", self.en & ~steps.sgd & ~whole)

        # x * scale + (bias or operand), neutral constants for what is left out; g + wd * w
        side = [Mux(steps.sgd, x, Mux(steps.bias, bias, Mux(steps.opd_add, opd, 0)))
                for x, bias, opd in zip(self.x, self.bias, self.opd, strict=True)]
        side = delayed("side", side, stages["product"])
        factor = Signal(32)
        m.d.comb += factor.eq(Mux(steps.scale | steps.sgd, steps.imm0, _ONE))
        for i in range(vlanes):
            factors(multiply[i], f"product_{i}", Mux(steps.sgd, self.opd[i], self.x[i]), factor)
            m.d.comb += [add[i].a.eq(multiply[i].o), add[i].b.eq(side[i])]

        # ReLU, mask, conversion
        keep = [~steps.mask | (~opd[31] & opd.any()) for opd in self.opd]
        *keep, relu = delayed("keep", [*keep, steps.relu], stages["sum"])
        result = [Signal(32, name=f"result_{i}", reset_less=True) for i in range(vlanes)]
        for i in range(vlanes):
            clear = (relu & add[i].o[31]) | ~keep[i]
            m.d.sync += result[i].eq(Mux(clear, 0, add[i].o))
            m.d.comb += convert[i].i.eq(result[i])

        # mom' = mu * mom + g1; w' = w - lr * mom'
        mu = Mux(steps.mom, steps.imm1, 0)
        moved = delayed("moved", [unit.o for unit in momentum], stages["sum"] - stages["product"])
        w = delayed("w", self.opd, stages["step"])
        lr, = delayed("lr", [steps.lr], stages["momentum"])
        for i in range(vlanes):
            factors(momentum[i], f"momentum_{i}", self.mom[i], mu)
            factors(rate[i], f"step_{i}", update[i].o, lr)
            m.d.comb += [
                update[i].a.eq(moved[i]), update[i].b.eq(add[i].o),
                subtract[i].a.eq(w[i]),
                subtract[i].b.eq(Cat(rate[i].o[:31], ~rate[i].o[31] & rate[i].o.any())),
            ]

        # beats
        second = Signal()
        half = Cat(unit.o for unit in convert)
        low = Signal(len(half), reset_less=True)
        with m.If(live_half["operand"]):
            m.d.sync += [second.eq(~second), low.eq(half)]
        m.d.sync += self.o_en.eq(live_sgd["weight"] | live_whole["result"]
                                 | (live_half["operand"] & second))
        with m.If(live_sgd["weight"]):
            m.d.sync += self.o.eq(Cat(unit.o for unit in subtract))
        with m.Elif(live_whole["result"]):
            m.d.sync += self.o.eq(Cat(result))
        with m.Else():
            m.d.sync += self.o.eq(Cat(low, half))
        self._second_output(m, live_mom["momentum"], Cat(unit.o for unit in update))

        m.d.sync += self.overflow.eq(
            (live["product"] & any_overflow(multiply)) | (live["sum"] & any_overflow(add))
            | (live_half["operand"] & any_overflow(convert))
            | (live_mom["product"] & any_overflow(momentum))
            | (live_sgd["momentum"] & any_overflow(update))
            | (live_sgd["step"] & any_overflow(rate))
            | (live_sgd["weight"] & any_overflow(subtract)))
        return m

    def _second_output(self, m, momentum_en, momentum):
        tags = [Cat(tag, Const(0x80, 16 - TAG_BITS)) for tag in self.tags]
        do_tags = self.en & self.steps.tags
        if self.config.fmt == "fp32":
            tags_en, beat = do_tags, Cat(Cat(Const(0, 16), tag) for tag in tags)
        else:
            half, second = Cat(tags), Signal(name="second_tags")
            low = Signal(len(half), name="low_tags", reset_less=True)
            with m.If(do_tags):
                m.d.sync += [second.eq(~second), low.eq(half)]
            tags_en, beat = do_tags & second, Cat(low, half)
        m.d.sync += [self.aux_en.eq(momentum_en | tags_en),
                     self.aux.eq(Mux(momentum_en, momentum, beat))]
