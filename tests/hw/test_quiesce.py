# amaranth: UnusedElaboratable=no
"""The bus valve: data passes unharmed, and after `hold` the bus falls silent with nothing lost."""

import random

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.quiesce import Quiesce

from tests.hw.memory import Memory

CONFIG = Config(tm=4, tn=8, beat_bits=64, max_burst=16)


class Bench:
    """Random bursts both ways at full tilt; `hold` from cycle `hold_at` on."""

    def __init__(self, *, seed=0, stall=0.0, latency=4, hold_at=400):
        print("seed", seed)
        self.rng = random.Random(seed)
        self.stall, self.hold_at = stall, hold_at
        self.dut = Quiesce(CONFIG)
        self.memory = Memory(CONFIG, self.rng, latency=latency, stall=stall)
        self.before = bytes(self.memory.data)
        self.read, self.expected_read, self.written = [], [], {}
        self.commands = {"read": [], "write": []}  # cycles of acceptance
        self.acks = 0
        self.beats = {"read": 0, "write": 0}
        self.idle_at = None
        self.now = 0

    def go(self):
        return self.rng.random() >= self.stall

    def burst(self, half):
        length = self.rng.randrange(1, CONFIG.max_burst + 1)
        block = self.rng.randrange(256) * CONFIG.max_burst * CONFIG.beat_bytes
        return {"addr": half * 0x8000 + block, "len": length}

    async def reader(self, ctx):
        port, command = self.dut.read, None
        while True:
            room = len(self.expected_read) - len(self.read) < 4 * CONFIG.max_burst
            if command is None and room and self.go():
                command = self.burst(0)
                ctx.set(port.cmd.payload, command)
                ctx.set(port.cmd.valid, 1)
            ctx.set(port.data.ready, self.go())
            _, _, taken, beat, value = await ctx.tick().sample(
                port.cmd.valid & port.cmd.ready, port.data.valid & port.data.ready,
                port.data.payload)
            if taken:
                self.commands["read"].append(self.now)
                self.expected_read += [
                    int.from_bytes(self.before[a:a + 8], "little")
                    for a in range(command["addr"], command["addr"] + 8 * command["len"], 8)]
                ctx.set(port.cmd.valid, 0)
                command = None
            if beat:
                self.read.append(value)

    async def writer(self, ctx):
        port, command, queue = self.dut.write, None, []
        while True:
            if command is None and len(queue) < 2 * CONFIG.max_burst and self.go():
                command = self.burst(1)
                values = [self.rng.getrandbits(64) for _ in range(command["len"])]
                queue += values  # held before the command, as the port demands
                ctx.set(port.cmd.payload, command)
                ctx.set(port.cmd.valid, 1)
            if queue and not ctx.get(port.data.valid) and self.go():
                ctx.set(port.data.payload, queue[0])
                ctx.set(port.data.valid, 1)
            _, _, taken, beat, ack = await ctx.tick().sample(
                port.cmd.valid & port.cmd.ready, port.data.valid & port.data.ready, port.ack)
            if taken:
                self.commands["write"].append(self.now)
                for k, value in enumerate(values):
                    self.written[command["addr"] + 8 * k] = value
                ctx.set(port.cmd.valid, 0)
                command = None
            if beat:
                queue.pop(0)
                ctx.set(port.data.valid, 0)
            self.acks += ack

    async def main(self, ctx):
        dut = self.dut
        for cycle in range(self.hold_at + 1500):
            ctx.set(dut.hold, cycle >= self.hold_at)
            _, _, read_beat, write_beat, idle = await ctx.tick().sample(
                dut.read_beat, dut.write_beat, dut.idle)
            self.now = cycle + 1
            self.beats["read"] += read_beat
            self.beats["write"] += write_beat
            if cycle > self.hold_at:
                if idle and self.idle_at is None:
                    self.idle_at = cycle
                    self.counts = (dict(self.beats), self.acks, bytes(self.memory.data))
                assert idle or self.idle_at is None
        assert self.counts == (self.beats, self.acks, bytes(self.memory.data))

    def run(self):
        async def reads(ctx):
            await self.memory.serve_reads(ctx, self.dut.bus_read)

        async def writes(ctx):
            await self.memory.serve_writes(ctx, self.dut.bus_write)

        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        sim.add_testbench(self.main)
        for other in (reads, writes, self.reader, self.writer):
            sim.add_testbench(other, background=True)
        sim.run()
        return self


@pytest.mark.parametrize("seed, stall, latency", [(0, 0.0, 1), (1, 0.3, 20), (2, 0.6, 3)])
def test_traffic_and_silence(seed, stall, latency):
    bench = Bench(seed=seed, stall=stall, latency=latency, hold_at=300 + seed).run()
    assert bench.idle_at is not None
    for cycles in bench.commands.values():
        assert len(cycles) > 5 and max(cycles) <= bench.hold_at
    assert bench.read == bench.expected_read
    assert bench.beats == {"read": len(bench.read), "write": sum(n for _, n in bench.memory.writes)}
    assert bench.acks == len(bench.commands["write"]) == len(bench.memory.writes)
    for address, value in bench.written.items():
        assert bench.memory.beat(address) == value


def test_idle_waits_for_the_last_acknowledgement():
    bench = Bench(latency=200, hold_at=100).run()
    assert bench.idle_at >= max(bench.commands["write"]) + 200


def test_throughput():
    """Full rate: as many beats as cycles, but for the start and the gap of a command."""
    bench = Bench(latency=1, hold_at=1000).run()
    assert bench.beats["read"] > 900


def test_type_of_config():
    with pytest.raises(TypeError, match="^config must be a Config, not None$"):
        Quiesce(None)
