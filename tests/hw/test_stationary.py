"""Stationary against the loops of docs/program.md, with sweeps that are taken late."""

from itertools import product
from random import Random

import pytest
from amaranth.sim import Simulator
from gradgate.hw import isa
from gradgate.hw.config import Config
from gradgate.hw.stationary import Stationary

from tests.hw.util import random_instruction

MODES = ["conv", "pixels", "ident", "sel", "zero", "pack", "dw"]


def tiles(config, f):
    """(rows, sweep) of each tile; a row is (address of each lane or None, rot, limit, ident)."""
    tm, tn = config.tm, config.tn
    if f["dw"]:
        pixels = list(product(range(f["q2"]), range(f["q1"]), range(f["q0"])))
        chunks = range(0, f["np"], tn)
        for chunk in chunks:
            rows = [([(f["abase"] + chunk + i) % 65536 for i in range(tn)], (f["rch0"] + r) % tn,
                     min(tn, f["np"] - chunk) if r < f["rows"] else 0, 0) for r in range(tm)]
            lanes = [(f["bbase"] + i2 * f["bq2"] + i1 * f["bq1"] + i0 * f["bq0"]) % 65536
                     for i2, i1, i0 in pixels[chunk:chunk + tn]]
            yield rows, {"base": 0, "lanes": lanes, "head": chunk == 0, "tail": chunk == chunks[-1]}
        return

    steps = list(product(range(f["ng"]), range(f["t1"]), range(f["t0"])))
    for g, kr, kc in steps:
        base = f["abase"] + g * f["ag"] + kr * f["at1"] + kc * f["at0"]
        shortened = kc == f["t0"] - 1 if f["pack"] else g == f["ng"] - 1
        limit = f["lanes_last"] if shortened else tn
        rows = []
        for r in range(tm):
            live = limit if r < f["rows"] and not f["zero"] else 0
            if f["zero"] or f["ident"]:
                rows.append((None, None, live, f["ident"]))
            elif f["a_pix"]:
                addresses = [(base + i % f["al_n"] * f["al0"] + i // f["al_n"] * f["al1"]) % 65536
                             for i in range(tn)]
                rows.append((addresses, (f["rch0"] + r) % tn, live, 0))
            else:
                rows.append(([(base + r * f["ar"]) % 65536] * tn, (f["rch0"] + r) % tn, live, 0))
        yield rows, {
            "base": (f["bbase"] + g * f["bg"] + kr * f["bt1"] + kc * f["bt0"]) % 65536,
            "tag": (f["tag0"] + kr * f["tg1"] + kc * f["tg0"]) % 128,
            "lanes": [0] * tn, "head": (g, kr, kc) == steps[0], "tail": (g, kr, kc) == steps[-1]}


@pytest.mark.parametrize("tm, tn", [(2, 4), (4, 16)])
def test_rows_and_sweeps(tm, tn):
    config = Config(tm=tm, tn=tn, beat_bits=32)
    random = Random(config.name)
    dut = Stationary(config)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    program = [random_instruction(random, config, random.choice(MODES)) for _ in range(25)]
    expected = [tile for f in program for tile in tiles(config, f)]
    rows, cycles, finished = [], [], []

    async def offer(ctx):
        for f in program:
            if random.randrange(3) == 0:
                await ctx.tick().repeat(random.randint(1, 25))
            ctx.set(dut.i.payload, sum(w << 32 * k for k, w in enumerate(isa.encode(**f))))
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def take(ctx):
        for wanted, sweep in expected:
            if random.getrandbits(1):
                await ctx.tick().repeat(random.randint(1, 2 * tn))
            ctx.set(dut.o.ready, 1)
            await ctx.tick().until(dut.o.valid)
            ctx.set(dut.o.ready, 0)
            payload = sampled[-2]  # the last one is that of the cycle after
            assert {name: payload[name] for name in sweep if name != "lanes"} \
                == {name: value for name, value in sweep.items() if name != "lanes"}
            assert payload["lanes"][:len(sweep["lanes"])] == sweep["lanes"]
            # the last row leaves one cycle after it was chosen
            await ctx.tick()
            assert rows[:tm] == wanted
            del rows[:tm]
        finished.append(True)

    sampled = []

    async def watch(ctx):
        beside = False
        while True:
            if ctx.get(dut.fill_en):
                fill = dut.fill
                assert ctx.get(fill.row) == len(cycles_of_rows) % tm
                cycles_of_rows.append(len(cycles))
                read = not beside and ctx.get(dut.a_en)
                rows.append((([ctx.get(a) for a in dut.a_addr], ctx.get(dut.a_rot)) if read
                             else (None, None)) + (ctx.get(fill.limit), ctx.get(fill.ident)))
            if beside:
                assert ctx.get(dut.a_en) and not ctx.get(dut.a_rot)
                assert [ctx.get(a) for a in dut.a_addr] == [beside] * tn
            else:
                assert ctx.get(dut.a_en) <= ctx.get(dut.fill_en)

            beside = False
            ctx.set(dut.beside.en, random.randrange(5) == 0)
            if ctx.get(dut.beside.en):
                addr, offset = random.getrandbits(16), random.getrandbits(16)
                ctx.set(dut.beside.addr, addr)
                ctx.set(dut.beside.offset, offset)
                beside = (addr + offset) % 65536 or 65536
            payload = dut.o.payload
            sampled.append({name: ctx.get(getattr(payload, name))
                            for name in ("base", "tag", "head", "tail")}
                           | {"lanes": [ctx.get(lane) for lane in payload.lanes]})
            await ctx.tick()
            cycles.append(0)
            assert len(cycles) < 8000, "the sequencer hangs"

    cycles_of_rows = []
    sim.add_testbench(offer)
    sim.add_testbench(watch, background=True)
    sim.add_testbench(take)
    sim.run()
    assert finished
