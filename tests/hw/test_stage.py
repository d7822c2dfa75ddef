"""hw/stage.py: order, rate, and that neither side sees the other in the same cycle."""

import random
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.stage import Skid, Stage

from tests.hw.memory import collect, feed, watch


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("kind, every", [(Stage, 2), (Skid, 1)])
def test_items_come_in_order(kind, every, stall):
    dut, rng = kind(9), random.Random(3)
    items, got, stamps = [rng.getrandbits(9) for _ in range(100)], [], []
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(partial(feed, stream=dut.i, items=items, rng=rng, stall=stall))
    sim.add_testbench(partial(collect, stream=dut.o, items=got, rng=rng, stall=stall,
                              stamps=stamps), background=True)

    async def wait(ctx):
        await watch(ctx, lambda: len(got) == len(items), 1000)

    sim.add_testbench(wait)
    sim.run()
    assert got == items
    if not stall:
        assert stamps == list(range(1, 1 + 100 * every, every))


@pytest.mark.parametrize("kind", [Stage, Skid])
def test_ready_and_valid_come_from_registers(kind):
    dut = kind(9)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def bench(ctx):
        for valid, ready in ((0, 0), (1, 0), (0, 0), (1, 1), (0, 1), (1, 1)):
            before = ctx.get(dut.i.ready), ctx.get(dut.o.valid)
            ctx.set(dut.i.valid, valid)
            ctx.set(dut.o.ready, ready)
            assert before == (ctx.get(dut.i.ready), ctx.get(dut.o.valid))
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
