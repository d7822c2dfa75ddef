# amaranth: UnusedElaboratable=no
"""DotRow into Accumulate against hw/numerics.py: values, and the cycle in which they appear."""

import random
from operator import add

import pytest
from amaranth.back import verilog
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator
from gradgate.hw import numerics
from gradgate.hw.config import Config
from gradgate.hw.dot import Accumulate, DotRow, PartialSum, reduce_tree

from tests.hw.operands import FloatSource

SEED = 40
SIGN = 0x80000000


def config(fmt, tn):
    return Config(fmt=fmt, tn=tn, tm=2, beat_bits=32)


class Cases:
    """Vectors (a, b, acc) for one configuration, one method per kind of trouble."""

    def __init__(self, cfg, rng):
        self.cfg, self.rng = cfg, rng
        self.operands, self.accs = FloatSource(rng, cfg.fmt), FloatSource(rng, "fp32")
        self.sign = 1 << (cfg.elem_bits - 1)
        self.kinds = [self.anything, self.training, self.nothing_live, self.few_live,
                      self.dead_largest, self.cancelling, self.spread, self.distant,
                      self.opposite, self.tie, self.huge, self.tiny, self.tiniest,
                      self.largest_sum]

    def lanes(self, exponent, spread):
        return [self.operands.near(exponent, spread) for _ in range(self.cfg.tn)]

    def anything(self):
        return ([self.operands.any() for _ in range(self.cfg.tn)],
                [self.operands.any() for _ in range(self.cfg.tn)], self.accs.any())

    def training(self):
        return self.lanes(125, 3), self.lanes(122, 4), self.accs.near(126, 4)

    def nothing_live(self):
        a = [self.operands.any() if self.rng.randrange(2) else 0 for _ in range(self.cfg.tn)]
        return a, [0 if x else self.operands.any() for x in a], self.accs.any()

    def few_live(self):
        a, b, acc = self.training()
        live = self.rng.sample(range(self.cfg.tn), self.rng.randint(1, 2))
        return [x if i in live else 0 for i, x in enumerate(a)], b, acc

    def dead_largest(self):
        """The largest exponents belong to lanes that are not live."""
        a, b, acc = self.training()
        for lane in self.rng.sample(range(self.cfg.tn), self.cfg.tn // 2):
            dead, other = self.rng.sample((a, b), 2)
            dead[lane], other[lane] = 0, self.operands.near(254, 3)
        return a, b, acc

    def cancelling(self):
        """Each product meets its negative; sometimes one product, or a bit of one, is left over."""
        a, b, acc = self.training()
        half = self.cfg.tn // 2
        a[half:], b[half:] = [x ^ self.sign for x in a[:half]], b[:half]
        if self.rng.randrange(3):
            a[0] = a[0] ^ self.rng.choice([1, 2, self.sign])
        return a, b, self.rng.choice([0, acc, self.accs.near(100, 20)])

    def spread(self):
        """Exponents of the lanes farther apart than the frame."""
        return self.lanes(127, 16), self.lanes(127, 16), self.accs.near(127, 30)

    def distant(self):
        """The accumulator far above or below the sum, up to where only the sticky bit is left."""
        return self.lanes(127, 2), self.lanes(127, 2), self.accs.near(127, 60)

    def opposite(self):
        """The accumulator is the negative of the sum, or almost."""
        a, b, _ = self.training()
        acc = numerics.dotacc(self.cfg, a, b, 0)[0]
        return a, b, self.accs.relative(acc) if self.rng.randrange(2) else acc and acc ^ SIGN

    def tie(self):
        """One product of half an ulp of the accumulator, sometimes off by a bit."""
        acc = self.accs.near(127, 3)
        exponent = (acc >> 23 & 255) - 24
        a, b = [0] * self.cfg.tn, [0] * self.cfg.tn
        lane = self.rng.randrange(self.cfg.tn)
        a[lane] = exponent << self.cfg.man_bits | self.rng.choice([0, 0, 1]) | self.rng.choice(
            [0, self.sign])
        b[lane] = 127 << self.cfg.man_bits
        return a, b, acc

    def huge(self):
        return self.lanes(191, 2), self.lanes(188, 3), self.accs.near(254, 2)

    def tiny(self):
        return self.lanes(60, 4), self.lanes(62, 4), self.rng.choice([0, self.accs.near(1, 2)])

    def tiniest(self):
        """Products that are as far from numbers as lanes that are not live."""
        a, b = self.lanes(8, 6), self.lanes(8, 6)
        for lane in self.rng.sample(range(self.cfg.tn), self.cfg.tn // 2):
            self.rng.choice([a, b])[lane] = 0
        return a, b, self.rng.choice([0, self.accs.near(1, 0), self.accs.near(127, 30)])

    def largest_sum(self):
        """All mantissas all ones, all signs equal: S needs all its bits."""
        ones = (128 << self.cfg.man_bits) - 1
        a = [ones | self.rng.choice([0, self.sign])] * self.cfg.tn
        return a, [ones] * self.cfg.tn, self.rng.choice([0, self.accs.near(127, 30)])


def run_dotacc(cfg, vectors):
    """(result, overflow) of each vector, one vector a cycle."""
    row, accumulate = DotRow(cfg), Accumulate(cfg)
    m = Module()
    m.submodules.row = row
    m.submodules.accumulate = accumulate
    m.d.comb += [accumulate.i.eq(row.o), row.a_live.eq(row.live(row.a)),
                 row.b_live.eq(row.live(row.b))]
    latency = row.latency + accumulate.latency
    results = []

    def packed(operands):
        return sum(bits << cfg.elem_bits * lane for lane, bits in enumerate(operands))

    async def bench(ctx):
        for cycle in range(len(vectors) + latency):
            if cycle < len(vectors):
                ctx.set(row.a.as_value(), packed(vectors[cycle][0]))
                ctx.set(row.b.as_value(), packed(vectors[cycle][1]))
            if 0 <= cycle - row.latency < len(vectors):
                ctx.set(accumulate.acc, vectors[cycle - row.latency][2])
            await ctx.delay(1e-9)
            if cycle >= latency:
                results.append((ctx.get(accumulate.o), ctx.get(accumulate.overflow)))
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return results


@pytest.mark.parametrize("fmt", ["bf16", "fp32"])
@pytest.mark.parametrize("tn, count", [(4, 1440), (8, 360), (16, 720), (32, 120)])
def test_dotacc_and_latency(fmt, tn, count):
    cfg = config(fmt, tn)
    cases = Cases(cfg, random.Random(SEED))
    kinds = cases.kinds * (count // len(cases.kinds))
    cases.rng.shuffle(kinds)
    vectors = [kind() for kind in kinds]
    wanted = [numerics.dotacc(cfg, *vector) for vector in vectors]

    overflows = sum(overflow for _, overflow in wanted)
    zeros = sum(bits == 0 for bits, _ in wanted)
    unchanged = sum(bits == vector[2] != 0
                    for (bits, _), vector in zip(wanted, vectors, strict=True))
    assert min(overflows, zeros, unchanged) >= count // 60, (overflows, zeros, unchanged)

    results = run_dotacc(cfg, vectors)
    for kind, vector, result, want in zip(kinds, vectors, results, wanted, strict=True):
        assert result == want, (kind.__name__, *([hex(x) for x in v] for v in vector[:2]),
                                hex(vector[2]))


@pytest.mark.parametrize("tn, cycles", [(4, 10), (8, 12), (16, 12), (32, 14), (64, 15)])
def test_latencies(tn, cycles):
    for fmt in ("bf16", "fp32"):
        assert DotRow(config(fmt, tn)).latency == cycles
        assert Accumulate(config(fmt, tn)).latency == 5


def test_partial_sum_of_bf16_is_as_wide_as_fp32():
    for tn in (4, 8, 16, 32, 64):
        assert PartialSum(config("bf16", tn)).width == 24
    assert PartialSum(config("fp32", 16)).width == 34


def test_reduce_tree_grows_one_bit_per_level():
    assert len(reduce_tree(add, [Signal(signed(8)) for _ in range(8)])) == 11
    assert reduce_tree(add, range(7)) == 21
    assert reduce_tree(max, [3]) == 3


@pytest.mark.parametrize("fmt", ["bf16", "fp32"])
@pytest.mark.parametrize("tn", [4, 64])
def test_converts_to_verilog(fmt, tn):
    cfg = config(fmt, tn)
    assert "module row" in verilog.convert(DotRow(cfg), name="row", emit_src=False)
    assert "module acc" in verilog.convert(Accumulate(cfg), name="acc", emit_src=False)


@pytest.mark.parametrize("component", [DotRow, Accumulate, PartialSum])
def test_config_is_checked(component):
    with pytest.raises(TypeError, match="^config must be a Config, not 16$"):
        component(16)
