# amaranth: UnusedElaboratable=no
"""Runs of moving vectors against plain loops over hw/numerics.py; the arithmetic beside them."""

import random

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.micro.array import MicroArray, Mode
from gradgate.hw.micro.assembler import Port
from gradgate.hw.numerics import dotacc, fadd, fmul

from tests.hw.util import random_operand

CONFIG = Config(tm=2, tn=4, beat_bits=32, a_depth=16, b_depth=32, acc_depth=16, max_burst=1,
                core="micro")
ONE = 0x3f80
LIMIT = 5000


class Bench:
    """The ports of an array as words of microcode use them."""

    def __init__(self, ctx, dut):
        self.ctx, self.dut = ctx, dut

    async def do(self, port, result=0, a=0, b=0):
        """One word; returns the cycles that it has waited."""
        ctx, dut, waited = self.ctx, self.dut, 0
        for signal, value in ((dut.port, port), (dut.result, result & 0xffffffff), (dut.a, a),
                              (dut.b, b)):
            ctx.set(signal, value)
        await ctx.tick()
        while ctx.get(dut.stall):
            await ctx.tick()
            waited += 1
            assert waited < LIMIT
        ctx.set(dut.go, 1)
        await ctx.tick()
        ctx.set(dut.go, 0)
        return waited

    async def fill(self, rng, buffers):
        """Random operands to both buffers, `buffers` as [a, b] of [word][bank]."""
        for of_b, words in enumerate(buffers):
            self.ctx.set(self.dut.unit_b, of_b)
            for address, word in enumerate(words):
                first = rng.randrange(4)
                await self.do(Port.BANK, first)
                for k in range(4):
                    await self.do(Port.STORE, word[(first + k) % 4] << 16, a=address)

    async def tile(self, address0, address1, rot, limit=(4, 4)):
        for row, (address, live) in enumerate(zip((address0, address1), limit, strict=True)):
            await self.do(Port.ROTATE, rot + row)
            await self.do(Port.LIMIT, live)
            await self.do(Port.ROW0 + row, a=address)
        await self.do(Port.ROTATE, 0)

    async def accumulator(self, c, row):
        await self.do(Port.ACCUMULATOR, a=c, b=row)
        return self.ctx.get(self.dut.accumulator)


def simulate(bench):
    """Runs the coroutine `bench(Bench, rng, a, b)` on buffers filled at random."""
    dut, rng, over = MicroArray(CONFIG), random.Random(7), []
    buffers = [[[random_operand(rng, CONFIG) for _ in range(4)] for _ in range(depth)]
               for depth in (CONFIG.a_depth, CONFIG.b_depth)]

    async def run(ctx):
        its = Bench(ctx, dut)
        await its.fill(rng, buffers)
        await bench(its, rng, *buffers)
        over.append(True)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(run)
    sim.run()
    assert over


def summed(tile, vectors, acc):
    """What becomes of `acc`, [vector][row]."""
    return [[dotacc(CONFIG, tile[r], vector, old[r])[0] for r in range(2)]
            for vector, old in zip(vectors, acc, strict=True)]


@pytest.mark.parametrize("rot, limit", [(0, (4, 4)), (3, (4, 4)), (1, (3, 2)), (2, (1, 0))])
def test_vectors_of_channels(rot, limit):
    """Tiles of any rotation and fewer lanes; a second run adds to the first; addresses wrap."""
    async def bench(its, rng, a, b):
        tile = [[a[5 + r][(i + rot + r) % 4] if i < limit[r] else 0 for i in range(4)]
                for r in range(2)]
        await its.do(Port.MODE, Mode.OVERWRITE)
        for lane in range(4):
            await its.do(Port.LANE0 + lane, 0)
        await its.tile(5, 6, rot, limit)
        await its.do(Port.COUNT, 7)
        await its.do(Port.B_STEP, 3)
        await its.do(Port.C_STEP, -2)
        for base in (11, 20):  # what was there before does not count
            await its.do(Port.RUN, a=base, b=30)
            assert await its.do(Port.MODE, Mode.OVERWRITE) > 2 * 7
        await its.do(Port.MODE, 0)
        await its.do(Port.RUN, a=4, b=30)
        await its.do(Port.MODE, 0)
        acc = [[0, 0]] * 7
        for base in (20, 4):
            acc = summed(tile, [b[(base + 3 * j) % 32] for j in range(7)], acc)
        found = [[await its.accumulator((30 - 2 * j) % 32, r) for r in range(2)]
                 for j in range(7)]
        assert found == acc

    simulate(bench)


def test_vectors_of_pixels():
    """Each lane has a place of its own, and all move on by a bank after each vector."""
    async def bench(its, rng, a, b):
        places = [3, 9, 11, 6]
        await its.do(Port.MODE, Mode.OVERWRITE | Mode.ROTATING)
        await its.do(Port.ROTATE, 0)
        for lane in range(4):
            await its.do(Port.LANE0 + lane, lane)
        await its.tile(8, 8, 1)
        tile = [[a[8 + i][(i + 1 + r) % 4] for i in range(4)] for r in range(2)]
        for lane, place in enumerate(places):
            await its.do(Port.LANE0 + lane, place)
        await its.do(Port.COUNT, 3)
        await its.do(Port.B_STEP, 0)
        await its.do(Port.C_STEP, 5)
        await its.do(Port.ROTATE, 2)
        await its.do(Port.RUN, a=13, b=1)
        # waits for the run, two cycles a vector, and for nothing else
        assert await its.do(Port.ROTATE, 1) == 2 * 3
        await its.do(Port.RUN, a=2, b=2)
        await its.do(Port.MODE, 0)
        for base, rot, c in ((13, 2, 1), (2, 1, 2)):
            vectors = [[b[(base + place) % 32][(i + rot + n) % 4] for i, place in enumerate(places)]
                       for n in range(3)]
            wanted = summed(tile, vectors, [[0, 0]] * 3)
            assert [[await its.accumulator(c + 5 * n, r) for r in range(2)]
                    for n in range(3)] == wanted

    simulate(bench)


def test_identity_selected_by_tags():
    """Row r is lane r where its tag in buffer A is the one asked for."""
    async def bench(its, rng, a, b):
        for word in range(4, 8):
            for lane in range(2):
                b[word][lane] = ONE + lane
                a[word + 5][lane] = 0x4000 | rng.choice((3, 4))
        await its.fill(rng, (a, b))
        await its.do(Port.MODE, Mode.OVERWRITE | Mode.SELECT | Mode.IDENTITY0 | Mode.IDENTITY1 | 3)
        for lane in range(4):
            await its.do(Port.LANE0 + lane, 0)
        await its.tile(0, 0, 0, (0, 0))
        for port, value in ((Port.COUNT, 4), (Port.B_STEP, 1), (Port.C_STEP, 1), (Port.TAGS, 5)):
            await its.do(port, value)
        await its.do(Port.RUN, a=4, b=0)
        await its.do(Port.MODE, 0)
        assert [[await its.accumulator(j, r) for r in range(2)] for j in range(4)] == [
            [(ONE + r) << 16 if a[9 + j][r] & 127 == 3 else 0 for r in range(2)] for j in range(4)]

    simulate(bench)


def test_ones():
    """The moving vector of ones sums the lanes of the tile."""
    async def bench(its, rng, a, b):
        await its.do(Port.MODE, Mode.OVERWRITE | Mode.ONES)
        for lane in range(4):
            await its.do(Port.LANE0 + lane, 0)
        await its.tile(1, 2, 0)
        await its.do(Port.COUNT, 1)
        await its.do(Port.RUN, a=0, b=9)
        await its.do(Port.MODE, 0)
        tile = [a[1], a[2][1:] + a[2][:1]]
        assert [[await its.accumulator(9, r) for r in range(2)]] == summed(
            tile, [[ONE] * 4], [[0, 0]])

    simulate(bench)


def test_run_of_nothing():
    async def bench(its, rng, a, b):
        await its.do(Port.COUNT, 0)
        await its.do(Port.RUN, a=0, b=9)
        assert await its.do(Port.COUNT, 1) == 0

    simulate(bench)


def test_sum_and_product():
    """Four cycles after their operands, for as long as these stay."""
    dut = MicroArray(CONFIG)
    rng = random.Random(3)

    async def bench(ctx):
        ctx.set(dut.add, 1)
        for _ in range(20):
            x, y = (rng.getrandbits(1) << 31 | rng.randint(110, 140) << 23 | rng.getrandbits(23)
                    for _ in range(2))
            ctx.set(dut.a, x)
            ctx.set(dut.number_b, y)
            await ctx.tick().repeat(MicroArray.LATENCY)
            assert (ctx.get(dut.sum), ctx.get(dut.product)) == (fadd(x, y)[0], fmul(x, y)[0])
        ctx.set(dut.a, 0x7f7fffff)
        ctx.set(dut.number_b, 0x7f7fffff)
        await ctx.tick().repeat(MicroArray.LATENCY)
        assert ctx.get(dut.sum_overflow) and ctx.get(dut.product_overflow)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
