"""Accumulators against a list, with all three ports busy in most cycles."""

from collections import deque
from random import Random

import pytest
from amaranth.sim import Simulator
from gradgate.hw.accumulators import Accumulators
from gradgate.hw.config import Config


@pytest.mark.parametrize("tm, acc_depth", [(2, 16), (4, 16), (8, 32)])
def test_three_ports_at_once(tm, acc_depth):
    config = Config(tm=tm, tn=8, beat_bits=32, acc_depth=acc_depth)
    random = Random(config.name)
    dut = Accumulators(config)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    words = [[0] * tm for _ in range(2 * acc_depth)]

    async def bench(ctx):
        depth = Accumulators.LATENCY + config.groups  # the cycles before, the newest first
        expected = deque([(None, None)] * depth, depth)
        coming = deque([[0] * tm] * depth, depth)
        compared = 0
        for _ in range(600):
            read, written, drained = (random.getrandbits(16) for _ in range(3))
            engine, drain, clear = (random.random() < p for p in (0.8, 0.8, 0.2))
            write = random.random() < 0.7 and (written - read) % (2 * acc_depth) != 0 \
                and (written - drained) % (2 * acc_depth) != 0
            drain = drain and not (engine and (read ^ drained) & acc_depth == 0)
            data = [random.getrandbits(32) for _ in range(tm)]

            ctx.set(dut.read.en, engine)
            ctx.set(dut.read.addr, read)
            ctx.set(dut.read.clear, clear)
            ctx.set(dut.write.en, write)
            ctx.set(dut.write.addr, written)
            ctx.set(dut.drain.en, drain)
            ctx.set(dut.drain.addr, drained)
            for r in range(tm):
                ctx.set(dut.write.data[r], coming[r // config.vlanes][r])
            coming.appendleft(data)
            expected.appendleft((
                ([0] * tm if clear else list(words[read % len(words)])) if engine else None,
                list(words[drained % len(words)]) if drain else None))
            if write:
                words[written % len(words)] = data

            for r in range(tm):
                cycle = expected[Accumulators.LATENCY + r // config.vlanes]
                for port, now in zip((dut.read, dut.drain), cycle, strict=True):
                    if now is not None:
                        assert ctx.get(port.data[r]) == now[r]
                        compared += now[r] != 0
            await ctx.tick()
        assert compared > 200 * tm

    sim.add_testbench(bench)
    sim.run()
