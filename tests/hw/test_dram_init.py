# amaranth: UnusedElaboratable=no
"""hw/dram_init.py against a Wishbone slave."""

import random

import pytest
from amaranth.sim import Simulator
from gradgate.hw.dram_init import DRAMInit

WRITES = [(0x203, 0x400, 0), (0x204, 0, 7), (0x3fffffff, 0xffffffff, 1), (0, 1, 3)]


def run(writes, stall):
    """Writes seen as (first cycle, cycle of the answer, address, value), and the cycle of done."""
    dut, rng = DRAMInit(writes), random.Random(1)
    seen, done = [], []

    async def slave(ctx):
        begun = None
        for now in range(200):
            ack = ctx.get(dut.cyc) and rng.random() >= stall
            ctx.set(dut.ack, ack)
            _, _, cyc, stb, we, sel, adr, value, over = await ctx.tick().sample(
                dut.cyc, dut.stb, dut.we, dut.sel, dut.adr, dut.dat_w, dut.done)
            assert cyc == stb == we
            assert not (over and cyc)
            if cyc:
                assert sel == 15
                assert begun is None or begun[1:] == (adr, value), "changed before the answer"
                begun = begun or (now, adr, value)
            if ack:
                seen.append((begun[0], now, adr, value))
                begun = None
            if over:
                done.append(now)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(slave)
    sim.run()
    assert done == list(range(done[0], 200))
    return seen, done[0]


@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_all_in_order_with_pauses(stall):
    seen, done = run(WRITES, stall)
    assert [s[2:] for s in seen] == [w[:2] for w in WRITES]
    for (_, answered, _, _), (begun, _, _, _), (_, _, wait) in zip(
            seen, seen[1:], WRITES, strict=False):
        assert begun == answered + 2 + wait
    assert done == seen[-1][1] + 1 + WRITES[-1][2]


def test_two_cycles_each():
    seen, done = run([(i, i, 0) for i in range(10)], 0)
    assert (seen[0][0], done) == (1, 20)


def test_rejects():
    with pytest.raises(ValueError, match=r"^there must be at least one write$"):
        DRAMInit([])
    with pytest.raises(ValueError, match=r"^a write must be .*, not \(1073741824, 0, 0\)$"):
        DRAMInit([(1 << 30, 0, 0)])
