# amaranth: UnusedElaboratable=no
"""hw/arbiter.py: every initiator has its own beats and acknowledgements; turns, rate, latency."""

import random
from collections import deque
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.arbiter import ReadArbiter, WriteArbiter
from gradgate.hw.config import Config

from tests.hw.memory import Memory, collect, feed, watch


def random_bursts(config, rng, number):
    """Bursts that keep the rules: inside an aligned block of max_burst beats."""
    bursts = []
    for _ in range(number):
        low = rng.choice([0, rng.randrange(config.max_burst)])
        length = rng.choice([1, config.max_burst - low, rng.randint(1, config.max_burst - low)])
        block = rng.randrange((1 << 16) // config.beat_bytes // config.max_burst)
        bursts.append(((block * config.max_burst + low) * config.beat_bytes, length))
    return bursts


def run(config, bursts, seed, latency=1, stall=0.0, limit=20000):
    """Each initiator k asks for bursts[k]: (memory, beats of each, their cycles)."""
    rng = random.Random(seed)
    memory = Memory(config, rng, latency=latency, stall=stall)
    dut = ReadArbiter(config, len(bursts))
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    beats, stamps = [[] for _ in bursts], [[] for _ in bursts]
    wanted = [sum(length for _, length in mine) for mine in bursts]

    async def wait(ctx):
        await watch(ctx, lambda: [len(mine) for mine in beats] == wanted, limit)
        await ctx.tick().repeat(20)

    sim.add_testbench(partial(memory.serve_reads, port=dut.port), background=True)
    for k, mine in enumerate(bursts):
        port = dut.ports[k]
        commands = [dict(addr=address, len=length) for address, length in mine]
        sim.add_testbench(partial(feed, stream=port.cmd, items=commands, rng=rng, stall=stall))
        sim.add_testbench(partial(collect, stream=port.data, items=beats[k], rng=rng, stall=stall,
                                  stamps=stamps[k]), background=True)
    sim.add_testbench(wait)
    sim.run()
    assert beats == [[memory.beat(address + i * config.beat_bytes)
                      for address, length in mine for i in range(length)] for mine in bursts]
    return memory, stamps


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("latency, stall", [(1, 0.0), (1, 0.4), (25, 0.2)])
def test_random(count, latency, stall):
    config = Config(max_burst=8)
    seed = 100 * count + latency
    print("seed", seed)
    rng = random.Random(seed)
    bursts = [random_bursts(config, rng, 30 // count + k) for k in range(count)]
    run(config, bursts, seed, latency, stall)


@pytest.mark.parametrize("beat_bits", [32, 128])
def test_widths(beat_bits):
    config = Config(tm=4, fmt="fp32", beat_bits=beat_bits, max_burst=16)
    rng = random.Random(beat_bits)
    run(config, [random_bursts(config, rng, 8) for _ in range(3)], beat_bits, 3, 0.2)


def test_takes_turns():
    """Initiators that always ask are served one after the other."""
    config = Config(max_burst=8)
    bursts = [[(4096 * k + 64 * i, 8) for i in range(10)] for k in range(4)]
    memory, _ = run(config, bursts, 0)
    # the first may come before the others have asked
    order = [address // 4096 for address, _ in memory.reads]
    assert order[4:36] == [order[4 + k % 4] for k in range(32)]
    assert sorted(order[4:8]) == [0, 1, 2, 3]


@pytest.mark.parametrize("length, latency", [(1, 1), (1, 20), (8, 20)])
def test_full_rate(length, latency):
    config = Config(max_burst=8)
    bursts = [[(4096 * k + 64 * i, length) for i in range(20)] for k in range(3)]
    _, stamps = run(config, bursts, 0, latency)
    cycles = sorted(sum(stamps, []))
    assert cycles[-1] - cycles[0] == 60 * length - 1
    assert cycles[0] == 1 + latency  # offered in cycle 0, at the memory in cycle 1


def test_one_initiator_alone_gets_everything():
    config = Config(max_burst=8)
    _, stamps = run(config, [[], [(64 * i, 8) for i in range(20)], []], 0, 10)
    assert stamps[1][-1] - stamps[1][0] == 159


class Writer:
    """Writes `bursts`; offers the beats of a burst from the cycle after its command was taken.

    `acks` are the cycles of its acknowledgements, `last` those of the last beats of its bursts.
    """

    def __init__(self, config, port, bursts, rng, stall):
        self.config, self.port, self.rng, self.stall = config, port, rng, stall
        self.bursts, self.acks, self.last, self.done = deque(bursts), [], [], 0
        self.wanted, self.memory = len(bursts), {}

    def go(self):
        return self.rng.random() >= self.stall

    async def run(self, ctx):
        cmd, data, port = self.port.cmd, self.port.data, self.port
        beats, now = deque(), 0
        while True:
            if self.bursts and not ctx.get(cmd.valid) and self.go():
                address, length = self.bursts[0]
                ctx.set(cmd.payload, {"addr": address, "len": length})
                ctx.set(cmd.valid, 1)
            if beats and not ctx.get(data.valid) and self.go():
                ctx.set(data.payload, beats[0][0])
                ctx.set(data.valid, 1)
            _, _, do_cmd, do_beat, ack = await ctx.tick().sample(
                cmd.valid & cmd.ready, data.valid & data.ready, port.ack)
            if do_beat:
                if beats.popleft()[1]:
                    self.last.append(now)
                ctx.set(data.valid, 0)
            if do_cmd:
                address, length = self.bursts.popleft()
                for i in range(length):
                    value = self.rng.getrandbits(self.config.beat_bits)
                    self.memory[address + i * self.config.beat_bytes] = value
                    beats.append((value, i == length - 1))
                ctx.set(cmd.valid, 0)
            if ack:
                self.acks.append(now)
                assert len(self.acks) <= len(self.last)
                assert now > self.last[len(self.acks) - 1]
            now += 1

    @property
    def finished(self):
        return len(self.acks) == self.wanted


def write(config, bursts, seed, latency=1, stall=0.0, limit=20000):
    """Each initiator k writes bursts[k]: (memory, writers). Each has addresses of its own."""
    rng = random.Random(seed)
    memory = Memory(config, rng, latency=latency, stall=stall)
    before = bytes(memory.data)
    dut = WriteArbiter(config, len(bursts))
    writers = [Writer(config, dut.ports[k], mine, rng, stall) for k, mine in enumerate(bursts)]
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def wait(ctx):
        await watch(ctx, lambda: all(writer.finished for writer in writers), limit)
        await ctx.tick().repeat(20)

    async def in_time(ctx):
        """A beat is offered only after the command of its burst has been taken."""
        cmd, data, announced = dut.port.cmd, dut.port.data, 0
        while True:
            _, _, do_cmd, length, offered, do_beat = await ctx.tick().sample(
                cmd.valid & cmd.ready, cmd.payload.len, data.valid, data.valid & data.ready)
            assert announced or not offered
            announced += (length if do_cmd else 0) - do_beat

    sim.add_testbench(partial(memory.serve_writes, port=dut.port), background=True)
    sim.add_testbench(in_time, background=True)
    for writer in writers:
        sim.add_testbench(writer.run, background=True)
    sim.add_testbench(wait)
    sim.run()
    assert all(writer.finished for writer in writers)  # and no acknowledgement too many
    expected = bytearray(before)
    for writer in writers:
        for address, value in writer.memory.items():
            expected[address:address + config.beat_bytes] = value.to_bytes(
                config.beat_bytes, "little")
    assert memory.data == expected
    return memory, writers


def apart(config, rng, count, number):
    """Random bursts for each of `count` initiators, in address ranges of their own."""
    bursts = [[] for _ in range(count)]
    for address, length in random_bursts(config, rng, number):
        owner = rng.randrange(count)
        bursts[owner].append((address % (1 << 13) + (owner << 13), length))
    return bursts


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("latency, stall", [(1, 0.0), (1, 0.4), (25, 0.2)])
def test_random_writes(count, latency, stall):
    config = Config(max_burst=8)
    seed = 100 * count + latency
    print("seed", seed)
    rng = random.Random(seed)
    write(config, apart(config, rng, count, 40), seed, latency, stall)


@pytest.mark.parametrize("beat_bits", [32, 128])
def test_widths_of_writes(beat_bits):
    config = Config(tm=4, fmt="fp32", beat_bits=beat_bits, max_burst=16)
    write(config, apart(config, random.Random(beat_bits), 3, 24), beat_bits, 3, 0.2)


def test_writers_take_turns():
    config = Config(max_burst=8)
    bursts = [[(4096 * k + 64 * i, 8) for i in range(10)] for k in range(3)]
    memory, _ = write(config, bursts, 0)
    order = [address // 4096 for address, _ in memory.writes]
    assert order[3:27] == [order[3 + k % 3] for k in range(24)]
    assert sorted(order[3:6]) == [0, 1, 2]


@pytest.mark.parametrize("length, latency", [(1, 1), (1, 20), (8, 20)])
def test_writes_at_full_rate(length, latency):
    """Also with more bursts waiting for their acknowledgement than one initiator has."""
    config = Config(max_burst=8)
    bursts = [[(4096 * k + 64 * i, length) for i in range(30)] for k in range(2)]
    memory, writers = write(config, bursts, 0, latency)
    last = [cycle for writer in writers for cycle in writer.last]
    # the benches make a pause of a cycle between bursts, hidden by the other one
    assert max(last) - min(last) <= 60 * length - length + 2
    assert memory.in_flight <= WriteArbiter.OUTSTANDING


def test_outstanding_writes_are_limited():
    config = Config(max_burst=8)
    bursts = [[(4096 * k + 8 * i, 1) for i in range(40)] for k in range(2)]
    memory, _ = write(config, bursts, 0, latency=200)
    assert memory.in_flight == WriteArbiter.OUTSTANDING


@pytest.mark.parametrize("arbiter", [ReadArbiter, WriteArbiter])
@pytest.mark.parametrize("config, count, error, message", [
    (64, 2, TypeError, r"^config must be a Config, not 64$"),
    (Config(), 2.0, TypeError, r"^count must be an integer, not 2\.0$"),
    (Config(), 0, ValueError, r"^count must be at least 1, not 0$"),
])
def test_rejects(arbiter, config, count, error, message):
    with pytest.raises(error, match=message):
        arbiter(config, count)
