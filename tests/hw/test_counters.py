# amaranth: UnusedElaboratable=no
"""Counters against integers, with random events and clears."""

import random

import pytest
from amaranth.lib import memory
from amaranth.sim import Simulator
from gradgate.hw.counters import Counters

LATE = 3  # cycles by which a value may lag behind


@pytest.mark.parametrize("count, clears", [(4, 0.02), (5, 0.1), (20, 0.0), (20, 0.01)])
def test_values(count, clears):
    dut, rng = Counters(count), random.Random(count)
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    history, shown, cleared = [[0] * count], set(), -LATE

    async def bench(ctx):
        nonlocal cleared
        for cycle in range(1500):
            events = [rng.choice([0, 0, 1, 3]) for _ in range(count)]
            clear = rng.random() < clears
            for k, event in enumerate(events):
                ctx.set(dut.events[k], event)
            ctx.set(dut.clear, clear)
            _, _, index, value = await ctx.tick().sample(dut.index, dut.value)
            if cycle > count and cycle - cleared >= LATE:  # before, it may be that of either side
                assert value == history[cycle - LATE + 1][index], (cycle, index)
                shown.add(index)
            cleared = cycle if clear else cleared
            history.append([0] * count if clear else
                           [k + event for k, event in zip(history[-1], events, strict=True)])

    simulator.add_testbench(bench)
    simulator.run()
    assert shown == set(range(count))


def begin_at(monkeypatch, start):
    """Counters that are made from now on begin there, not at 0."""
    class Begun(memory.Memory):
        def __init__(self, *, depth, init, **options):
            super().__init__(depth=depth, init=[start] * depth, **options)

    monkeypatch.setattr(memory, "Memory", Begun)


@pytest.mark.parametrize("count", [5, 21])
def test_many_events(monkeypatch, count):
    """As many as there can be between two turns, and beyond 32 bits, where this begins."""
    start = (1 << 32) - 100
    begin_at(monkeypatch, start)
    dut = Counters(count)
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)

    async def bench(ctx):
        for k in range(count):
            ctx.set(dut.events[k], 3)
        for cycle in range(200):
            _, _, index, value = await ctx.tick().sample(dut.index, dut.value)
            if cycle > count:
                assert value == start + 3 * (cycle - LATE + 1), index

    simulator.add_testbench(bench)
    simulator.run()


def test_count_is_checked():
    with pytest.raises(ValueError, match="^count must be at least 4, not 3$"):
        Counters(3)
