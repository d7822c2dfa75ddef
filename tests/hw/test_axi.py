# amaranth: UnusedElaboratable=no
"""hw/axi.py against an AXI4 slave that checks the rules of the bus."""

import random
from collections import deque
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.axi import AXIMaster
from gradgate.hw.config import Config

from tests.hw.memory import collect, feed, stands, watch

SIZE = 1 << 14
CONFIGS = {32: Config(beat_bits=32, max_burst=16), 64: Config(max_burst=256),
           128: Config(tm=4, fmt="fp32", beat_bits=128, max_burst=8)}


class Slave:
    """An AXI4 memory.

    `mode` says when it takes write addresses: at "any" time, only when a beat is offered or taken
    ("late"), or only when it has all beats of the burst ("last"). Beats read and bursts written at
    an address in `bad` are answered with an error. No beat is taken before cycle `first_beat`.
    """

    def __init__(self, dut, config, rng, latency=1, stall=0.0, mode="any", bad=(), first_beat=0):
        self.dut, self.config, self.rng, self.first_beat = dut, config, rng, first_beat
        self.latency, self.stall, self.mode, self.bad = latency, stall, mode, bad
        self.data = bytearray(rng.randbytes(SIZE))
        self.errors, self.ahead = 0, 0

    def go(self):
        return self.rng.random() >= self.stall

    def beats(self, address, length, size, burst):
        width = self.config.beat_bytes
        assert (1 << size, burst, address % width) == (width, 1, 0)
        assert 1 <= length + 1 <= self.config.max_burst
        assert address // 4096 == (address + length * width) // 4096
        return [address + i * width for i in range(length + 1)]

    async def reads(self, ctx):
        dut, queue, now = self.dut, deque(), 0
        while True:
            ctx.set(dut.arready, self.go())
            if not ctx.get(dut.rvalid) and queue and queue[0][0] <= now and self.go():
                _, address, last = queue[0]
                beat = self.data[address:address + self.config.beat_bytes]
                ctx.set(dut.rdata, int.from_bytes(beat, "little"))
                ctx.set(dut.rresp, self.rng.choice([2, 3]) if address in self.bad else 0)
                ctx.set(dut.rlast, last)
                ctx.set(dut.rvalid, 1)
            _, _, do_ar, address, length, size, burst, ident, do_r = await ctx.tick().sample(
                dut.arvalid & dut.arready, dut.araddr, dut.arlen, dut.arsize, dut.arburst, dut.arid,
                dut.rvalid & dut.rready)
            now += 1
            if do_r:
                self.errors += queue.popleft()[1] in self.bad
                ctx.set(dut.rvalid, 0)
            if do_ar:
                assert ident == 0
                places = self.beats(address, length, size, burst)
                queue.extend((now + self.latency, a, a == places[-1]) for a in places)

    async def writes(self, ctx):
        dut, now = self.dut, 0
        bursts, beats, answers = deque(), deque(), deque()
        while True:
            ready = self.go() and {"any": True, "late": len(beats) > 0 or ctx.get(dut.wvalid),
                                   "last": any(last for _, last in beats)}[self.mode]
            ctx.set(dut.awready, ready)
            ctx.set(dut.wready, now >= self.first_beat and self.go())
            if not ctx.get(dut.bvalid) and answers and answers[0][0] <= now and self.go():
                ctx.set(dut.bresp, self.rng.choice([2, 3]) if answers[0][1] else 0)
                ctx.set(dut.bvalid, 1)
            (_, _, do_aw, address, length, size, burst, ident, do_w, beat, last, strobes,
             do_b) = await ctx.tick().sample(
                dut.awvalid & dut.awready, dut.awaddr, dut.awlen, dut.awsize, dut.awburst, dut.awid,
                dut.wvalid & dut.wready, dut.wdata, dut.wlast, dut.wstrb, dut.bvalid & dut.bready)
            now += 1
            if do_b:
                self.errors += answers.popleft()[1]
                ctx.set(dut.bvalid, 0)
            if do_w:
                assert strobes == (1 << self.config.beat_bytes) - 1
                beats.append((beat, last))
            if do_aw:
                assert ident == 0
                bursts.append(self.beats(address, length, size, burst))
                self.ahead = max(self.ahead, len(bursts))
            while bursts and len(beats) >= len(bursts[0]):
                places = bursts.popleft()
                for place in places:
                    beat, last = beats.popleft()
                    assert last == (place == places[-1])
                    self.data[place:place + self.config.beat_bytes] = beat.to_bytes(
                        self.config.beat_bytes, "little")
                answers.append((now + self.latency, places[0] in self.bad))


def random_bursts(config, rng, number, low, high):
    """Bursts between the addresses `low` and `high`, multiples of 4 KiB."""
    width = config.beat_bytes
    bursts = []
    for _ in range(number):
        address = rng.randrange(low, high, width)
        room = min(config.max_burst, (4096 - address % 4096) // width)
        bursts.append((address, rng.choice([1, room, rng.randint(1, room)])))
    return bursts


def run(config, reads, writes, seed, limit=20000, **options):
    """Do both lists of bursts at once and compare: (slave, cycles of beats, of acks, of errors)."""
    rng = random.Random(seed)
    dut = AXIMaster(config)
    slave = Slave(dut, config, rng, **options)
    width, stall = config.beat_bytes, slave.stall
    wanted = [int.from_bytes(slave.data[address + i * width:][:width], "little")
              for address, length in reads for i in range(length)]
    expected = bytearray(slave.data)
    values = [[rng.getrandbits(config.beat_bits) for _ in range(length)] for _, length in writes]
    for (address, _), mine in zip(writes, values, strict=True):
        for i, value in enumerate(mine):
            place = address + i * width
            expected[place:place + width] = value.to_bytes(width, "little")
    beats, stamps, acks, errors, taken = [], [], [], [], []

    async def commands(ctx):
        for (address, length), mine in zip(writes, values, strict=True):
            await feed(ctx, dut.write.cmd, [dict(addr=address, len=length)], rng, stall)
            taken.extend(mine)

    async def data(ctx):
        for k in range(sum(len(mine) for mine in values)):
            while len(taken) <= k:
                await ctx.tick()
            await feed(ctx, dut.write.data, [taken[k]], rng, stall)

    async def count(ctx):
        now = 0
        while True:
            _, _, ack, error = await ctx.tick().sample(dut.write.ack, dut.error)
            acks.extend([now] * ack)
            errors.extend([now] * error)
            now += 1

    async def wait(ctx):
        await watch(ctx, lambda: len(beats) == len(wanted) and len(acks) == len(writes), limit)
        await ctx.tick().repeat(20)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    for channel, names in (("ar", ("addr", "len")), ("aw", ("addr", "len")),
                           ("w", ("data", "strb", "last"))):
        sim.add_testbench(partial(stands, valid=getattr(dut, channel + "valid"),
                                  ready=getattr(dut, channel + "ready"),
                                  payload=[getattr(dut, channel + name) for name in names]),
                          background=True)
    asked = [dict(addr=address, len=length) for address, length in reads]
    sim.add_testbench(slave.reads, background=True)
    sim.add_testbench(slave.writes, background=True)
    sim.add_testbench(count, background=True)
    sim.add_testbench(partial(feed, stream=dut.read.cmd, items=asked, rng=rng, stall=stall))
    sim.add_testbench(partial(collect, stream=dut.read.data, items=beats, rng=rng, stall=stall,
                              stamps=stamps), background=True)
    sim.add_testbench(commands)
    sim.add_testbench(data)
    sim.add_testbench(wait)
    sim.run()
    assert beats == wanted
    assert slave.data == expected
    assert len(acks) == len(writes)
    return slave, stamps, acks, errors


@pytest.mark.parametrize("beat_bits", CONFIGS)
@pytest.mark.parametrize("mode", ["any", "late", "last"])
def test_random(beat_bits, mode):
    config = CONFIGS[beat_bits]
    print("seed", beat_bits)
    rng = random.Random(beat_bits)
    _, _, _, errors = run(config, random_bursts(config, rng, 12, 0, SIZE // 2),
                          random_bursts(config, rng, 12, SIZE // 2, SIZE), beat_bits,
                          latency=5, stall=0.3, mode=mode)
    assert errors == []


def test_full_rate():
    config = CONFIGS[32]
    reads = [(64 * i, 16) for i in range(12)]
    writes = [(SIZE // 2 + 64 * i, 16) for i in range(12)]
    _, stamps, acks, _ = run(config, reads, writes, 0, latency=10)
    assert stamps[-1] - stamps[0] == 191
    assert acks[-1] - acks[0] == 11 * 16


def test_single_beats_at_full_rate():
    config = CONFIGS[32]
    reads = [(64 * i, 1) for i in range(50)]
    writes = [(SIZE // 2 + 64 * i, 1) for i in range(50)]
    _, stamps, acks, _ = run(config, reads, writes, 0)
    assert stamps[-1] - stamps[0] == 49
    assert acks[-1] - acks[0] == 49


def test_addresses_far_ahead_of_beats():
    bursts = [(SIZE // 2 + 64 * i, 1 + i % 3) for i in range(40)]
    slave, _, _, _ = run(CONFIGS[32], [], bursts, 0, first_beat=150)
    assert slave.ahead == 16


def test_errors_are_reported_and_do_not_hang():
    config = CONFIGS[64]
    bursts = [(512 * i, 1 + 9 * i) for i in range(6)]
    bad = {512, 1024 + 8, 1024 + 16, 2560}
    slave, _, _, errors = run(config, bursts, [], 1, stall=0.2, bad=bad)
    assert len(errors) == slave.errors == 4
    slave, _, _, errors = run(config, [], bursts, 1, stall=0.2, bad=bad)
    assert len(errors) == slave.errors == 2


def test_rejects():
    with pytest.raises(TypeError, match=r"^config must be a Config, not 8$"):
        AXIMaster(8)
