# amaranth: UnusedElaboratable=no
"""hw/post.py: results of all modes, one by one and overlapping, and the cycles they take."""

import random
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.drain import Drain
from gradgate.hw.isa import Unit, encode
from gradgate.hw.post import PostUnit
from gradgate.hw.vector import VectorPipeline

from tests.hw.memory import Memory, serve_drain
from tests.hw.operands import FloatSource
from tests.hw.posts import MODES, Layout, execute, fill, instruction, number, outputs

CONFIGS = {
    "2x4_bf16_32": Config(tm=2, tn=4, fmt="bf16", beat_bits=32, acc_depth=64, max_burst=8),
    "8x16_bf16_64": Config(tm=8, tn=16, fmt="bf16", beat_bits=64, acc_depth=64, max_burst=16),
    "16x16_fp32_128": Config(tm=16, tn=16, fmt="fp32", beat_bits=128, acc_depth=64, max_burst=16),
    "4x4_fp32_128": Config(tm=4, tn=4, fmt="fp32", beat_bits=128, acc_depth=64, max_burst=16),
}
READS, WRITES = ("src", "opd", "mom"), ("out", "aux")


class Bench:
    """A PostUnit with a memory and accumulators; what happens when.

    `now` is the number of the cycle; `cycles` has, by name, those of each instruction accepted and
    done, vector read, burst asked for, beat and acknowledgement.
    """

    def __init__(self, config, seed, stall=0.0, latency=1, write_stall=None):
        self.config, self.rng, self.stall = config, random.Random(seed), stall
        print("seed", seed)
        self.dut = PostUnit(config)
        write_stall = stall if write_stall is None else write_stall
        self.memories = {name: Memory(config, self.rng, 0, latency, stall) for name in READS}
        self.memories |= {name: Memory(config, self.rng, 0, latency, write_stall)
                          for name in WRITES}
        source = FloatSource(self.rng, "fp32")
        self.acc = [[number(self.rng, source, canonical=True) for _ in range(config.tm)]
                    for _ in range(2 * config.acc_depth)]
        self.flags = {"nonfinite": 0, "overflow": 0, "active": 0}  # cycles of each
        self.now, self.cycles = 0, {}

    def load(self, memory):
        for port in self.memories.values():
            port.data = memory
        self.memory = memory

    async def observe(self, ctx):
        dut = self.dut
        events = {"accept": dut.i.valid & dut.i.ready, "done": dut.done, "read": dut.drain.en}
        events |= {name: getattr(dut, name).cmd.valid & getattr(dut, name).cmd.ready
                   for name in READS + WRITES}
        for name in READS + WRITES:
            port = getattr(dut, name)
            events[f"{name}_beat"] = port.data.valid & port.data.ready
        events |= {f"{name}_ack": getattr(dut, name).ack for name in WRITES}
        self.cycles = {name: [] for name in events}
        flags = [getattr(dut, name) for name in self.flags]
        self.cycles["active"] = []
        while True:
            _, _, *sample = await ctx.tick().sample(*events.values(), *flags)
            for name, value in zip(events, sample, strict=False):
                if value:
                    self.cycles[name].append(self.now)
            for name, value in zip(self.flags, sample[len(events):], strict=True):
                self.flags[name] += value
            if sample[-1]:
                self.cycles["active"].append(self.now)
            self.now += 1

    async def offer(self, ctx, insns, stall=0.0):
        """Offers the instructions, each after a random pause."""
        for insn in insns:
            while self.rng.random() < stall:
                await ctx.tick()
            words = encode(Unit.POST, **{k: v for k, v in insn.items() if k != "unit"})
            ctx.set(self.dut.i.payload, sum(w << 32 * k for k, w in enumerate(words)))
            ctx.set(self.dut.i.valid, 1)
            await ctx.tick().until(self.dut.i.ready)
            ctx.set(self.dut.i.valid, 0)
            ctx.set(self.dut.i.payload, self.rng.getrandbits(512))

    async def wait(self, ctx, count, limit):
        """Until `count` instructions in all are done."""
        for _ in range(limit):
            if len(self.cycles["done"]) == count:
                return
            await ctx.tick()
        raise AssertionError(f"no end after {limit} cycles")

    def run(self, *testbenches):
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-8)
        simulator.add_testbench(
            partial(serve_drain, port=self.dut.drain, config=self.config, acc=self.acc,
                    rng=self.rng), background=True)
        for name, memory in self.memories.items():
            serve = memory.serve_reads if name in READS else memory.serve_writes
            simulator.add_testbench(partial(serve, port=getattr(self.dut, name)), background=True)
        simulator.add_testbench(self.observe, background=True)
        for testbench in testbenches:
            simulator.add_testbench(testbench)
        simulator.run()


def shape_of(mode, rng, config):
    """(shape, window): odd ones, now and then of one pixel."""
    shape = rng.choice([(1, 1, 1), (2, 1, 5), (1, 3, 3), (2, 3, 3), (3, 2, 1)])
    window = rng.choice([(2, 2), (1, 2), (3, 2), (1, 1)]) if MODES[mode].get("pool") else (1, 1)
    return shape, window


@pytest.mark.parametrize("name", CONFIGS)
def test_one_by_one(name):
    """Memory, flags and activity of each mode."""
    config = CONFIGS[name]
    bench = Bench(config, seed=1, stall=0.3, latency=5)
    layout, rng = Layout(config), bench.rng
    program = []
    for turn, mode in enumerate(MODES):
        shape, window = shape_of(mode, rng, config)
        insn = instruction(config, layout, mode, shape, window)
        program.append((mode, insn, turn % 3 != 2))
    for field, mode in (("p1", "compute_copy"), ("p0", "forward"), ("p2", "update_with_momentum")):
        insn = instruction(config, layout, mode, (2, 3, 2))
        program.append((f"no {field}", insn | {field: 0, "o_len": 0}, True))
    memory = bytearray(rng.randbytes(layout.end))
    for _, insn, tame in program:
        fill(config, insn, memory, rng, tame)
    bench.load(memory)
    expected = bytearray(memory)

    async def testbench(ctx):
        for count, (mode, insn, _) in enumerate(program, 1):
            flags = execute(config, insn, bench.acc, expected)
            bench.flags = dict.fromkeys(bench.flags, 0)
            await bench.offer(ctx, [insn])
            await bench.wait(ctx, count, 3000)
            assert bench.memory == expected, mode
            assert (bench.flags["nonfinite"] > 0) == flags.nonfinite, mode
            assert (bench.flags["overflow"] > 0) == flags.overflow, mode
            beats = sum(length for _, length in outputs(config, insn)[0]) // config.beat_bytes
            assert bench.flags["active"] == beats, mode

    bench.run(testbench)


@pytest.mark.parametrize("stall, latency, write_stall", [(0.0, 1, 0.0), (0.3, 9, 0.3),
                                                         (0.0, 3, 0.8)])
@pytest.mark.parametrize("name", CONFIGS)
def test_back_to_back(name, stall, latency, write_stall):
    """All modes in random order; everything of an instruction is in memory when it is done."""
    config = CONFIGS[name]
    bench = Bench(config, f"{name}{stall}{write_stall}", stall, latency, write_stall)
    layout, rng = Layout(config), bench.rng
    modes = [*MODES, *MODES]
    rng.shuffle(modes)
    program = []
    for mode in modes:
        shape, window = shape_of(mode, rng, config)
        insn = instruction(config, layout, mode, shape, window)
        program.append(insn | ({"p1": 0, "o_len": 0} if rng.random() < 0.1 else {}))
    memory = bytearray(rng.randbytes(layout.end))
    for insn in program:
        fill(config, insn, memory, rng)
    bench.load(memory)
    expected = bytearray(memory)
    for insn in program:
        execute(config, insn, bench.acc, expected)

    async def check(ctx):
        for count, insn in enumerate(program, 1):
            await bench.wait(ctx, count, 4000)
            for runs in outputs(config, insn):
                for start, length in runs or []:
                    assert memory[start:start + length] == expected[start:start + length], count
        await ctx.tick().repeat(50)
        assert memory == expected
        assert len(bench.cycles["done"]) == len(program)

    async def offer(ctx):
        await bench.offer(ctx, program, stall)

    bench.run(offer, check)
    overlapping = sum(accept < done for accept, done in
                      zip(bench.cycles["accept"][1:], bench.cycles["done"], strict=False))
    assert overlapping > len(program) // 2


@pytest.mark.parametrize("reader, field", [("compute_copy", "src_base"), ("sum", "opd_base")])
def test_results_read_again(reader, field):
    """A memory source, or operand of a sum, that the instruction before writes."""
    config = CONFIGS["8x16_bf16_64"]
    bench = Bench(config, seed=7, latency=60)
    layout = Layout(config)
    writer = instruction(config, layout, "gradient", (1, 1, 8))
    again = instruction(config, layout, reader, (1, 1, 8)) | {field: writer["out_base"]}
    bench.load(bytearray(layout.end))
    expected = bytearray(layout.end)
    for insn in (writer, again):
        execute(config, insn, bench.acc, expected)

    async def testbench(ctx):
        await bench.offer(ctx, [writer, again])
        await bench.wait(ctx, 2, 1000)
        assert bench.memory == expected

    bench.run(testbench)


def test_nonfinite_words():
    """A word counts if the instruction uses it, whatever stream it comes from."""
    config = CONFIGS["8x16_bf16_64"]
    bench = Bench(config, seed=5, stall=0.2)
    layout = Layout(config)
    losses = []
    for mode, field, offset, used in (
            ("compute_copy", "src_base", 8, 1), ("sum", "opd_base", 8, 1),
            ("mask_of_fp32", "opd_base", 4, 1), ("update", "opd_base", 4, 1),
            ("update_with_momentum", "aux_base", 8, 1), ("update", "aux_base", 8, 0),
            ("forward", "imm2", 28, 1), ("forward", "imm2", 32, 0)):
        for bits in (0xff800000, 0x7fc00001):
            insn = instruction(config, layout, mode, (1, 2, 3))
            losses.append((mode, insn, insn[field] + offset, bits, used))
    memory = bytearray(layout.end)
    for _, insn, address, bits, _ in losses:
        fill(config, insn, memory, bench.rng)
        memory[address:address + 4] = bits.to_bytes(4, "little")
    bench.load(memory)
    expected = bytearray(memory)

    async def testbench(ctx):
        for count, (mode, insn, _, _, used) in enumerate(losses, 1):
            execute(config, insn, bench.acc, expected)
            bench.flags["nonfinite"] = 0
            await bench.offer(ctx, [insn])
            await bench.wait(ctx, count, 3000)
            assert bench.flags["nonfinite"] == used, mode
            assert memory == expected, mode

    bench.run(testbench)


class Schedule:
    """The cycles that the docstring of PostUnit tells, given those of memory's answers."""

    def __init__(self, config, cycles):
        self.config, self.cycles = config, cycles
        self.stages = VectorPipeline(config).stages
        self.beats = {name: iter(cycles[f"{name}_beat"]) for name in READS}
        self.accepts, self.reads, self.vectors, self.made, self.ends = [], [], [], [], []
        self.last_read = self.last_vector = -100
        self.accept, self.operand = 0, False

    def operands(self, name, fp32, vectors):
        """When the words of each vector are there."""
        share = 1 if fp32 or self.config.fmt == "fp32" else 2
        beats = [next(self.beats[name]) + 4 for _ in range(vectors // share)]
        return [beats[k // share] for k in range(vectors)]

    def instruction(self, insn, gap):
        """`gap`: cycles between the last vector before and the first of this one, at least."""
        groups = self.config.groups
        self.accepts.append(self.accept)
        turn = max(self.accept + 1, self.last_vector + gap - 1)
        if insn["bias"]:
            turn = max(turn, [next(self.beats["opd"]) for _ in range(groups)][-1] + 5)
            if self.operand:  # the bias follows those of the instruction before
                turn = max(turn, self.last_vector + 1 + groups)
        pixels = insn["p2"] * insn["p1"] * insn["p0"]
        each = insn["w1"] * insn["w0"] if insn["pool"] else 1
        needs = []
        if insn["src_mem"]:
            needs.append(self.operands("src", insn["src_fp32"], pixels * groups))
        self.operand = insn["opd_add"] or insn["mask"] or insn["sgd"]
        if self.operand:
            fp32 = insn["opd_fp32"] or insn["sgd"]
            needs.append(self.operands("opd", fp32, pixels * groups))
        if insn["mom"]:
            needs.append(self.operands("mom", True, pixels * groups))

        begin, vectors = self.accept + 2, self.vectors
        first, depth = len(vectors), Drain(self.config).depth
        for pixel in range(pixels):
            last = max(begin + each - 1, self.last_read + groups)
            over = len(vectors) + groups - depth
            if over > 0:  # reading waits for vectors to leave
                last = max(last, vectors[over - 1] + 1)
            if not insn["src_mem"]:
                self.reads.append(last)
            self.last_read, begin = last, last + 1
            for k in range(groups):
                at = max([last + 6 + k, turn + 1, self.last_vector + 1]
                         + [need[pixel * groups + k] for need in needs])
                vectors.append(at)
                self.last_vector = at
        whole = insn["out_fp32"] or self.config.fmt == "fp32"
        stage = "weight" if insn["sgd"] else "result" if whole else "operand"
        made = [at + 2 + self.stages[stage] for at in vectors[first:]]
        self.made += made if insn["sgd"] or whole else made[1::2]
        self.ends.append(made[-1])
        self.accept = max(self.last_read + 2, turn + 2)
        if (insn["src_mem"] or insn["opd_add"]) and len(self.accepts) > 1:
            self.accept = max(self.accept, self.cycles["done"][len(self.accepts) - 2] + 3)


SEQUENCES = {
    "accumulators": ["gradient", "relu", "gradient", "gradient"],
    "pooled": ["forward_pooled", "forward_pooled_tags", "logits_pooled_tags", "forward_pooled"],
    "forward": ["forward", "forward", "logits", "all_but_sum", "forward"],
    "backward": ["masked", "scaled_and_masked", "relu", "mask_of_fp32", "masked"],
    "updates": ["update", "update_with_momentum", "gradient", "update_with_momentum", "relu",
                "update", "forward_pooled_tags"],
    "memory": ["compute_copy", "gradient", "update_from_memory", "loss_mask", "sum",
               "copy_to_fp32"],
}


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("name", CONFIGS)
def test_cycles(name, sequence):
    """All cycles of the docstring, with instructions that are offered at once."""
    config = CONFIGS[name]
    bench, layout = Bench(config, seed=3, latency=4), Layout(config)
    pixels = max(9, 32 // config.groups)
    program = [instruction(config, layout, mode, (1, 1, pixels + k % 2), (2, 2 + k % 2))
               for k, mode in enumerate(SEQUENCES[sequence])]
    bench.load(bytearray(layout.end))

    async def testbench(ctx):
        await bench.offer(ctx, program)
        await bench.wait(ctx, len(program), 3000)

    bench.run(testbench)
    cycles = bench.cycles
    schedule = Schedule(config, cycles)
    sgd_gap = VectorPipeline(config).sgd_gap
    for before, insn in zip([program[0], *program], program, strict=False):
        schedule.instruction(insn, sgd_gap if before["sgd"] and not insn["sgd"] else 2)
    assert cycles["accept"] == schedule.accepts
    assert set(schedule.reads) <= set(cycles["read"])
    assert cycles["active"] == schedule.made

    # memory takes a beat per cycle; the last burst begins when all its beats are there
    lengths = [length for _, length in bench.memories["out"].writes]
    position = 0
    for insn, end, done in zip(program, schedule.ends, cycles["done"], strict=True):
        beats = sum(length for _, length in outputs(config, insn)[0]) // config.beat_bytes
        while beats:
            burst = lengths.pop(0)
            beats -= burst
            position += burst
        before = cycles["out_beat"][position - burst - 1] if position > burst else 0
        last = cycles["out_beat"][position - 1]
        assert last == max(end + 2 + burst, before + burst)
        assert done - 2 in cycles["out_ack"] + cycles["aux_ack"]
        assert done - 2 >= last + 4


@pytest.mark.parametrize("name", CONFIGS)
def test_first_command(name):
    """Reads begin 5 cycles after the instruction is accepted, also while another is at work."""
    config = CONFIGS[name]
    bench, layout = Bench(config, seed=4, latency=30), Layout(config)
    program = [instruction(config, layout, mode, (1, 2, 16))
               for mode in ("update_from_memory", "masked", "forward", "update_with_momentum")]
    bench.load(bytearray(layout.end))

    async def testbench(ctx):
        await bench.offer(ctx, program)
        await bench.wait(ctx, len(program), 3000)

    bench.run(testbench)
    accepts = bench.cycles["accept"]
    assert bench.cycles["src"][0] - accepts[0] == 5
    for at in accepts:
        assert at + 5 in bench.cycles["opd"]
    assert [at + 5 in bench.cycles["mom"] for at in accepts] == [1, 0, 0, 1]
    assert all(later < done for later, done in
               zip(accepts[1:], bench.cycles["done"], strict=False))


def test_config_is_checked():
    with pytest.raises(TypeError, match=r"config must be a Config, not 8"):
        PostUnit(8)
