# amaranth: UnusedElaboratable=no
"""hw/turns.py: both initiators have their own beats and acknowledgements; who goes first."""

import random
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.turns import ReadTurns, WriteTurns

from tests.hw.memory import Memory, watch

CONFIG = Config(tm=2, tn=4, beat_bits=32, max_burst=1, core="micro")
LIMIT = 20_000


async def read(ctx, port, addresses, beats, rng, pause):
    for address in addresses:
        await ctx.tick().repeat(1 + rng.randrange(pause))
        ctx.set(port.cmd.payload.addr, address)
        ctx.set(port.cmd.payload.len, 1)
        ctx.set(port.cmd.valid, 1)
        await ctx.tick().until(port.cmd.valid & port.cmd.ready)
        ctx.set(port.cmd.valid, 0)
        ctx.set(port.data.ready, 1)
        [beat] = await ctx.tick().sample(port.data.payload).until(port.data.valid)
        ctx.set(port.data.ready, 0)
        beats.append(beat)


async def write(ctx, port, words, done, rng, pause):
    for address, word in words:
        await ctx.tick().repeat(1 + rng.randrange(pause))
        ctx.set(port.cmd.payload.addr, address)
        ctx.set(port.cmd.payload.len, 1)
        ctx.set(port.cmd.valid, 1)
        await ctx.tick().until(port.cmd.valid & port.cmd.ready)
        ctx.set(port.cmd.valid, 0)
        ctx.set(port.data.payload, word)
        ctx.set(port.data.valid, 1)
        await ctx.tick().until(port.data.valid & port.data.ready)
        ctx.set(port.data.valid, 0)
        await ctx.tick().until(port.ack)
        done.append(address)


def simulate(dut, memory, benches, over):
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    for bench in benches:
        sim.add_testbench(bench)
    sim.add_testbench(memory, background=True)
    sim.add_testbench(partial(watch, done=over, limit=LIMIT))
    sim.run()


@pytest.mark.parametrize("latency, stall, pause", [(1, 0.0, 1), (3, 0.3, 4), (9, 0.0, 20)])
def test_reads(latency, stall, pause):
    rng = random.Random(latency)
    memory, dut = Memory(CONFIG, rng, latency=latency, stall=stall), ReadTurns(CONFIG)
    wanted = [[4 * rng.randrange(1 << 14) for _ in range(60)] for _ in range(2)]
    beats = [[], []]
    simulate(dut, partial(memory.serve_reads, port=dut.port),
             [partial(read, port=dut.ports[k], addresses=wanted[k], beats=beats[k], rng=rng,
                      pause=pause) for k in range(2)],
             lambda: len(beats[0]) == len(beats[1]) == 60)
    assert beats == [[memory.beat(address) for address in mine] for mine in wanted]


@pytest.mark.parametrize("latency, stall, pause", [(1, 0.0, 1), (3, 0.3, 4)])
def test_writes(latency, stall, pause):
    rng = random.Random(latency)
    memory, dut = Memory(CONFIG, rng, latency=latency, stall=stall), WriteTurns(CONFIG)
    words = [[(8 * n + 4 * k, rng.getrandbits(32)) for n in range(60)] for k in range(2)]
    done = [[], []]
    simulate(dut, partial(memory.serve_writes, port=dut.port),
             [partial(write, port=dut.ports[k], words=words[k], done=done[k], rng=rng, pause=pause)
              for k in range(2)],
             lambda: len(done[0]) == len(done[1]) == 60)
    assert all(memory.beat(address) == word for mine in words for address, word in mine)
    assert memory.in_flight == 1


def test_the_second_goes_first():
    """Of two commands at once, those of the second are taken."""
    memory, dut = Memory(CONFIG, random.Random(0)), ReadTurns(CONFIG)
    order = []

    async def ask(ctx):
        for k in (0, 1):
            ctx.set(dut.ports[k].cmd.payload.addr, 4 * k)
            ctx.set(dut.ports[k].cmd.valid, 1)
            ctx.set(dut.ports[k].data.ready, 1)
        while len(order) < 2:
            taken = await ctx.tick().sample(*(dut.ports[k].cmd.valid & dut.ports[k].cmd.ready
                                              for k in (0, 1)))
            for k in (0, 1):
                if taken[2 + k]:
                    ctx.set(dut.ports[k].cmd.valid, 0)
                    order.append(k)

    simulate(dut, partial(memory.serve_reads, port=dut.port), [ask], lambda: len(order) == 2)
    assert order == [1, 0]


@pytest.mark.parametrize("block", [ReadTurns, WriteTurns])
def test_parameters_are_checked(block):
    with pytest.raises(TypeError, match="^config must be a Config, not 3$"):
        block(3)
