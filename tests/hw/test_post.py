# amaranth: UnusedElaboratable=no
"""PostUnit against docs/program.md, section 5, and docs/numerics.md, section 3, in plain Python."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator
from gradgate.hw import numerics, post
from gradgate.hw.accumulators import Accumulators
from gradgate.hw.config import Config
from gradgate.hw.isa import POST, Unit, encode
from gradgate.hw.post import PostUnit

from tests.hw.memory import Memory
from tests.hw.operands import FloatSource

CONFIGS = {
    "2x4_bf16_32": Config(tm=2, tn=4, fmt="bf16", beat_bits=32, acc_depth=64, max_burst=8),
    "4x8_bf16_64": Config(tm=4, tn=8, fmt="bf16", beat_bits=64, acc_depth=64, max_burst=16),
    "8x16_bf16_64": Config(tm=8, tn=16, fmt="bf16", beat_bits=64, acc_depth=64, max_burst=16),
    "4x4_fp32_128": Config(tm=4, tn=4, fmt="fp32", beat_bits=128, acc_depth=64, max_burst=16),
    "4x8_fp32_32": Config(tm=4, tn=8, fmt="fp32", beat_bits=32, acc_depth=64, max_burst=4),
}
SRC, OPD, BIAS, OUT, SIZE = 0x0fe0, 0x2fd0, 0x4ff0, 0x5ff0, 0x8000

ACC = {"p2": 2, "p1": 3, "p0": 3, "src_base": 70, "as2": 37, "as1": -5, "as0": 3}
POOL = ACC | {"p1": 2, "w1": 3, "w0": 2, "aw1": 11, "aw0": -7, "pool": 1}
MEMORY = {"p2": 2, "p1": 1, "p0": 5, "src_mem": 1, "src_base": SRC}
FORM = {"opd_base": OPD, "imm2": BIAS}
SCENARIOS = {
    "forward": ACC | FORM | {"bias": 1, "relu": 1},
    "forward_pooled": POOL | FORM | {"bias": 1, "relu": 1},
    "tags": POOL | {"tag_out": 1},
    "tags_ignore_the_rest": POOL | FORM | {"tag_out": 1, "bias": 1, "mask": 1, "out_fp32": 1},
    "logits": ACC | FORM | {"bias": 1, "out_fp32": 1},
    "masked": ACC | FORM | {"mask": 1},
    "scaled_and_masked": ACC | FORM | {"scale": 1, "mask": 1, "imm0": 0x3e2aaaab},
    "all_but_sum": ACC | FORM | {"scale": 1, "bias": 1, "relu": 1, "mask": 1, "imm0": 0xbf19999a},
    "mask_of_fp32": ACC | FORM | {"mask": 1, "opd_fp32": 1, "out_fp32": 1},
    "gradient": ACC | {"out_fp32": 1},
    "sum": ACC | FORM | {"opd_add": 1, "opd_fp32": 1, "out_fp32": 1},
    "sum_of_operands": ACC | FORM | {"opd_add": 1, "relu": 1},
    "relu": ACC | {"relu": 1},
    "update": ACC | FORM | {"sgd": 1, "imm0": 0x3a03126f, "imm1": 0x3f666666, "imm2": 0x3d4ccccd},
    "update_from_memory": MEMORY | FORM | {"sgd": 1, "src_fp32": 1, "out_fp32": 1, "opd_fp32": 1,
                                           "imm0": 0x3dcccccd, "imm1": 0x3f333333,
                                           "imm2": 0x3f000000},
    "update_with_odd_constants": ACC | FORM | {"sgd": 1, "imm0": 0x00000001, "imm1": 0x7f800000,
                                               "imm2": 0xbd4ccccd},
    "compute_copy": MEMORY | {"src_fp32": 1, "src_odd": 1},
    "convert": MEMORY | {"src_fp32": 1},
    "loss_mask": MEMORY | FORM | {"mask": 1},
    "copy_to_fp32": MEMORY | {"out_fp32": 1},
    "memory_sum": MEMORY | FORM | {"opd_add": 1, "p1": 3, "p0": 2},
    "nothing": MEMORY | {"p1": 0},
    "no_pixels": ACC | FORM | {"bias": 1, "p0": 0},
}


class Flags:
    def __init__(self):
        self.nonfinite = self.overflow = False

    def op(self, function, *args):
        bits, overflow = function(*args)
        self.overflow |= overflow
        return bits

    def load(self, fmt, bits):
        bits, nonfinite = numerics.canonicalise(fmt, bits)
        self.nonfinite |= nonfinite
        return bits if fmt == "fp32" else bits << 16


def greater(a, b):
    """a > b for canonical fp32."""
    def key(bits):
        return -(bits & 0x7fffffff) if bits >> 31 else bits
    return key(a) > key(b)


def word(memory, address, fmt):
    size = 4 if fmt == "fp32" else 2
    return int.from_bytes(memory[address:address + size], "little")


def reference(config, insn, acc, memory):
    """(bytes of the output stream, flags); `insn` has every field."""
    f = type("Insn", (), insn)
    flags, size = Flags(), config.beat_bytes
    vlanes, groups = config.vlanes, config.groups
    # docs/program.md: with tag_out nothing else is applied
    scale, bias, opd_add, relu, mask, sgd, out_fp32 = (
        0 if f.tag_out else insn[name]
        for name in ("scale", "bias", "opd_add", "relu", "mask", "sgd", "out_fp32"))
    src_fmt = "fp32" if f.src_fp32 else config.fmt
    opd_fmt = "fp32" if f.opd_fp32 or sgd else config.fmt
    width = {"fp32": 4, "bf16": 2}
    imm = [numerics.canonicalise("fp32", insn[f"imm{k}"])[0] for k in range(3)]

    biases = []
    if bias:
        biases = [flags.load("fp32", word(memory, f.imm2 + 2 * (ch // vlanes) * size
                                          + ch % vlanes * 4, "fp32")) for ch in range(config.tm)]
    operand_bytes = b"".join(memory[f.opd_base + i2 * f.o_s2 + i1 * f.o_s1:][:f.o_len * size]
                             for i2 in range(f.o_n2) for i1 in range(f.o_n1))
    source, opd, out = f.src_base, 0, bytearray()
    steps = f.as2, f.as1, f.as0
    windows = [(j1, j0) for j1 in range(f.w1) for j0 in range(f.w0)] if f.pool else [(0, 0)]
    for pixel in [(i2, i1, i0) for i2 in range(f.p2) for i1 in range(f.p1) for i0 in range(f.p0)]:
        for group in range(groups):
            first, second = bytearray(), bytearray()
            for lane in range(vlanes):
                ch = group * vlanes + lane
                if f.src_mem:
                    x = flags.load(src_fmt, word(memory, source + lane * width[src_fmt], src_fmt))
                else:
                    at = f.src_base + sum(i * s for i, s in zip(pixel, steps, strict=True))
                    values = [acc[(at + j1 * f.aw1 + j0 * f.aw0) % (2 * config.acc_depth)][ch]
                              for j1, j0 in windows]
                    tag, x = 0, values[0]
                    for k, value in enumerate(values):
                        if greater(value, x):
                            tag, x = k, value
                if scale:
                    x = flags.op(numerics.fmul, x, imm[0])
                if bias:
                    x = flags.op(numerics.fadd, x, biases[ch])
                if opd_add or mask or sgd:
                    at = opd + lane * width[opd_fmt]
                    y = flags.load(opd_fmt, word(operand_bytes, at, opd_fmt))
                if opd_add:
                    x = flags.op(numerics.fadd, x, y)
                if relu and not greater(x, 0):
                    x = 0
                if mask and not greater(y, 0):
                    x = 0
                if sgd:
                    mom = flags.load("fp32", word(operand_bytes, opd + size + lane * 4, "fp32"))
                    g1 = flags.op(numerics.fadd, x, flags.op(numerics.fmul, imm[0], y))
                    mom = flags.op(numerics.fadd, flags.op(numerics.fmul, imm[1], mom), g1)
                    x = flags.op(numerics.fsub, y, flags.op(numerics.fmul, imm[2], mom))
                    second += mom.to_bytes(4, "little")
                if sgd or out_fp32:
                    first += x.to_bytes(4, "little")
                else:
                    bits = (numerics.tag(config.fmt, tag) if f.tag_out
                            else flags.op(numerics.to_operand, config.fmt, x))
                    first += bits.to_bytes(config.elem_bytes, "little")
            out += first + second
            source += vlanes * width[src_fmt] * (2 if f.src_odd else 1)
            opd += vlanes * width[opd_fmt] * (2 if sgd else 1)
    return bytes(out), flags


def complete(config, fields):
    """`fields` with every field of the instruction, and output runs with gaps to match."""
    insn = dict.fromkeys(POST, 0) | {"unit": int(Unit.POST), "out_base": OUT} | fields
    wide = 2 if insn["sgd"] else 1
    size = 4 if insn["sgd"] or insn["out_fp32"] and not insn["tag_out"] else config.elem_bytes
    row = insn["p0"] * config.tm * size * wide // config.beat_bytes
    gap = config.beat_bytes
    insn |= {"o_len": row, "o_n1": insn["p1"], "o_s1": row * gap + 3 * gap, "o_n2": insn["p2"]}
    insn["o_s2"] = insn["o_s1"] * insn["p1"] - 3 * gap
    return insn


def fill(config, insn, rng, tame):
    """(accumulators, memory): moderate numbers when tame, else the corners of the formats."""
    def number(fmt, canonical=False):
        source = FloatSource(rng, fmt)
        if tame:
            return source.near(127, 8) if rng.random() < 0.9 else 0
        return source.any() if canonical or rng.random() < 0.98 else rng.getrandbits(source.width)

    memory = bytearray(rng.randbytes(SIZE))
    for start, stop, fmt in (
            (SRC, SRC + 1024, "fp32" if insn["src_fp32"] else config.fmt),
            (OPD, OPD + 4096, "fp32" if insn["opd_fp32"] or insn["sgd"] else config.fmt),
            (BIAS, BIAS + 8 * config.tm, "fp32")):
        size = 4 if fmt == "fp32" else 2
        for address in range(start, stop, size):
            memory[address:address + size] = number(fmt).to_bytes(size, "little")
    acc = [[number("fp32", canonical=True) for _ in range(config.tm)]
           for _ in range(2 * config.acc_depth)]
    return acc, memory


class Bench:
    """A PostUnit with a memory and accumulators that can be exchanged between instructions."""

    def __init__(self, config, seed, stall, latency=1, write_stall=None):
        self.config, self.rng = config, random.Random(seed)
        self.dut = PostUnit(config)
        self.memory = Memory(config, self.rng, SIZE, latency, stall)
        write_stall = stall if write_stall is None else write_stall
        self.sink = Memory(config, self.rng, 0, latency, write_stall)
        self.sink.data = self.memory.data
        self.acc = []
        self.events = {"nonfinite": 0, "overflow": 0, "active": 0}
        self.now = 0

    async def serve_drain(self, ctx):
        drain, answers = self.dut.drain, deque()
        while True:
            _, _, en, addr = await ctx.tick().sample(drain.en, drain.addr)
            answers.append(self.acc[addr % len(self.acc)] if en
                           else [self.rng.getrandbits(32) for _ in range(self.config.tm)])
            if len(answers) == Accumulators.LATENCY:
                ctx.set(drain.data, answers.popleft())

    async def count(self, ctx):
        while True:
            sample = await ctx.tick().sample(*(getattr(self.dut, name) for name in self.events))
            self.now += 1
            for name, value in zip(self.events, sample[2:], strict=True):
                self.events[name] += value

    async def execute(self, ctx, insn, limit):
        """Cycles from acceptance to `done`."""
        words = encode(Unit.POST, **{k: v for k, v in insn.items() if k != "unit"})
        ctx.set(self.dut.i.payload, sum(w << 32 * k for k, w in enumerate(words)))
        ctx.set(self.dut.i.valid, 1)
        await ctx.tick().until(self.dut.i.ready)
        ctx.set(self.dut.i.valid, 0)
        ctx.set(self.dut.i.payload, self.rng.getrandbits(512))
        for cycle in range(1, limit):
            _, _, done = await ctx.tick().sample(self.dut.done)
            if done:
                return cycle
        raise AssertionError(f"no end after {limit} cycles")

    def run(self, testbench):
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-8)

        async def serve_src(ctx):
            await self.memory.serve_reads(ctx, self.dut.src)

        async def serve_opd(ctx):
            await self.memory.serve_reads(ctx, self.dut.opd)

        async def serve_out(ctx):
            await self.sink.serve_writes(ctx, self.dut.out)

        for server in (serve_src, serve_opd, serve_out, self.serve_drain):
            simulator.add_testbench(server, background=True)
        simulator.add_testbench(self.count, background=True)
        simulator.add_testbench(testbench)
        simulator.run()


def expected_memory(config, insn, memory, stream):
    """`memory` after the output stream has been written to its runs."""
    after, size = bytearray(memory), config.beat_bytes
    position = 0
    for i2 in range(insn["o_n2"]):
        for i1 in range(insn["o_n1"]):
            start = insn["out_base"] + i2 * insn["o_s2"] + i1 * insn["o_s1"]
            run = stream[position:position + insn["o_len"] * size]
            after[start:start + len(run)] = run
            position += len(run)
    assert position == len(stream)
    return after


def check(bench, scenarios):
    """Executes the instructions one after the other; memory, flags and activity as they should."""
    config = bench.config

    async def testbench(ctx):
        for turn, (scenario, fields) in enumerate(scenarios.items()):
            insn, tame = complete(config, fields), turn % 3 != 2
            bench.acc, memory = fill(config, insn, bench.rng, tame)
            bench.memory.data[:] = memory
            stream, flags = reference(config, insn, bench.acc, memory)
            bench.events = dict.fromkeys(bench.events, 0)
            await bench.execute(ctx, insn, limit=3000)
            assert bench.memory.data == expected_memory(config, insn, memory, stream), scenario
            assert (bench.events["nonfinite"] > 0) == flags.nonfinite, scenario
            assert (bench.events["overflow"] > 0) == flags.overflow, scenario
            assert bench.events["active"] == len(stream) // config.beat_bytes, scenario

    bench.run(testbench)


@pytest.mark.parametrize("name", CONFIGS)
def test_instructions(name):
    check(Bench(CONFIGS[name], seed=1, stall=0.3, latency=5), SCENARIOS)


def test_source_of_many_runs(monkeypatch):
    monkeypatch.setattr(post, "_RUN_BITS", 3)
    fields = MEMORY | {"p2": 3, "p1": 3, "p0": 5}
    check(Bench(CONFIGS["2x4_bf16_32"], seed=2, stall=0.1), {
        "runs_and_rest": fields, "runs": fields | {"p1": 2, "p0": 4}, "rest": MEMORY | {"p2": 1},
        "fp32": fields | {"src_fp32": 1}, "odd": fields | {"src_fp32": 1, "src_odd": 1}})


@pytest.mark.parametrize("fields", [{"out_fp32": 1, "p0": 24}, FORM | {"sgd": 1, "p0": 14}],
                         ids=["fp32", "update"])
def test_slow_memory(fields):
    """More beats than all buffers hold, to a memory that takes far fewer than one per cycle."""
    config = CONFIGS["4x8_bf16_64"]
    check(Bench(config, seed=4, stall=0, write_stall=0.85), {"slow": ACC | {"p2": 1} | fields})


INFINITY, NAN = 0xff800000, 0x7fc00001
LOSSES = {  # (instruction, address of the word from which the number comes, is it used)
    "source": (MEMORY | {"src_fp32": 1}, SRC + 8, True),
    "skipped": (MEMORY | {"src_fp32": 1, "src_odd": 1}, SRC + 8, False),
    "operand": (ACC | FORM | {"opd_add": 1, "opd_fp32": 1, "out_fp32": 1}, OPD + 8, True),
    "operand_of_the_mask": (ACC | FORM | {"mask": 1, "opd_fp32": 1, "out_fp32": 1}, OPD + 4, True),
    "weight": (ACC | FORM | {"sgd": 1}, OPD + 4, True),
    "momentum": (ACC | FORM | {"sgd": 1}, OPD + 8, True),
    "bias": (ACC | FORM | {"bias": 1}, BIAS + 4, True),
    "between_biases": (ACC | FORM | {"bias": 1}, BIAS + 8, False),
    "behind_the_operand": (ACC | {"relu": 1}, OPD, False),
}


def test_nonfinite_words():
    config = CONFIGS["4x8_bf16_64"]
    bench = Bench(config, seed=5, stall=0.2)

    async def testbench(ctx):
        for place, (fields, address, used) in LOSSES.items():
            for bits in (INFINITY, NAN):
                insn = complete(config, fields)
                bench.acc, memory = fill(config, insn, bench.rng, tame=True)
                memory[address:address + 4] = bits.to_bytes(4, "little")
                bench.memory.data[:] = memory
                bench.events = dict.fromkeys(bench.events, 0)
                await bench.execute(ctx, insn, limit=3000)
                assert bench.events["nonfinite"] == used, place
                stream, _ = reference(config, insn, bench.acc, memory)
                assert bench.memory.data == expected_memory(config, insn, memory, stream), place

    bench.run(testbench)


RATES = {  # cycles per vector
    "accumulators": (1, ACC | {"relu": 1}),
    "accumulators_to_fp32": (1, ACC | {"out_fp32": 1}),
    "operand": (1, ACC | FORM | {"mask": 1}),
    "pooled": (6, POOL),
    "update": (2, ACC | FORM | {"sgd": 1}),
    "memory": (1, MEMORY),
    "odd": (2, MEMORY | {"src_fp32": 1, "src_odd": 1}),
}


def test_throughput():
    config = CONFIGS["4x8_bf16_64"]
    bench = Bench(config, seed=2, stall=0.0)

    async def testbench(ctx):
        for name, (rate, fields) in RATES.items():
            cycles = []
            for pixels in (20, 52):  # whole bursts more
                insn = complete(config, fields | {"p2": 1, "p1": 1, "p0": pixels})
                bench.acc, bench.memory.data[:] = fill(config, insn, bench.rng, tame=True)
                cycles.append(await bench.execute(ctx, insn, limit=2000))
            assert cycles[1] - cycles[0] == 32 * config.groups * rate, name

    bench.run(testbench)


def test_config_is_checked():
    with pytest.raises(TypeError, match=r"config must be a Config, not 8"):
        PostUnit(8)
