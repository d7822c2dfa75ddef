# amaranth: UnusedElaboratable=no
"""hw/dma.py: order and values of beats, shape of bursts, throughput, what is done when."""

import random
from dataclasses import replace
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.dma import Bursts, ReadDMA, WriteDMA

from tests.hw.memory import Memory, collect, feed, stands, watch

WIDTHS = {32: dict(tm=4, fmt="bf16"), 64: dict(tm=4, fmt="bf16"), 128: dict(tm=4, fmt="fp32")}


def config_of(beat_bits, max_burst=8):
    return Config(tn=8, beat_bits=beat_bits, max_burst=max_burst, **WIDTHS[beat_bits])


def descriptor(base, length, n1=1, s1=0, n2=1, s2=0, n3=1, s3=0):
    return dict(base=base, len=length, n1=n1, s1=s1, n2=n2, s2=s2, n3=n3, s3=s3)


def addresses(config, d):
    """Beat addresses of a descriptor: docs/program.md, section 3."""
    return [d["base"] + i3 * d["s3"] + i2 * d["s2"] + i1 * d["s1"] + beat * config.beat_bytes
            for i3 in range(d["n3"]) for i2 in range(d["n2"]) for i1 in range(d["n1"])
            for beat in range(d["len"])]


def random_descriptor(config, rng):
    """Runs inside 64 KiB; strides of both signs, some touching; now and then an empty one."""
    size = config.beat_bytes
    length = rng.choice([1, 1, 2, 3, 7, rng.randint(1, 40)])
    counts = [rng.randint(1, 4) for _ in range(3)]
    strides = [size * rng.choice([length, -length, rng.randint(-60, 60)]) for _ in range(3)]
    extent = 8 * 60 * size * 4
    d = descriptor(rng.randrange(extent, (1 << 16) - extent - 64 * size, size), length,
                   counts[0], strides[0], counts[1], strides[1], counts[2], strides[2])
    if rng.random() < 0.15:
        d[rng.choice(["len", "n1", "n2", "n3"])] = 0
    return d


def read(config, descriptors, seed=0, latency=1, stall=0.0, limit=20000):
    """Run a ReadDMA over `descriptors`: (memory, beats, their cycles)."""
    rng = random.Random(seed)
    memory = Memory(config, rng, latency=latency, stall=stall)
    dut = ReadDMA(config)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    beats, stamps = [], []
    count = sum(len(addresses(config, d)) for d in descriptors)

    async def wait(ctx):
        await watch(ctx, lambda: len(beats) >= count, limit)
        await ctx.tick().repeat(20)

    sim.add_testbench(partial(memory.serve_reads, port=dut.port, room=True), background=True)
    cmd = dut.port.cmd
    sim.add_testbench(partial(stands, valid=cmd.valid, ready=cmd.ready, payload=[cmd.payload]),
                      background=True)
    sim.add_testbench(partial(collect, stream=dut.o, items=beats, rng=rng, stall=stall,
                              stamps=stamps), background=True)
    sim.add_testbench(partial(feed, stream=dut.start, items=descriptors, rng=rng, stall=stall))
    sim.add_testbench(wait)
    sim.run()
    return memory, beats, stamps


def write(config, descriptors, seed=0, latency=1, stall=0.0, limit=20000):
    """Run a WriteDMA over `descriptors`: (memory, expected contents, cycles of `start`, `ack` and
    `done`)."""
    rng = random.Random(seed)
    memory = Memory(config, rng, latency=latency, stall=stall)
    expected = bytearray(memory.data)
    places = [[a % (1 << config.addr_bits) for a in addresses(config, d)] for d in descriptors]
    contents = []  # after each descriptor, where it writes
    beats = []
    for addrs in places:
        for address in addrs:
            beat = rng.getrandbits(config.beat_bits)
            beats.append(beat)
            expected[address:address + config.beat_bytes] = beat.to_bytes(config.beat_bytes,
                                                                          "little")
        contents.append({a: beat for a, beat in
                         zip(addrs, beats[len(beats) - len(addrs):], strict=True)})
    dut = WriteDMA(config)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    events = {"start": dut.start.valid & dut.start.ready, "ack": dut.port.ack, "done": dut.done,
              "beat": dut.i.valid & dut.i.ready, "left": dut.left}
    cycles = {name: [] for name in events}

    async def observe(ctx):
        now = 0
        while True:
            _, _, *sample = await ctx.tick().sample(*events.values())
            for name, value in zip(events, sample, strict=True):
                if value:
                    cycles[name].append(now)
            if sample[2]:
                index = len(cycles["done"]) - 1
                later = set().union(*contents[index + 1:])
                for address, beat in contents[index].items():
                    assert address in later or memory.beat(address) == beat
            now += 1

    async def wait(ctx):
        await watch(ctx, lambda: len(cycles["done"]) == len(descriptors), limit)
        await ctx.tick().repeat(20)
        assert len(cycles["done"]) == len(descriptors)
        assert len(cycles["beat"]) == len(cycles["left"]) == len(beats)

    cmd, data = dut.port.cmd, dut.port.data
    for stream in (cmd, data):
        sim.add_testbench(partial(stands, valid=stream.valid, ready=stream.ready,
                                  payload=[stream.payload]), background=True)
    sim.add_testbench(partial(memory.serve_writes, port=dut.port), background=True)
    sim.add_testbench(observe, background=True)
    sim.add_testbench(partial(feed, stream=dut.i, items=beats, rng=rng, stall=stall),
                      background=True)
    sim.add_testbench(partial(feed, stream=dut.start, items=descriptors, rng=rng, stall=stall),
                      background=True)
    sim.add_testbench(wait)
    sim.run()
    return memory, expected, cycles


@pytest.mark.parametrize("beat_bits", WIDTHS)
@pytest.mark.parametrize("max_burst", [1, 2, 8, 64])
def test_read_random(beat_bits, max_burst):
    config = config_of(beat_bits, max_burst)
    seed = beat_bits + max_burst
    print("seed", seed)
    rng = random.Random(seed)
    descriptors = [random_descriptor(config, rng) for _ in range(8)]
    memory, beats, _ = read(config, descriptors, seed, latency=7, stall=0.3)
    assert beats == [memory.beat(a) for d in descriptors for a in addresses(config, d)]


@pytest.mark.parametrize("beat_bits", WIDTHS)
@pytest.mark.parametrize("max_burst", [1, 2, 8, 64])
def test_write_random(beat_bits, max_burst):
    config = config_of(beat_bits, max_burst)
    seed = beat_bits + max_burst + 1
    print("seed", seed)
    rng = random.Random(seed)
    descriptors = [random_descriptor(config, rng) for _ in range(8)]
    memory, expected, _ = write(config, descriptors, seed, latency=7, stall=0.3)
    assert memory.data == expected


@pytest.mark.parametrize("max_burst", [1, 8, 64])
def test_addresses_wrap(max_burst):
    """Bases, strides of both signs and ends of runs beyond a memory of 64 KiB."""
    config = replace(config_of(64, max_burst), addr_bits=16)
    print("seed", max_burst)
    rng = random.Random(max_burst)
    descriptors = [descriptor((1 << 16) - 24, 7), descriptor(16, 2, n1=9, s1=-16),
                   descriptor((1 << 32) - 16, 4, n1=3, s1=-(1 << 31), n2=2, s2=(1 << 31) - 8)]
    for _ in range(6):
        d = random_descriptor(config, rng)
        descriptors.append(d | {name: d[name] + (rng.randrange(-1 << 14, 1 << 14) << 16)
                                for name in ("s1", "s2", "s3")}
                           | {"base": rng.randrange(0, 1 << 32, 8)})
    memory, beats, _ = read(config, descriptors, stall=0.2)
    assert beats == [memory.beat(a % (1 << 16)) for d in descriptors for a in addresses(config, d)]
    assert memory.reads[:2] == [((1 << 16) - 24, 3), (0, 4)] or max_burst < 4
    memory, expected, _ = write(config, descriptors[:3], max_burst)
    assert memory.data == expected


@pytest.mark.parametrize("max_burst", [4, 64])
def test_ends_of_runs_and_of_bursts(max_burst):
    """Runs of all lengths from all places of a block: as few bursts as there can be."""
    config = config_of(64, max_burst)
    places = [0, 1, max_burst // 2, max_burst - 1]
    lengths = sorted({1, 2, *(k * max_burst + d for k in (1, 2, 3) for d in (-1, 0, 1))})
    descriptors = [descriptor(4096 * (1 + n % 12) + 8 * place, length) for n, (place, length) in
                   enumerate((place, length) for place in places for length in lengths)]
    memory, beats, _ = read(config, descriptors, limit=50000)
    assert beats == [memory.beat(a) for d in descriptors for a in addresses(config, d)]
    bursts = []
    for d in descriptors:
        at, end = d["base"] // 8, d["base"] // 8 + d["len"]
        while at < end:
            stop = min(end, (at // max_burst + 1) * max_burst)
            bursts.append((8 * at, stop - at))
            at = stop
    assert memory.reads == bursts


@pytest.mark.parametrize("field", ["len", "n1", "n2", "n3"])
def test_empty(field):
    config = config_of(64)
    descriptors = [descriptor(0, 3, n1=2, s1=64) | {field: 0}, descriptor(256, 2)]
    memory, beats, _ = read(config, descriptors)
    assert beats == [memory.beat(256), memory.beat(264)]
    memory, expected, _ = write(config, descriptors)
    assert memory.data == expected
    memory, expected, cycles = write(config, descriptors[:1])
    assert (memory.writes, cycles["start"], cycles["done"]) == ([], [1], [2])


def test_bursts_are_aligned():
    config = config_of(64, max_burst=64)
    memory, _, _ = read(config, [descriptor(4096 - 3 * 8, 200)])
    assert memory.reads == [(4096 - 24, 3), (4096, 64), (4608, 64), (5120, 64), (5632, 5)]


def test_touching_runs_share_bursts():
    config = config_of(64, max_burst=8)
    memory, _, _ = read(config, [descriptor(0, 3, n1=7, s1=24, n2=2, s2=24 * 7)])
    assert memory.reads == [(64 * i, 8) for i in range(5)] + [(320, 2)]
    memory, _, _ = read(config, [descriptor(0, 3, n1=3, s1=-24)] * 0 + [
        descriptor(80, 1, n1=3, s1=-8), descriptor(88, 1)])
    assert memory.reads == [(80, 1), (72, 1), (64, 1), (88, 1)]


def test_bursts_stand_until_taken():
    """Descriptors that touch, and a slow taker: a burst on offer grows no more."""
    config = config_of(64, max_burst=8)
    rng = random.Random(0)
    dut = Bursts(config)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    bursts = []

    async def wait(ctx):
        await watch(ctx, lambda: len(bursts) >= 20, 1000)
        await ctx.tick().repeat(20)
        assert [(b.addr, b.len) for b in bursts] == [(16 * i, 2) for i in range(20)]
        assert not ctx.get(dut.busy)

    descriptors = [descriptor(16 * i, 2) for i in range(20)]
    sim.add_testbench(partial(stands, valid=dut.o.valid, ready=dut.o.ready,
                              payload=[dut.o.payload]), background=True)
    sim.add_testbench(partial(feed, stream=dut.start, items=descriptors, rng=rng))
    sim.add_testbench(partial(collect, stream=dut.o, items=bursts, rng=rng, stall=0.8),
                      background=True)
    sim.add_testbench(wait)
    sim.run()


def test_read_asks_only_for_what_it_has_room_for():
    """A consumer that takes nothing: as many bursts as fit with one of full length to spare."""
    config = config_of(64, max_burst=32)
    rng = random.Random(0)
    memory = Memory(config, rng)
    dut = ReadDMA(config)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def start(ctx):
        await feed(ctx, dut.start, [descriptor(4096 - 24, 500)], rng)
        await ctx.tick().repeat(200)
        assert memory.reads == [(4096 - 24, 3), (4096, 32)]
        for _ in range(3):
            ctx.set(dut.o.ready, 1)
            await ctx.tick()
        ctx.set(dut.o.ready, 0)
        await ctx.tick().repeat(20)
        assert memory.reads == [(4096 - 24, 3), (4096, 32), (4096 + 256, 32)]

    sim.add_testbench(partial(memory.serve_reads, port=dut.port, room=True), background=True)
    sim.add_testbench(start)
    sim.run()


def test_write_limits_bursts_in_flight():
    config = config_of(64)
    memory, expected, cycles = write(config, [descriptor(0, 1, n1=100, s1=72)], latency=300)
    assert memory.data == expected
    assert memory.in_flight == WriteDMA.OUTSTANDING
    assert cycles["done"][0] > 2 * 300


def test_write_takes_descriptors_while_others_are_acknowledged():
    """Short ones, among them empty ones, to a memory that answers late."""
    config = config_of(64)
    descriptors = [descriptor(64 * i, 0 if i % 5 == 3 else 2) for i in range(30)]
    memory, expected, cycles = write(config, descriptors, latency=200)
    assert memory.data == expected
    in_flight = [sum(start <= at for start in cycles["start"])
                 - sum(done <= at for done in cycles["done"]) for at in range(190)]
    assert max(in_flight) >= WriteDMA.QUEUE
    assert memory.in_flight == sum(d["len"] != 0 for d in descriptors[:WriteDMA.QUEUE])


@pytest.mark.parametrize("latency", [1, 40])
def test_write_done_follows_the_last_acknowledgement(latency):
    """In the next cycle; of descriptors without bursts, when it is their turn."""
    config = config_of(64, max_burst=4)
    rng = random.Random(latency)
    descriptors = [random_descriptor(config, rng) for _ in range(12)]
    memory, _, cycles = write(config, descriptors, latency=latency)
    last, bursts = -1, 0
    for d, start, done in zip(descriptors, cycles["start"], cycles["done"], strict=True):
        count = len(addresses(config, d))
        while count:
            count -= memory.writes[bursts][1]
            bursts += 1
        acked = cycles["ack"][bursts - 1] if bursts else -1
        last = max(last + 1, acked + 1, start + 1)
        assert done == last


def test_write_room():
    """Nothing is taken by memory: beats until there is no room, no more."""
    config = config_of(64)
    dut = WriteDMA(config)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def testbench(ctx):
        ctx.set(dut.i.valid, 1)
        for _ in range(dut.room):
            *_, ready = await ctx.tick().sample(dut.i.ready)
            assert ready

    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("latency", [1, 20])
@pytest.mark.parametrize("name, descriptors", [
    ("long", [descriptor(0, 300)]),
    ("touching", [descriptor(0, 1, n1=300, s1=8)]),
    ("scattered beats", [descriptor(0, 1, n1=300, s1=72)]),
    ("many", [descriptor(1024 * i, 30) for i in range(10)]),
])
def test_read_full_rate(name, descriptors, latency):
    _, beats, stamps = read(config_of(64, 32), descriptors, latency=latency)
    assert len(beats) == 300
    # one start, then a beat per cycle: Bursts, the command register, the memory, the FIFO
    assert stamps[-1] - stamps[0] <= 299 + (len(descriptors) > 1)
    assert stamps[0] <= 10 + latency + 32 * (name == "touching")


@pytest.mark.parametrize("name, descriptors", [
    ("long", [descriptor(0, 300)]),
    ("touching", [descriptor(0, 1, n1=300, s1=8)]),
    ("scattered beats", [descriptor(0, 1, n1=300, s1=72)]),
])
def test_write_full_rate(name, descriptors):
    memory, expected, cycles = write(config_of(64, 32), descriptors, latency=5)
    assert memory.data == expected
    assert cycles["done"][0] <= 300 + 32 + 5 + 8


def test_rejects():
    for block in (Bursts, ReadDMA, WriteDMA):
        with pytest.raises(TypeError, match=r"^config must be a Config, not 64$"):
            block(64)
