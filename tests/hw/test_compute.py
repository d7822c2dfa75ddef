"""ComputeUnit between two tile buffers against the loops of docs/program.md: bits and cycles."""

from itertools import pairwise
from random import Random

import pytest
from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from gradgate.hw import isa
from gradgate.hw.accumulators import AccDrain, Accumulators
from gradgate.hw.buffer import BufferWrite, TileBuffer
from gradgate.hw.compute import ComputeUnit
from gradgate.hw.config import Config

from tests.hw.util import Tiles, execute, random_instruction, schedule, visits

MODES = ["conv", "pixels", "ident", "sel", "zero", "pack", "dw"]


def build(tm, tn, fmt="bf16"):
    beat_bits = min(4, tm) * (16 if fmt == "bf16" else 32)
    return Config(tm=tm, tn=tn, fmt=fmt, beat_bits=min(beat_bits, 64), a_depth=32, b_depth=64,
                  acc_depth=32)


class Engine(wiring.Component):
    def __init__(self, config):
        self.config = config
        self.unit = ComputeUnit(config)
        super().__init__({
            "i": In(stream.Signature(512)), "done": Out(1), "active": Out(1), "overflow": Out(1),
            "write_a": In(BufferWrite(config)), "write_b": In(BufferWrite(config)),
            "drain": In(AccDrain(config))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = self.unit
        for name, depth in (("a", self.config.a_depth), ("b", self.config.b_depth)):
            m.submodules[name] = buffer = TileBuffer(self.config, depth)
            wiring.connect(m, getattr(unit, name), buffer.read)
            wiring.connect(m, wiring.flipped(getattr(self, f"write_{name}")), buffer.write)
        wiring.connect(m, wiring.flipped(self.i), unit.i)
        wiring.connect(m, wiring.flipped(self.drain), unit.drain)
        m.d.comb += [self.done.eq(unit.done), self.active.eq(unit.active),
                     self.overflow.eq(unit.overflow)]
        return m


async def fill(ctx, port, config, buffer):
    """Writes the whole buffer, beats crossing from the last bank to the first included."""
    e = config.beat_elems
    first = 1 % e
    ctx.set(port.en, 1)
    for a in range(len(buffer[0])):
        for bank in range(first, config.tn + first, e):
            ctx.set(port.addr, a + 5 * len(buffer[0]))
            ctx.set(port.bank, bank)
            ctx.set(port.data, sum(buffer[(bank + x) % config.tn][a] << x * config.elem_bits
                                   for x in range(e)))
            await ctx.tick()
    ctx.set(port.en, 0)


async def drained(ctx, port, config, addresses=None):
    rows = []
    for c in addresses or range(2 * config.acc_depth):
        ctx.set(port.en, 1)
        ctx.set(port.addr, c)
        await ctx.tick()
        ctx.set(port.en, 0)
        ctx.set(port.addr, ~c & 0xffff)
        await ctx.tick().repeat(Accumulators.LATENCY - 1)
        row = []
        for g in range(0, config.tm, config.vlanes):  # they come a cycle one after the other
            row += [ctx.get(port.data[r]) for r in range(g, g + config.vlanes)]
            await ctx.tick()
        rows.append(row)
    return rows


def pack(f):
    return sum(word << 32 * k for k, word in enumerate(isa.encode(**f)))


def needs_fence(config, before, after):
    before, after = visits(config, before), visits(config, after)
    return before != after and set(before) & set(after)


def run(engine, tiles, program, gaps):
    """Accumulators, acceptances, issues, completions, overflows, as the gateware has them."""
    config = engine.config
    sim = Simulator(engine)
    sim.add_clock(1e-8)
    seen = {"offered": [], "accepted": [], "issued": [], "done": [], "overflow": 0}
    results = []

    async def drive(ctx):
        await fill(ctx, engine.write_a, config, tiles.a)
        await fill(ctx, engine.write_b, config, tiles.b)
        for f, gap in zip(program, gaps, strict=True):
            if gap:
                await ctx.tick().repeat(gap)
            ctx.set(engine.i.valid, 1)
            ctx.set(engine.i.payload, pack(f))
            seen["offered"].append(len(cycles))
            await ctx.tick().until(engine.i.ready)
            ctx.set(engine.i.valid, 0)
        while len(seen["done"]) < len(program):
            await ctx.tick()
        results.extend(await drained(ctx, engine.drain, config))

    cycles = []

    async def watch(ctx):
        watched = Cat(engine.i.valid & engine.i.ready, engine.active, engine.done, engine.overflow)
        async for _, _, bits in ctx.tick().sample(watched):
            for k, name in enumerate(("accepted", "issued", "done")):
                if bits >> k & 1:
                    seen[name].append(len(cycles))
            seen["overflow"] += bits >> 3
            cycles.append(0)
            assert len(cycles) < 20000, "the engine hangs"

    sim.add_process(watch)
    sim.add_testbench(drive)
    sim.run()
    return results, seen


def check(config, tiles, program, gaps):
    engine = Engine(config)
    results, seen = run(engine, tiles, program, gaps)
    overflows = sum(execute(tiles, f) for f in program)
    unit = engine.unit
    accepted, issues = schedule(config, program, seen["offered"], unit.loop)
    assert seen["accepted"] == accepted
    assert seen["issued"] == [cycle for one in issues for cycle in one]
    assert seen["done"] == [one[-1] + unit.latency for one in issues]
    assert seen["overflow"] == overflows
    assert results == tiles.acc


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tm, tn, fmt", [(2, 4, "bf16"), (4, 8, "fp32")])
def test_mode(tm, tn, fmt, mode):
    config = build(tm, tn, fmt)
    random = Random(f"{config.name} {mode}")
    tiles = Tiles.random(random, config)
    program = []
    for _ in range(6):
        f = random_instruction(random, config, mode, limit=3 * random.randint(1, 8))
        f["fence"] = int(bool(program and needs_fence(config, program[-1], f)))
        program.append(f)
    gaps = [random.choice([0, 0, random.randint(1, 60)]) for _ in program]
    check(config, tiles, program, gaps)


@pytest.mark.parametrize("tm, tn, fmt", [(2, 4, "bf16"), (4, 8, "fp32")])
def test_lanes_that_do_not_count(tm, tn, fmt):
    """Beside operands so small a lane whose tag is another one would show, were it taken for 0 with
    the exponent of its partner."""
    config = build(tm, tn, fmt)
    random = Random(config.name)
    tiles = Tiles.random(random, config, spread=4, middle=5)
    check(config, tiles, [random_instruction(random, config, "sel", limit=20)], [0])


@pytest.mark.parametrize("tm, tn, fmt, n", [(2, 4, "fp32", 30), (4, 8, "bf16", 24),
                                            (8, 16, "bf16", 7)])
def test_instructions_overlap(tm, tn, fmt, n):
    """All modes after each other, unfenced where the accumulators allow it."""
    config = build(tm, tn, fmt)
    random = Random(config.name)
    tiles = Tiles.random(random, config)
    program = []
    modes = random.sample(MODES, len(MODES)) + random.choices(MODES, k=n - len(MODES))
    for mode in modes:
        f = random_instruction(random, config, mode, limit=3 * random.randint(1, 8))
        if program and not f["dw"] and not program[-1]["dw"] and random.getrandbits(1):
            same = ("cbase", "q2", "q1", "q0", "cq2", "cq1", "cq0")
            f |= {name: program[-1][name] for name in same}
        f["fence"] = int(bool(program and needs_fence(config, program[-1], f))
                         or not random.randrange(8))
        program.append(f)
    assert 0 < sum(f["fence"] for f in program) < n - 1
    check(config, tiles, program, [random.choice([0, 0, 0, 90]) for _ in program])


@pytest.mark.parametrize("tm, tn", [(2, 4), (4, 8)])
def test_long_sweeps_leave_no_gap(tm, tn):
    config = build(tm, tn)
    random = Random(3)
    tiles = Tiles.random(random, config)
    program = []
    for mode in ("conv", "dw", "pixels", "pack", "ident", "zero", "sel", "conv"):
        f = random_instruction(random, config, mode, limit=6)
        f |= {"first": 1, "cbase": 0, "fence": 0, "q2": 2, "q1": 3, "q0": 4, "cq2": 12, "cq1": 4,
              "cq0": 1}
        if mode == "dw":
            f |= {"np": 24, "t1": 3, "t0": 3, "ng": 1, "lanes_last": tn, "ones": 1}
        program.append(f)
    engine = Engine(config)
    _, seen = run(engine, tiles, program, [0] * len(program))
    issued = seen["issued"]
    gaps = [after - before - 1 for before, after in pairwise(issued)]
    # only the instruction after `sel` has to wait for buffer A
    assert sorted(gaps)[-2:] == [0, tm]
    assert issued[0] == seen["accepted"][0] + tm + 1


def test_overflow_saturates_and_is_reported():
    config = build(2, 4)
    tiles = Tiles.random(Random(4), config)
    for buffer in (tiles.a, tiles.b):
        for bank in buffer:
            bank[:] = [0x7f00 | (w & 0x80ff) for w in bank]
    f = random_instruction(Random(5), config, "conv") | {"first": 1, "rows": 2}
    check(config, tiles, [f], [0])
    assert any(word & 0x7fffffff == 0x7f7fffff for row in tiles.acc for word in row)


def test_drains_one_region_while_the_other_fills():
    config = build(2, 4)
    random = Random(6)
    tiles = Tiles.random(random, config)
    low = {"cbase": 0, "q2": 2, "q1": 4, "q0": 4, "cq2": 16, "cq1": 4, "cq0": 1, "first": 1}
    first = random_instruction(random, config, "conv") | low
    second = random_instruction(random, config, "pixels") | low | {"cbase": 32, "t0": 3, "t1": 3}
    engine = Engine(config)
    sim = Simulator(engine)
    sim.add_clock(1e-8)
    finished = []

    async def drive(ctx):
        await fill(ctx, engine.write_a, config, tiles.a)
        await fill(ctx, engine.write_b, config, tiles.b)
        for f in (first, second):
            ctx.set(engine.i.valid, 1)
            ctx.set(engine.i.payload, pack(f))
            await ctx.tick().until(engine.i.ready)
            ctx.set(engine.i.valid, 0)
            if f is first:
                await ctx.tick().until(engine.done)
        half = await drained(ctx, engine.drain, config, range(32))
        assert not finished
        execute(tiles, first)
        assert half == tiles.acc[:32]
        await ctx.tick().until(engine.done)
        finished.append(True)
        execute(tiles, second)
        assert await drained(ctx, engine.drain, config) == tiles.acc

    async def watchdog(ctx):
        for _ in range(5000):
            await ctx.tick()
        raise AssertionError("the engine hangs")

    sim.add_testbench(drive)
    sim.add_testbench(watchdog, background=True)
    sim.run()
    assert finished


def test_reset_forgets_the_instruction():
    config = build(2, 4)
    tiles = Tiles.random(Random(8), config)
    engine, reset = Engine(config), Signal()
    sim = Simulator(ResetInserter(reset)(engine))
    sim.add_clock(1e-8)
    f = random_instruction(Random(9), config, "dw") | {"first": 1}

    async def drive(ctx):
        await fill(ctx, engine.write_a, config, tiles.a)
        await fill(ctx, engine.write_b, config, tiles.b)
        for wait in (1, 3, 9, 20, 31):
            ctx.set(engine.i.valid, 1)
            ctx.set(engine.i.payload, pack(f))
            await ctx.tick().until(engine.i.ready)
            ctx.set(engine.i.valid, 0)
            await ctx.tick().repeat(wait)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            for _ in range(40):
                assert not ctx.get(engine.done | engine.active)
                await ctx.tick()
        ctx.set(engine.i.valid, 1)
        ctx.set(engine.i.payload, pack(f))
        await ctx.tick().until(engine.i.ready)
        ctx.set(engine.i.valid, 0)
        await ctx.tick().until(engine.done)
        execute(tiles, f)
        results = await drained(ctx, engine.drain, config)
        for c in visits(config, f):
            assert results[c] == tiles.acc[c]

    async def watchdog(ctx):
        for _ in range(5000):
            await ctx.tick()
        raise AssertionError("the engine hangs")

    sim.add_testbench(drive)
    sim.add_testbench(watchdog, background=True)
    sim.run()
