# amaranth: UnusedElaboratable=no
"""hw/delay.py: the word of so many cycles ago."""

import random

import pytest
from amaranth.sim import Simulator
from gradgate.hw.delay import Delay


@pytest.mark.parametrize("cycles", [1, 2, 3, 4, 5, 8, 13])
def test_delay(cycles):
    rng, dut, sent = random.Random(cycles), Delay(9, cycles), []

    async def testbench(ctx):
        for now in range(50):
            sent.append(rng.getrandbits(9))
            ctx.set(dut.i, sent[-1])
            if now >= cycles:
                assert ctx.get(dut.o) == sent[now - cycles]
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("width, cycles, message", [
    (0, 1, "width must be at least 1, not 0"), (1, 0, "cycles must be at least 1, not 0")])
def test_parameters_are_checked(width, cycles, message):
    with pytest.raises(ValueError, match=message):
        Delay(width, cycles)
