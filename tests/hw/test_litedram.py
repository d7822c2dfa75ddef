# amaranth: UnusedElaboratable=no
"""hw/litedram.py against a native port: LiteDRAM's promises, and none more."""

import random
from collections import deque
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.litedram import LiteDRAMPort

from tests.hw.memory import collect, feed, stands, watch

SIZE = 1 << 14
BITS = 13  # of the address of a word of 16 bits
CONFIGS = {32: Config(beat_bits=32, max_burst=16), 64: Config(max_burst=64),
           128: Config(tm=4, fmt="fp32", beat_bits=128, max_burst=8)}


class Native:
    """A memory at a native port, as large as its addresses say.

    Commands wait in a queue of 9 and are executed in order, one per cycle at most. The word of a
    write is taken 2 cycles after that, there or not, and that of a read comes 5 cycles after.
    """

    def __init__(self, dut, rng, size, word_bytes, stall=0.0, begin=0):
        self.dut, self.rng, self.stall, self.begin = dut, rng, stall, begin
        self.bytes = word_bytes
        self.data = bytearray(rng.randbytes(size))
        self.commands = []  # (cycle, write, address of the word)

    async def serve(self, ctx):
        dut, now = self.dut, 0
        waiting, pipe = deque(), deque([None] * 5)
        while True:
            ctx.set(dut.cmd_ready, now >= self.begin and len(waiting) < 9
                    and self.rng.random() >= self.stall)
            run = waiting and self.rng.random() >= self.stall
            pipe.append(waiting.popleft() if run else None)
            taken, given = pipe[-3], pipe.popleft()
            writes, reads = taken is not None and taken[0], given is not None and not given[0]
            ctx.set(dut.wdata_ready, writes)
            ctx.set(dut.rdata_valid, reads)
            word = self.data[given[1]:given[1] + self.bytes] if reads else self.rng.randbytes(
                self.bytes)
            ctx.set(dut.rdata_data, int.from_bytes(word, "little"))
            _, _, do_cmd, write, address, here, strobes, value, ready = await ctx.tick().sample(
                dut.cmd_valid & dut.cmd_ready, dut.cmd_we, dut.cmd_addr,
                dut.wdata_valid, dut.wdata_we, dut.wdata_data, dut.rdata_ready)
            assert ready
            assert here or not writes
            if writes and strobes:
                assert strobes == (1 << self.bytes) - 1
                self.data[taken[1]:taken[1] + self.bytes] = value.to_bytes(self.bytes, "little")
            if do_cmd:
                waiting.append((write, address * self.bytes))
                self.commands.append((now, write, address))
            now += 1


def random_bursts(config, rng, number, low, high):
    """Bursts between the addresses `low` and `high`."""
    width = config.beat_bytes
    bursts = []
    for _ in range(number):
        address = rng.randrange(low, high, width)
        room = min(config.max_burst, (high - address) // width)
        bursts.append((address, rng.choice([1, room, rng.randint(1, room)])))
    return bursts


def run(config, reads, writes, seed, word_bits=16, stall=0.0, begin=0, slow=None, late=None,
        limit=30000):
    """Do both lists of bursts at once and compare: (native port, lists of cycles by event, those
    of beats read). `stall` is that of everybody, `slow` of the reader, `late` of who has
    the beats to be written."""
    rng = random.Random(seed)
    dut = LiteDRAMPort(config, word_bits=word_bits, addr_bits=BITS + 16 // word_bits - 1)
    native = Native(dut, rng, SIZE, word_bits // 8, stall, begin)
    width = config.beat_bytes
    wanted = [int.from_bytes(native.data[address % SIZE + i * width:][:width], "little")
              for address, length in reads for i in range(length)]
    expected = bytearray(native.data)
    values = [[rng.getrandbits(config.beat_bits) for _ in range(length)] for _, length in writes]
    for (address, _), mine in zip(writes, values, strict=True):
        for i, value in enumerate(mine if address < SIZE else ()):
            expected[address + i * width:address + (i + 1) * width] = value.to_bytes(
                width, "little")
    beats, stamps, allowed = [], [], []
    cycles = {"read": [], "write": [], "data": [], "ack": [], "error": []}

    async def commands(ctx):
        for (address, length), mine in zip(writes, values, strict=True):
            await feed(ctx, dut.write.cmd, [dict(addr=address, len=length)], rng, stall)
            allowed.extend(mine)

    async def data(ctx):
        for k in range(sum(map(len, values))):
            while len(allowed) <= k:
                await ctx.tick()
            await feed(ctx, dut.write.data, [allowed[k]], rng, stall if late is None else late)

    async def count(ctx):
        now = 0
        while True:
            _, _, *happened = await ctx.tick().sample(
                dut.read.cmd.valid & dut.read.cmd.ready, dut.write.cmd.valid & dut.write.cmd.ready,
                dut.write.data.valid & dut.write.data.ready, dut.write.ack, dut.error)
            for name, yes in zip(cycles, happened, strict=True):
                cycles[name].extend([now] * yes)
            now += 1

    async def wait(ctx):
        await watch(ctx, lambda: len(beats) == len(wanted) and len(cycles["ack"]) == len(writes),
                    limit)
        # acknowledged is written
        assert native.data == expected
        await ctx.tick().repeat(20)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(partial(stands, valid=dut.cmd_valid, ready=dut.cmd_ready,
                              payload=[dut.cmd_we, dut.cmd_addr]), background=True)
    asked = [dict(addr=address, len=length) for address, length in reads]
    sim.add_testbench(native.serve, background=True)
    sim.add_testbench(count, background=True)
    sim.add_testbench(partial(feed, stream=dut.read.cmd, items=asked, rng=rng, stall=stall))
    sim.add_testbench(partial(collect, stream=dut.read.data, items=beats, rng=rng,
                              stall=stall if slow is None else slow, stamps=stamps),
                      background=True)
    sim.add_testbench(commands)
    sim.add_testbench(data)
    sim.add_testbench(wait)
    sim.run()
    assert beats == wanted
    assert len(cycles["ack"]) == len(writes)
    assert len(cycles["error"]) == sum(address >= SIZE for address, _ in reads + writes)
    words = config.beat_bits // word_bits
    for write, bursts in enumerate((reads, writes)):
        assert [a for _, w, a in native.commands if w == write] == [
            address % SIZE // native.bytes + i for address, length in bursts
            for i in range(length * words)]
    return native, cycles, stamps


@pytest.mark.parametrize("stall", [0.0, 0.3])
@pytest.mark.parametrize("beat_bits", CONFIGS)
def test_random(beat_bits, stall):
    config = CONFIGS[beat_bits]
    print("seed", beat_bits)
    rng = random.Random(beat_bits)
    run(config, random_bursts(config, rng, 12, 0, SIZE // 2),
        random_bursts(config, rng, 12, SIZE // 2, SIZE), beat_bits, stall=stall)


def test_words_of_eight_bits():
    config = CONFIGS[32]
    rng = random.Random(0)
    run(config, random_bursts(config, rng, 8, 0, SIZE // 2),
        random_bursts(config, rng, 8, SIZE // 2, SIZE), 0, word_bits=8, stall=0.2)


@pytest.mark.parametrize("write", [0, 1])
@pytest.mark.parametrize("length", [1, 16])
def test_a_command_every_cycle(write, length):
    """Within bursts and from one to the next."""
    config = CONFIGS[64]
    bursts = [(8 * length * i, length) for i in range(64 // length)]
    native, _, _ = run(config, *((bursts, []), ([], bursts))[write], 0)
    times = [t for t, _, _ in native.commands]
    assert times == list(range(times[0], times[0] + 256))


def test_latencies():
    native, cycles, stamps = run(CONFIGS[64], [(0, 1)], [], 0)
    assert native.commands[0][0] == cycles["read"][0] + 3
    # the model executes a command in the cycle after, and a word needs 5 more
    assert stamps[0] == native.commands[-1][0] + 1 + 5 + 1
    native, cycles, _ = run(CONFIGS[64], [], [(0, 1)], 0)
    assert native.commands[0][0] == cycles["data"][0] + 3
    assert cycles["ack"][0] == native.commands[-1][0] + 1 + 3


def test_directions_take_turns():
    """When both wait, and neither waits for ever."""
    reads, writes = ([(base + 64 * i, 8) for i in range(6)] for base in (0, SIZE // 2))
    native, _, _ = run(CONFIGS[64], reads, writes, 0, begin=40)
    order = [w for _, w, _ in native.commands[::32]]
    assert order == [0, 1] * 6
    changes = sum(a[1] != b[1] for a, b in zip(native.commands, native.commands[1:], strict=False))
    assert changes == 11


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_outside_of_the_memory(stall):
    """Told, but not written; what comes before and after is right."""
    places = [0, SIZE + 64, 128, 0xfffff000, 256, 1 << 31]
    run(CONFIGS[64], [(p, 3) for p in places], [(p ^ SIZE // 2, 4) for p in places], 0,
        stall=stall)


def test_a_reader_that_is_slow():
    """What is asked for finds room, and a write does not wait for ever."""
    reads = [(512 * i, 64) for i in range(3)]
    native, cycles, _ = run(CONFIGS[64], reads, [(SIZE // 2, 4)], 0, slow=0.9)
    assert cycles["ack"][0] < native.commands[-1][0]


def test_a_writer_that_falls_behind():
    """No word is announced before its beat is here, not within a burst either."""
    run(CONFIGS[64], [], [(128 * i, 16) for i in range(4)], 0, late=0.9)


def test_a_writer_that_is_slow():
    """Reads pass a write whose beats are not here."""
    dut = LiteDRAMPort(CONFIGS[64], addr_bits=BITS)
    native = Native(dut, random.Random(0), SIZE, 2)
    asked, beats = [dict(addr=64 * i, len=8) for i in range(4)], []

    async def announce(ctx):
        await feed(ctx, dut.write.cmd, [dict(addr=SIZE // 2, len=1)], native.rng)

    async def wait(ctx):
        await ctx.tick().repeat(5)
        await feed(ctx, dut.read.cmd, asked, native.rng)
        await watch(ctx, lambda: len(beats) == 32, 200)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(native.serve, background=True)
    sim.add_testbench(partial(collect, stream=dut.read.data, items=beats, rng=native.rng),
                      background=True)
    sim.add_testbench(announce)
    sim.add_testbench(wait)
    sim.run()
    assert all(w == 0 for _, w, _ in native.commands)


def test_rejects():
    with pytest.raises(TypeError, match=r"^config must be a Config, not 8$"):
        LiteDRAMPort(8)
    with pytest.raises(ValueError, match=r"^word_bits must be a power of two of .*, not 12$"):
        LiteDRAMPort(CONFIGS[64], word_bits=12)
    with pytest.raises(ValueError, match=r"^beat_bits must be at least two words .*, not 32$"):
        LiteDRAMPort(CONFIGS[32], word_bits=32)
