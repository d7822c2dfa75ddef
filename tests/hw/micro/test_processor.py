# amaranth: UnusedElaboratable=no
"""Microcode executed: results, conditions, cuts, memory, the host in between, cycles."""

import random
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.control import REGISTERS
from gradgate.hw.floats import FloatMul, NormalAdd
from gradgate.hw.micro.assembler import Assembler, Condition, Cut, Port
from gradgate.hw.micro.processor import Processor
from gradgate.hw.numerics import fadd, fmul

from tests.hw.memory import Memory, watch

CONFIG = Config(tm=2, tn=4, beat_bits=32, max_burst=1, core="micro")
LIMIT = 3000


class Bench:
    """A processor, its adder and multiplier in Python, memory, and a host."""

    def __init__(self, asm, latency=2, stall=0.0):
        asm.label("over")
        asm.move(None, asm.zero, port=Port.END)
        asm.label("idle")
        asm.jump("idle")
        self.dut = Processor(asm.words(), asm.registers)
        self.memory = Memory(CONFIG, random.Random(1), latency=latency, stall=stall)
        self.cycles, self.ports = None, []

    async def arithmetic(self, ctx):
        """Sum and product, each late by its latency; what goes to the array is noted."""
        dut, line = self.dut, []
        units = [(NormalAdd.LATENCY, dut.sum, fadd), (FloatMul.LATENCY, dut.product, fmul)]
        while True:
            _, _, a, b, port, go, result = await ctx.tick().sample(
                dut.a, dut.number_b, dut.port, dut.go, dut.result)
            line.append((a, b))
            for latency, output, function in units:
                if len(line) >= latency:
                    ctx.set(output, function(*line[-latency])[0])
            if go and port >= Port.BANK:
                self.ports.append((Port(port), result))

    async def order(self, ctx):
        """No access before memory has acknowledged what was written."""
        dut, written = self.dut, 0
        while True:
            _, _, reads, writes, acks = await ctx.tick().sample(
                dut.read.cmd.valid, dut.write.cmd.valid & dut.write.cmd.ready, dut.write.ack)
            assert not (reads or writes) or written == 0
            written += writes - acks

    async def access(self, ctx, name, data=None):
        dut, offset = self.dut, REGISTERS.get(name, name)
        if data is not None:
            for signal, value in ((dut.awaddr, offset), (dut.wdata, data), (dut.wstrb, 15),
                                  (dut.awvalid, 1), (dut.wvalid, 1), (dut.bready, 1)):
                ctx.set(signal, value)
            await ctx.tick().until(dut.awready & dut.wready)
            ctx.set(dut.awvalid, 0)
            ctx.set(dut.wvalid, 0)
            return
        ctx.set(dut.araddr, offset)
        ctx.set(dut.arvalid, 1)
        ctx.set(dut.rready, 1)
        await ctx.tick().until(dut.arready)
        ctx.set(dut.arvalid, 0)
        [value] = await ctx.tick().sample(dut.rdata).until(dut.rvalid)
        return value

    def run(self, host):
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        over = []

        async def bench(ctx):
            await host(ctx)
            over.append(True)

        sim.add_testbench(partial(self.memory.serve_reads, port=self.dut.read), background=True)
        sim.add_testbench(partial(self.memory.serve_writes, port=self.dut.write), background=True)
        sim.add_testbench(self.arithmetic, background=True)
        sim.add_testbench(self.order, background=True)
        sim.add_testbench(bench, background=True)
        sim.add_testbench(partial(watch, done=lambda: over, limit=LIMIT))
        sim.run()
        return self


def results(fill, **options):
    """What the host finds in FETCHED, COUNT_* and ACTIVE_COMPUTE after `fill(asm, where)`."""
    asm = Assembler()
    asm.move(None, asm.state, port=Port.BEGIN)
    names = ["FETCHED", *(n for n in REGISTERS if n.startswith("COUNT_")), "ACTIVE_COMPUTE"]
    fill(asm, [asm.host(name) for name in names])
    bench, found = Bench(asm, **options), []

    async def host(ctx):
        await bench.access(ctx, "CTRL", 1)
        await ctx.tick().until(bench.dut.irq)
        for name in names:
            found.append(await bench.access(ctx, name))

    return bench.run(host), found


def test_arithmetic():
    a, b = 0x40490fdb, 0xc02df854

    def fill(asm, where):
        x, y = asm.constant(a), asm.constant(b)
        asm.add(where[0], x, y)
        asm.sub(where[1], x, y)
        asm.both(where[2], x, y)
        asm.xor(where[3], x, y)
        asm.fadd(where[4], x, y)
        asm.fmul(where[5], x, y)

    _, found = results(fill)
    assert found == [(a + b) % 2**32, (a - b) % 2**32, a & b, a ^ b, fadd(a, b)[0], fmul(a, b)[0]]


@pytest.mark.parametrize("cut, wanted", [
    (Cut.WHOLE, 0x9abc8def), (Cut.LOW, 0x8def), (Cut.HIGH, 0x9abc), (Cut.SIGNED_LOW, 0xffff8def),
    (Cut.SIGNED_HIGH, 0xffff9abc), (Cut.BYTE0, 0xef), (Cut.BYTE1, 0x8d), (Cut.BYTE2, 0xbc),
    (Cut.BYTE3, 0x9a), (Cut.NIBBLE4, 0xc), (Cut.NIBBLE5, 0xb), (Cut.NIBBLE6, 0xa),
    (Cut.NIBBLE7, 0x9)])
def test_cuts(cut, wanted):
    _, found = results(lambda asm, where: asm.move(where[0], asm.constant(0x9abc8def)[cut]))
    assert found[0] == wanted


@pytest.mark.parametrize("word, low, high, whole", [
    (0x3f80c000, 0xc0000000, 0x3f800000, 0x3f80c000), (0x00017f80, 0, 0, 0),
    (0xff800080, 0x00800000, 0, 0), (0x80000000, 0, 0, 0)])
def test_canonical_numbers(word, low, high, whole):
    def fill(asm, where):
        for register, cut in zip(where, (Cut.BF16_LOW, Cut.BF16_HIGH, Cut.FP32), strict=False):
            asm.number(register, asm.constant(word)[cut])
        asm.move(where[3], asm.state[Cut.BYTE2])

    _, found = results(fill)
    assert found[:4] == [low, high, whole, 0]


def test_flags():
    """A number of a beat that is none, and Port.OVERFLOW; BEGIN clears them."""
    def fill(asm, where):
        asm.add(None, asm.zero, asm.zero, port=Port.READ)
        asm.number(None, asm.memory[Cut.BF16_HIGH])
        asm.move(where[0], asm.state[Cut.BYTE2])
        asm.number(None, asm.memory[Cut.BF16_LOW])
        asm.move(where[1], asm.state[Cut.BYTE2])
        asm.move(None, asm.zero, port=Port.OVERFLOW)
        asm.move(where[2], asm.state[Cut.BYTE2])
        asm.move(None, asm.zero, port=Port.BEGIN)
        asm.move(where[3], asm.state[Cut.BYTE2])

    asm = Assembler()
    asm.move(None, asm.state, port=Port.BEGIN)
    where = [asm.host(name) for name in ("FETCHED", "COUNT_LOAD_A", "COUNT_LOAD_B", "COUNT_POST")]
    fill(asm, where)
    bench, found = Bench(asm), []
    bench.memory.data[:4] = (0x3f807f80).to_bytes(4, "little")

    async def host(ctx):
        await bench.access(ctx, "CTRL", 1)
        await ctx.tick().until(bench.dut.irq)
        for register in where:
            found.append(await bench.access(ctx, 4 * register.register))

    bench.run(host)
    assert found == [0, 0x40, 0xc0, 0]


@pytest.mark.parametrize("condition, taken", [
    (Condition.ZERO, [5]), (Condition.NONZERO, [4, 6, 0x80000005]),
    (Condition.CARRY, [5, 6, 0x80000005]), (Condition.NO_CARRY, [4]),
    (Condition.NEGATIVE, [4, 0x80000005]), (Condition.ALWAYS, [4, 5, 6, 0x80000005]),
    (Condition.NEVER, [])])
def test_conditions(condition, taken):
    """Of x - 5."""
    for x in (4, 5, 6, 0x80000005):
        def fill(asm, where, x=x):
            asm.sub(None, asm.constant(x), asm.constant(5), when=condition, to="over")
            asm.move(where[0], asm.constant(1))

        asm_taken = results(fill)[1][0] == 0
        # a target with NEVER is one with ALWAYS
        assert asm_taken == (x in taken or condition == Condition.NEVER)


def test_subroutine():
    def fill(asm, where):
        back = asm.register()
        for k in range(3):
            asm.call(back, "sub")
            asm.move(where[1 + k], where[0])
        asm.jump("over")
        asm.label("sub")
        asm.add(where[0], where[0], asm.constant(10))
        asm.ret(back)

    assert results(fill)[1][:4] == [30, 10, 20, 30]


@pytest.mark.parametrize("latency, stall", [(1, 0.0), (9, 0.4)])
def test_memory(latency, stall):
    """What is written is there for the next read; the beat stays for more than one word."""
    def fill(asm, where):
        asm.add(None, asm.constant(64), asm.constant(0x1234), port=Port.WRITE)
        asm.add(None, asm.constant(68), asm.constant(0x5678), port=Port.WRITE)
        asm.add(None, asm.constant(64), asm.zero, port=Port.READ)
        asm.add(where[0], asm.constant(1), asm.memory)
        asm.move(where[1], asm.memory)
        asm.add(None, asm.constant(68), asm.zero, port=Port.READ)
        asm.move(where[2], asm.memory)

    bench, found = results(fill, latency=latency, stall=stall)
    assert found[:3] == [0x1235, 0x1234, 0x5678]
    assert bench.memory.writes == [(64, 1), (68, 1)] and bench.memory.reads == [(64, 1), (68, 1)]


@pytest.mark.parametrize("latency", [1, 40])
def test_flush(latency):
    """Lasts until the acknowledgement."""
    def fill(asm, where):
        asm.add(None, asm.constant(64), asm.constant(1), port=Port.WRITE)
        asm.move(None, asm.zero, port=Port.FLUSH)
        asm.add(where[0], asm.zero, asm.constant(1))

    asm = Assembler()
    asm.move(None, asm.state, port=Port.BEGIN)
    fill(asm, [asm.host("FETCHED")])
    bench, cycles = Bench(asm, latency=latency), []

    async def host(ctx):
        await bench.access(ctx, "CTRL", 1)
        await ctx.tick().until(bench.dut.irq)
        cycles.append(await bench.access(ctx, "CYCLES"))

    bench.run(host)
    assert latency < cycles[0] < latency + 20


@pytest.mark.parametrize("cycles, fill", [
    (2, lambda asm: asm.add(None, asm.zero, asm.zero)),
    (3, lambda asm: asm.count_down(asm.register(), "on")),
    (7, lambda asm: asm.fmul(None, asm.zero, asm.zero))])
def test_cycles(cycles, fill):
    """Of ten words, by the host's register."""
    def found(code):
        asm = Assembler()
        asm.move(None, asm.state, port=Port.BEGIN)
        code(asm)
        asm.label("on")
        bench, values = Bench(asm), []

        async def host(ctx):
            await bench.access(ctx, "CTRL", 1)
            await ctx.tick().until(bench.dut.irq)
            values.append(await bench.access(ctx, "CYCLES"))

        bench.run(host)
        return values[0]

    ten = found(lambda asm: [fill(asm) for _ in range(10)])
    executed = 1 if cycles == 3 else 10  # the one with a condition goes on to the label
    assert ten - found(lambda asm: None) == executed * cycles


def test_host():
    """Writes to PROG_ADDR and TIMEOUT only, whole words; a start and a reset both go to word 0."""
    asm = Assembler()
    asm.move(None, asm.state, port=Port.BEGIN, when=Condition.NEGATIVE, to="work")
    asm.label("idle")
    asm.jump("idle")
    asm.label("work")
    asm.add(asm.host("FETCHED"), asm.host("FETCHED"), asm.constant(1))
    asm.label("busy")
    asm.jump("busy")
    dut = Processor(asm.words(), asm.registers)
    bench = Bench(Assembler())
    bench.dut = dut

    async def host(ctx):
        for name, value in (("PROG_ADDR", 0x12345678), ("TIMEOUT", 77), ("STATUS", 99)):
            await bench.access(ctx, name, value)
        assert [await bench.access(ctx, n) for n in ("PROG_ADDR", "TIMEOUT", "STATUS")] == [
            0x12345678, 77, 0]
        await bench.access(ctx, "CTRL", 1)
        await ctx.tick().repeat(20)
        assert ctx.get(dut.running) and await bench.access(ctx, "FETCHED") == 1
        await bench.access(ctx, "CTRL", 1)  # it runs already
        await ctx.tick().repeat(20)
        assert await bench.access(ctx, "FETCHED") == 1
        await bench.access(ctx, "CTRL", 2)
        await ctx.tick().repeat(20)
        assert not ctx.get(dut.running) and await bench.access(ctx, "FETCHED") == 1
        await bench.access(ctx, "CTRL", 3)
        await ctx.tick().repeat(20)
        assert ctx.get(dut.running) and await bench.access(ctx, "FETCHED") == 2

    bench.run(host)


@pytest.mark.parametrize("words, registers, message", [
    (1025, 1, "at most 1024 words, not 1025"), (1, 257, "at most 256 registers, not 257")])
def test_parameters_are_checked(words, registers, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Processor([0] * words, [0] * registers)
