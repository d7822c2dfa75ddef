# amaranth: UnusedElaboratable=no
"""Tile and vectors, group by group, against lists."""

import random

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.operands import Operands

CYCLES = 400


@pytest.mark.parametrize("tm, tn, beat_bits, width", [(2, 4, 32, 9), (4, 8, 64, 3),
                                                      (8, 32, 64, 8), (4, 4, 32, 1)])
def test_tile_and_vectors(tm, tn, beat_bits, width):
    config = Config(tm=tm, tn=tn, beat_bits=beat_bits)
    dut, rng = Operands(config, width), random.Random(tn)
    inputs = [{"row": rng.getrandbits(width * tn), "vector": rng.getrandbits(width * tn),
               "filled": rng.choice([0, 1 << rng.randrange(tm), rng.randrange(1 << tm)]),
               "swap": rng.random() < 0.2} for _ in range(CYCLES)]
    shadow, tile = [None] * tm, [None] * tm  # None: not known yet
    compared = 0

    async def bench(ctx):
        nonlocal compared
        for cycle in range(CYCLES):
            for name, value in inputs[cycle].items():
                port = getattr(dut, name)
                ctx.set(port.as_value() if name in ("row", "vector") else port, value)
            for r in range(tm):
                group = r // config.vlanes
                # what was set two cycles ago, to be done at the edge before this cycle
                if cycle >= group + 2:
                    before = inputs[cycle - group - 2]
                    if before["swap"]:
                        tile[r] = shadow[r]
                    if before["filled"] >> r & 1:
                        shadow[r] = inputs[cycle - group - 1]["row"]
                    assert ctx.get(dut.b[group].as_value()) == inputs[cycle - group - 1]["vector"]
                if tile[r] is not None:
                    assert ctx.get(dut.a[r].as_value()) == tile[r], (cycle, r)
                    compared += 1
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert compared > tm * CYCLES // 2


def test_type_of_config():
    with pytest.raises(TypeError, match="^config must be a Config, not 16$"):
        Operands(16, 8)
