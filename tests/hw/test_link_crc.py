# amaranth: UnusedElaboratable=no
"""The CRC against zlib's."""

import random
import zlib

import pytest
from amaranth.sim import Simulator
from gradgate.hw.link_crc import SerialCRC


def crc_of(data):
    return (zlib.crc32(data) ^ 0xFFFFFFFF).to_bytes(4, "little")


@pytest.mark.parametrize("seed", range(3))
def test_sum_and_match(seed):
    rng, dut = random.Random(seed), SerialCRC()

    async def add(ctx, byte):
        ctx.set(dut.i.payload, byte)
        ctx.set(dut.i.valid, 1)
        await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)
        for _ in range(8):
            assert not ctx.get(dut.i.ready)
            await ctx.tick()
        assert ctx.get(dut.i.ready)

    async def testbench(ctx):
        for _ in range(4):
            data, got = rng.randbytes(rng.randrange(1, 12)), []
            for byte in data:
                await add(ctx, byte)
                assert not ctx.get(dut.match)
            for _ in range(4):
                got.append(ctx.get(dut.sum))
                await add(ctx, got[-1])
            assert bytes(got) == crc_of(data)
            assert ctx.get(dut.match)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
