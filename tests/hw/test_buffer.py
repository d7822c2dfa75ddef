# amaranth: UnusedElaboratable=no
"""TileBuffer against a list of banks, with a write and a read in most cycles."""

from random import Random

import pytest
from amaranth.sim import Simulator
from gradgate.hw.buffer import TileBuffer
from gradgate.hw.config import Config


@pytest.mark.parametrize("depth", [8, 24, 65536])
def test_depth_is_checked(depth):
    with pytest.raises(ValueError, match=rf"^depth must be a power of two in .* not {depth}$"):
        TileBuffer(Config(), depth)


@pytest.mark.parametrize("tm, tn, fmt, beat_bits", [
    (2, 4, "bf16", 32), (4, 4, "fp32", 128), (4, 8, "bf16", 64), (8, 16, "bf16", 64),
    (2, 8, "fp32", 32), (4, 64, "bf16", 32)])
def test_reads_what_was_written(tm, tn, fmt, beat_bits):
    config = Config(tm=tm, tn=tn, fmt=fmt, beat_bits=beat_bits)
    random = Random(config.name)
    depth = 16
    dut = TileBuffer(config, depth)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    banks = [[None] * depth for _ in range(tn)]
    mask = (1 << config.elem_bits) - 1

    async def bench(ctx):
        expected = [None] * TileBuffer.LATENCY
        compared = 0
        for _ in range(400):
            en = random.random() < 0.8
            address, bank = random.getrandbits(16), random.randrange(tn)
            beat = random.getrandbits(beat_bits)
            ctx.set(dut.write.en, en)
            ctx.set(dut.write.addr, address)
            ctx.set(dut.write.bank, bank)
            ctx.set(dut.write.data, beat)
            if en:
                for x in range(config.beat_elems):
                    banks[(bank + x) % tn][address % depth] = beat >> x * config.elem_bits & mask

            en = random.random() < 0.8
            rot = random.choice([0, random.randrange(tn)])
            addresses = [random.getrandbits(16) for _ in range(tn)]
            ctx.set(dut.read.en, en)
            ctx.set(dut.read.rot, rot)
            for i, a in enumerate(addresses):
                ctx.set(dut.read.addr[i], a)
            expected.append([banks[(i + rot) % tn][a % depth] for i, a in enumerate(addresses)]
                            if en else None)

            now = expected.pop(0)
            if now:
                for i, value in enumerate(now):
                    if value is not None:
                        assert ctx.get(dut.read.data[i]) == value
                        compared += 1
            await ctx.tick()
        assert compared > 100

    sim.add_testbench(bench)
    sim.run()
