# amaranth: UnusedElaboratable=no
"""Moving against the loops of docs/program.md, with sweeps that come late."""

from itertools import product
from random import Random

import pytest
from amaranth.sim import Simulator
from gradgate.hw import isa
from gradgate.hw.config import Config
from gradgate.hw.moving import Moving

from tests.hw.util import random_instruction, visits

LOOP = 7


def vectors(config, f, base, lanes):
    """(b_addr, b_rot) of each vector that is read, None for the vector of ones."""
    tn = config.tn
    if f["dw"]:
        for g in range(f["ng"]):
            n_lanes = f["lanes_last"] if g == f["ng"] - 1 else tn
            for n, kr, kc in product(range(n_lanes), range(f["t1"]), range(f["t0"])):
                offset = base + g * f["bg"] + kr * f["bt1"] + kc * f["bt0"]
                rot = n + kr // f["sd1"] * f["rskew"] + kc // f["sd0"]
                yield [(offset + lane) % 65536 for lane in lanes], rot % tn
        if f["ones"]:
            yield None
        return
    for i2, i1, i0 in product(range(f["q2"]), range(f["q1"]), range(f["q0"])):
        at = (base + i2 * f["bq2"] + i1 * f["bq1"] + i0 * f["bq0"]) % 65536
        if f["pack"]:
            word, inner = divmod(at, tn // 4)
            yield [word + (4 * inner + i >= tn) for i in range(tn)], 4 * inner
        else:
            yield [at] * tn, 0


def test_loop_is_checked():
    with pytest.raises(ValueError, match="^loop must be at least 3, not 2$"):
        Moving(Config(), 2)


@pytest.mark.parametrize("tm, tn", [(2, 4), (8, 16)])
def test_vectors_and_pace(tm, tn):
    config = Config(tm=tm, tn=tn, beat_bits=32, acc_depth=32)
    random = Random(config.name)
    dut = Moving(config, LOOP)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    taken, expected, seen = [], [], []

    async def drive(ctx):
        for _ in range(40):
            mode = random.choice(["conv", "sel", "zero", "pack", "dw"])
            f = random_instruction(random, config, mode, limit=3 * random.randint(1, 6))
            f["fence"] = random.getrandbits(1)
            head, tail = random.getrandbits(1), random.getrandbits(1)
            base, tag = random.getrandbits(16), random.getrandbits(7)
            lanes = [random.getrandbits(16) if f["dw"] else 0 for _ in range(tn)]
            payload = dut.i.payload
            ctx.set(payload.insn, sum(w << 32 * k for k, w in enumerate(isa.encode(**f))))
            ctx.set(payload.base, base)
            ctx.set(payload.tag, tag)
            ctx.set(payload.head, head)
            ctx.set(payload.tail, tail)
            for i, lane in enumerate(lanes):
                ctx.set(payload.lanes[i], lane)
            for _ in range(random.choice([0, 0, 0, random.randint(1, 30)])):
                await ctx.tick()
            offered = len(cycles)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

            start = offered
            if taken:
                before, n = taken[-1]
                start = max(start, before + n, before + LOOP)
                if f["fence"] and head:
                    start = max(start, before + n + LOOP - 1)
            reads = list(vectors(config, f, base, lanes))
            taken.append((start, len(reads)))
            sel = f["sel"] & ~f["dw"]
            for k, (c, read) in enumerate(zip(visits(config, f), reads, strict=True)):
                one = {"cycle": start + 2 + k, "c": c, "clear": f["first"] & head,
                       "swap": k == 0, "tail": tail & (k == len(reads) - 1),
                       "ones": read is None, "sel": sel, "read": None}
                if sel:
                    one["tag"] = tag
                    one["beside"] = (read[0][0] - f["bbase"] + f["abase"]) % 65536
                if read is not None and (f["dw"] or not f["zero"]):
                    one["read"] = read
                expected.append(one)
        await ctx.tick().repeat(60)

    cycles = []

    async def watch(ctx):
        beside = None
        while True:
            if ctx.get(dut.en):
                vector = dut.vector
                one = {"cycle": len(cycles), "swap": ctx.get(dut.swap), "tail": ctx.get(dut.tail),
                       "read": None} | {name: ctx.get(getattr(vector, name))
                                        for name in ("c", "clear", "ones", "sel")}
                if one["sel"]:
                    one |= {"tag": ctx.get(vector.tag), "beside": beside}
                if ctx.get(dut.b_en):
                    one["read"] = ([ctx.get(a) for a in dut.b_addr], ctx.get(dut.b_rot))
                seen.append(one)
            beside = None
            if ctx.get(dut.beside.en):
                beside = (ctx.get(dut.beside.addr) + ctx.get(dut.beside.offset)) % 65536
            await ctx.tick()
            cycles.append(0)
            assert len(cycles) < 5000, "the sequencer hangs"

    sim.add_testbench(watch, background=True)
    sim.add_testbench(drive)
    sim.run()
    assert seen == expected
