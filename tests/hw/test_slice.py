"""hw/slice.py: order, rate, latency, and that no `ready` depends on another in the same cycle."""

import random
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.slice import ReadSlice, WriteSlice

from tests.hw.memory import collect, feed, watch

WIDTH = 32
CHANNELS = {  # slice, the side it comes from, its name
    "read command": (ReadSlice, "i", "cmd"), "read data": (ReadSlice, "o", "data"),
    "write command": (WriteSlice, "i", "cmd"), "write data": (WriteSlice, "i", "data")}


def ends(kind, side, name):
    dut = kind(WIDTH)
    return dut, getattr(getattr(dut, side), name), getattr(
        getattr(dut, "o" if side == "i" else "i"), name)


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("channel", CHANNELS)
def test_channels(channel, stall):
    dut, source, sink = ends(*CHANNELS[channel])
    rng = random.Random(5)
    if channel.endswith("command"):
        items = [dict(addr=rng.getrandbits(32), len=rng.getrandbits(9)) for _ in range(100)]
    else:
        items = [rng.getrandbits(WIDTH) for _ in range(100)]
    got, stamps = [], []
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(partial(feed, stream=source, items=items, rng=rng, stall=stall))
    sim.add_testbench(partial(collect, stream=sink, items=got, rng=rng, stall=stall,
                              stamps=stamps), background=True)

    async def wait(ctx):
        await watch(ctx, lambda: len(got) == len(items), 1000)

    sim.add_testbench(wait)
    sim.run()
    assert [dict(addr=x.addr, len=x.len) if channel.endswith("command") else x
            for x in got] == items
    if not stall:
        assert stamps == list(range(1, 101))


@pytest.mark.parametrize("channel", CHANNELS)
def test_ready_and_valid_come_from_registers(channel):
    dut, source, sink = ends(*CHANNELS[channel])
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def bench(ctx):
        for valid, ready in ((0, 0), (1, 0), (0, 0), (1, 0), (1, 1), (0, 1)):
            before = ctx.get(source.ready), ctx.get(sink.valid)
            ctx.set(source.valid, valid)
            ctx.set(sink.ready, ready)
            await ctx.delay(1e-9)
            assert (ctx.get(source.ready), ctx.get(sink.valid)) == before
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()


def test_acknowledgements_pass_at_once():
    dut = WriteSlice(WIDTH)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def bench(ctx):
        for ack in (0, 1, 0):
            ctx.set(dut.o.ack, ack)
            assert ctx.get(dut.i.ack) == ack

    sim.add_testbench(bench)
    sim.run()
