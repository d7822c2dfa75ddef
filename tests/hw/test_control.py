# amaranth: UnusedElaboratable=no
"""The registers through AXI4-Lite, with random order and stalls on every channel."""

import random

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.control import REGISTERS, Control
from gradgate.hw.sequencer import TOKENS, UNITS

from tests.hw.test_counters import begin_at

CONFIG = Config(tm=8, tn=16, fmt="bf16", beat_bits=64, a_depth=512, b_depth=2048, acc_depth=256,
                max_burst=64)


class Host:
    """AXI4-Lite master; with probability `stall` a handshake is put off by a cycle."""

    def __init__(self, ctx, dut, seed=0, stall=0.0):
        print("seed", seed)
        self.ctx, self.dut, self.rng, self.stall = ctx, dut, random.Random(seed), stall

    def go(self):
        return self.rng.random() >= self.stall

    async def write(self, offset, value, strobe=15):
        """Both parts, each when it likes; then the answer."""
        ctx, dut = self.ctx, self.dut
        parts = {"aw": {"addr": offset}, "w": {"data": value, "strb": strobe}}
        answered = False
        while parts or not answered:
            for part in parts:
                if not ctx.get(getattr(dut, part + "valid")) and self.go():
                    for name, content in parts[part].items():
                        ctx.set(getattr(dut, part + name), content)
                    ctx.set(getattr(dut, part + "valid"), 1)
            ctx.set(dut.bready, self.go())
            _, _, aw, w, b, response = await ctx.tick().sample(
                dut.awvalid & dut.awready, dut.wvalid & dut.wready, dut.bvalid & dut.bready,
                dut.bresp)
            for part, done in (("aw", aw), ("w", w)):
                if done:
                    del parts[part]
                    ctx.set(getattr(dut, part + "valid"), 0)
            if b:
                assert not parts and response == 0
                answered = True
        ctx.set(dut.bready, 0)

    async def read(self, name):
        ctx, dut = self.ctx, self.dut
        offset = name if isinstance(name, int) else REGISTERS[name]
        while not self.go():
            await ctx.tick()
        ctx.set(dut.araddr, offset)
        ctx.set(dut.arvalid, 1)
        await ctx.tick().until(dut.arready)
        ctx.set(dut.arvalid, 0)
        while True:
            ctx.set(dut.rready, self.go())
            _, _, r, value, response = await ctx.tick().sample(
                dut.rvalid & dut.rready, dut.rdata, dut.rresp)
            if r:
                ctx.set(dut.rready, 0)
                assert response == 0
                return value

    async def read64(self, name):
        low = await self.read(name)
        return low | await self.read(REGISTERS[name] + 4) << 32


def simulate(body, *others, seed=0, stall=0.0, limit=3000, config=CONFIG):
    dut = Control(config)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def main(ctx):
        await body(ctx, dut, Host(ctx, dut, seed, stall))

    async def watchdog(ctx):
        for _ in range(limit):
            await ctx.tick()
        raise AssertionError(f"no end after {limit} cycles")

    sim.add_testbench(main)
    sim.add_testbench(watchdog, background=True)
    for other in others:
        async def background(ctx, other=other):
            await other(ctx, dut)
        sim.add_testbench(background, background=True)
    sim.run()


def test_constants():
    async def body(ctx, dut, host):
        assert await host.read("ID") == int.from_bytes(b"GGAT", "big")
        assert await host.read("VERSION") == 1
        assert await host.read("CONFIG0") == 8 | 16 << 8 | 0 << 16 | 3 << 20 | 6 << 24
        assert await host.read("CONFIG1") == 9 | 11 << 8 | 8 << 16
        assert await host.read(0xb8) == 0
    simulate(body)


@pytest.mark.parametrize("seed", range(3))
def test_writes_in_any_order(seed):
    """What is written is read again; strobes choose bytes."""
    async def body(ctx, dut, host):
        expected = {"PROG_ADDR": 0, "TIMEOUT": 0}
        for _ in range(30):
            name = host.rng.choice(sorted(expected))
            value, strobe = host.rng.getrandbits(32), host.rng.choice([15, host.rng.randrange(16)])
            await host.write(REGISTERS[name], value, strobe)
            mask = sum(255 << 8 * k for k in range(4) if strobe >> k & 1)
            expected[name] = expected[name] & ~mask | value & mask
            for register, content in expected.items():
                assert await host.read(register) == content
        assert ctx.get(dut.core.address) == expected["PROG_ADDR"]
        assert ctx.get(dut.core.timeout) == expected["TIMEOUT"]
        await host.write(REGISTERS["ID"], 0)  # read-only
        assert await host.read("ID") == int.from_bytes(b"GGAT", "big")
    simulate(body, seed=seed, stall=0.5)


@pytest.mark.parametrize("first", ["aw", "w"])
def test_either_part_first(first):
    async def body(ctx, dut, host):
        ctx.set(dut.bready, 1)
        ctx.set(dut.awaddr, REGISTERS["TIMEOUT"])
        ctx.set(dut.wdata, 0x12345678)
        ctx.set(dut.wstrb, 15)
        for part in (first, "w" if first == "aw" else "aw"):
            assert not ctx.get(dut.bvalid)
            ctx.set(getattr(dut, part + "valid"), 1)
            await ctx.tick().until(getattr(dut, part + "ready"))
            ctx.set(getattr(dut, part + "valid"), 0)
            await ctx.tick().repeat(5) if part == first else None
        await ctx.tick()
        assert ctx.get(dut.bvalid)
        assert await host.read("TIMEOUT") == 0x12345678
    simulate(body)


def test_control_pulses():
    """One cycle each, and only for a write to CTRL whose low byte is enabled."""
    seen = []

    async def pulses(ctx, dut):
        while True:
            _, _, start, reset = await ctx.tick().sample(dut.core.start, dut.core.reset)
            if start or reset:
                seen.append((start, reset))

    async def body(ctx, dut, host):
        for value in (1, 2, 3, 0, 0xfffffffc):
            await host.write(REGISTERS["CTRL"], value)
        await host.write(REGISTERS["CTRL"], 3, strobe=14)
        await host.write(REGISTERS["TIMEOUT"], 3)
        assert await host.read("CTRL") == 0
        await ctx.tick().repeat(5)

    simulate(body, pulses, stall=0.3)
    assert seen == [(1, 0), (0, 1), (1, 1)]


def test_status_and_interrupt():
    async def body(ctx, dut, host):
        status = dut.core.status
        bits = [status.busy, status.done, status.errors.timeout, status.errors.token_overflow,
                status.errors.unknown_unit, status.errors.bus_error, status.nonfinite,
                status.overflow, status.tokens_left]
        for k, bit in enumerate(bits):
            ctx.set(bit, 1)
            assert await host.read("STATUS") == 1 << k
            assert ctx.get(dut.irq) == (k in (1, 2, 3, 4, 5))
            if k in (1, 2, 3, 4, 5):
                ctx.set(status.busy, 1)  # a start takes it back at once
                assert not ctx.get(dut.irq)
                ctx.set(status.busy, 0)
            ctx.set(bit, 0)
    simulate(body)


def test_state_and_tokens():
    async def body(ctx, dut, host):
        core = dut.core
        for _ in range(5):
            values = {name: host.rng.randrange(16) for name in ("executing", "waiting", "empty")}
            for name, value in values.items():
                ctx.set(getattr(core, name), value)
            tokens = [host.rng.choice([0, 3, 15, 16, 255]) for _ in TOKENS]
            for k, value in enumerate(tokens):
                ctx.set(core.tokens[k], value)
            state = await host.read("STATE")
            for u in UNITS:
                byte = state >> 8 * u & 255
                assert byte == sum((values[name] >> u & 1) << k
                                   for k, name in enumerate(("executing", "waiting", "empty")))
            shown = await host.read("TOKENS0") | await host.read("TOKENS1") << 24
            assert [shown >> 4 * k & 15 for k in range(12)] == [min(t, 15) for t in tokens]
    simulate(body)


@pytest.mark.parametrize("read_ports, write_ports, bits", [(3, 1, 1 << 28), (1, 2, 1 << 29),
                                                           (3, 2, 3 << 28)])
def test_memory_ports_are_shown(read_ports, write_ports, bits):
    async def body(ctx, dut, host):
        assert await host.read("CONFIG0") == 2 | 4 << 8 | 1 << 16 | 2 << 20 | 0 << 24 | bits
    simulate(body, config=Config(tm=2, tn=4, fmt="fp32", beat_bits=32, max_burst=1,
                                 read_ports=read_ports, write_ports=write_ports))


def test_counters():
    """Each counts its own event, only while a program runs, until cleared."""
    events = {"FETCHED": "fetched", "READ_BEATS": "read_beats", "WRITE_BEATS": "write_beats"}
    by_unit = {"COUNT": "done", "BUSY": "executing", "STARVED": "waiting", "ACTIVE": "active"}

    async def body(ctx, dut, host):
        core = dut.core
        expected = dict.fromkeys([*events, *(f"{n}_{u.name}" for n in by_unit for u in UNITS),
                                  "CYCLES"], 0)
        for _ in range(100):
            running = host.rng.random() < 0.7
            ctx.set(core.running, running)
            expected["CYCLES"] += running
            for name, member in events.items():
                value = host.rng.randrange(1 << len(getattr(core, member)))
                ctx.set(getattr(core, member), value)
                expected[name] += running and value
            for name, member in by_unit.items():
                value = host.rng.randrange(16)
                ctx.set(getattr(core, member), value)
                for u in UNITS:
                    expected[f"{name}_{u.name}"] += running and value >> u & 1
            await ctx.tick()
        ctx.set(core.running, 0)
        assert len(set(expected.values())) > 10
        for name, value in expected.items():
            wide = not name.startswith(("FETCHED", "COUNT"))
            assert await (host.read64(name) if wide else host.read(name)) == value, name
        ctx.set(core.clear, 1)
        await ctx.tick()
        ctx.set(core.clear, 0)
        for name in expected:
            assert await host.read(name) == 0
    simulate(body)


@pytest.mark.parametrize("before", range(1, 72))
def test_counters_beyond_32_bits(monkeypatch, before):
    """The high half is that of the moment when the low half was read: the carry comes before,
    between, and after the two reads."""
    start = (1 << 32) - before
    begin_at(monkeypatch, start)

    async def body(ctx, dut, host):
        ctx.set(dut.core.running, 1)
        assert start < await host.read64("CYCLES") < start + 40
        assert await host.read64("ACTIVE_POST") == start
        low = await host.read("CYCLES")
        assert await host.read("COUNT_POST") == start  # 32 bits: keeps no high half
        high = await host.read(REGISTERS["CYCLES"] + 4)
        assert start + 40 < low | high << 32 < start + 120
    simulate(body)


def test_counters_while_they_count():
    """Whenever they are asked for, between the counts at the question and at the answer."""
    async def body(ctx, dut, host):
        now, latencies = 0, set()
        ctx.set(dut.core.running, 1)
        ctx.set(dut.rready, 1)
        for pause in range(25):
            await ctx.tick().repeat(pause) if pause else None
            now += pause
            ctx.set(dut.araddr, REGISTERS["CYCLES"])
            ctx.set(dut.arvalid, 1)
            asked = None
            while True:
                _, _, taken, answered, value = await ctx.tick().sample(
                    dut.arready & dut.arvalid, dut.rvalid & dut.rready, dut.rdata)
                now += 1
                if taken:
                    asked = now
                    ctx.set(dut.arvalid, 0)
                if answered:
                    break
            latencies.add(now - asked)
            assert asked <= value <= now
        assert len(latencies) > 15 and max(latencies) <= 25

    simulate(body)


def test_type_of_config():
    with pytest.raises(TypeError, match="^config must be a Config, not None$"):
        Control(None)
