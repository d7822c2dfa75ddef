# amaranth: UnusedElaboratable=no
"""hw/spram.py: bursts read and written at once, their cycles, and the primitive's pins."""

import random
import re

import pytest
from amaranth.back import verilog
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.spram import SPRAM

from tests.hw.memory import collect, feed, watch

CONFIGS = {32: Config(tm=2, tn=4, beat_bits=32, max_burst=64),
           64: Config(tm=4, tn=4, beat_bits=64, max_burst=16)}


class Bench:
    """Bursts `writes`, (address, beats), and `reads`, (address, length), at the same time.

    `got` are the beats read, `stamps` their cycles; `asked` and `told` the cycles in which reads
    were taken, commands refused as errors; `acks` those of acknowledgements.
    """

    def __init__(self, dut, seed=0, stall=0.0):
        print("seed", seed)
        self.dut, self.rng, self.stall = dut, random.Random(seed), stall
        self.sim = Simulator(dut)
        self.sim.add_clock(1e-6)
        self.got, self.stamps, self.asked, self.acks, self.told = [], [], [], [], []
        self.begun, self.written, self.now, self.phases = 0, [], 0, []
        for bench in (self._monitor, self._sink):
            self.sim.add_testbench(bench, background=True)

    async def _monitor(self, ctx):
        read, write = self.dut.read, self.dut.write
        while True:
            _, _, asked, begun, beat, ack, error = await ctx.tick().sample(
                read.cmd.valid & read.cmd.ready, write.cmd.valid & write.cmd.ready,
                write.data.valid & write.data.ready, write.ack, self.dut.error)
            self.begun += begun
            for happens, stamps in ((asked, self.asked), (ack, self.acks), (error, self.told),
                                    (beat, self.written)):
                if happens:
                    stamps.append(self.now)
            self.now += 1

    async def _sink(self, ctx):
        await collect(ctx, self.dut.read.data, self.got, self.rng, self.stall, self.stamps)

    def run(self, *phases):
        """Each phase is (writes, reads) and begins when the one before is over."""
        writes, reads = zip(*phases, strict=True)
        ends = [(sum(map(len, writes[:k])), sum(n for rs in reads[:k] for _, n in rs))
                for k in range(len(phases) + 1)]

        async def begin(ctx, k):
            await watch(ctx, lambda: (len(self.acks), len(self.got)) == ends[k], 20000)

        async def write_commands(ctx):
            for k, bursts in enumerate(writes):
                await begin(ctx, k)
                await feed(ctx, self.dut.write.cmd, [
                    {"addr": address, "len": len(beats)} for address, beats in bursts], self.rng,
                    self.stall)

        async def write_beats(ctx):
            for number, (_, beats) in enumerate(burst for bursts in writes for burst in bursts):
                await watch(ctx, lambda n=number: self.begun > n, 20000)
                await feed(ctx, self.dut.write.data, beats, self.rng, self.stall)

        async def read_commands(ctx):
            for k, bursts in enumerate(reads):
                await begin(ctx, k)
                await feed(ctx, self.dut.read.cmd, [{"addr": a, "len": n} for a, n in bursts],
                           self.rng, self.stall)

        async def main(ctx):
            await begin(ctx, len(phases))
            for _ in range(20):
                await ctx.tick()

        for bench in (write_commands, write_beats, read_commands):
            self.sim.add_testbench(bench, background=True)
        self.sim.add_testbench(main)
        self.sim.run()
        return self


def bursts(config, rng, count, low, high):
    """Random bursts (address, length) in the bytes from `low` to `high`, multiples of 4 KiB."""
    found = []
    for _ in range(count):
        length = rng.choice([1, 2, rng.randint(1, config.max_burst), config.max_burst])
        beats = (4096 // config.beat_bytes - length + 1)
        found.append((rng.randrange(low, high, 4096) + rng.randrange(beats) * config.beat_bytes,
                      length))
    return found


@pytest.mark.parametrize("stall", [0, 0.3])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_bursts(config, stall):
    """What has been written is read, while other places are written, in all blocks."""
    rng, size = random.Random(1), config.beat_bytes
    memory, phases, expected = {}, [], []
    half = SPRAM.SIZE // 2
    ways = [(0, half), (half, SPRAM.SIZE), (0, half)]
    reads = []
    for low, high in ways:
        # among others the first and the last beat of this half
        places = [(low, 1), (high - size, 1), *bursts(config, rng, 12, low, high)]
        written = [(a, [rng.getrandbits(config.beat_bits) for _ in range(n)]) for a, n in places]
        expected += [memory[a + k * size] for a, n in reads for k in range(n)]
        phases.append((written, reads))
        memory |= {a + k * size: beat for a, beats in written for k, beat in enumerate(beats)}
        reads = rng.sample(places, len(places))
    bench = Bench(SPRAM(config), 2, stall).run(*phases, ([], reads))
    expected += [memory[a + k * size] for a, n in reads for k in range(n)]
    assert bench.got == expected
    assert not bench.told


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_cycles(config):
    """Latency, a beat in every cycle from burst to burst, acknowledgement, a write before reads."""
    n, size = config.max_burst, config.beat_bytes
    bench = Bench(SPRAM(config)).run(([], [(0, n), (4096, 1), (8192, n)]))
    first = bench.asked[0] + SPRAM.LATENCY
    assert bench.stamps == list(range(first, first + 2 * n + 1))

    bench = Bench(SPRAM(config)).run(
        ([(0, [1]), (size, [2]), (4096, list(range(n)))], []))
    assert [bench.acks[0], bench.acks[-1]] == [bench.written[0] + 1, bench.written[-1] + 1]
    assert bench.written[-1] - bench.written[2] == n - 1

    bench = Bench(SPRAM(config)).run(([(4096, list(range(n)))], [(0, n)] * 2))
    assert bench.stamps[-1] == bench.asked[0] + SPRAM.LATENCY + 3 * n - 1
    assert bench.written[-1] - bench.written[0] == n - 1


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_outside(config):
    """An error is told once a command; nothing is written where somebody else's words are."""
    size = config.beat_bytes
    inside = [(0, [7, 8]), (SPRAM.SIZE - size, [9])]
    bench = Bench(SPRAM(config)).run(
        (inside, []), ([(SPRAM.SIZE, [1, 2]), (2 * SPRAM.SIZE - size, [3])], []),
        ([], [(0, 2), (SPRAM.SIZE - size, 1), (1 << 31, 2)]))
    assert bench.got[:3] == [7, 8, 9] and len(bench.got) == 5
    assert len(bench.told) == 3 and len(bench.acks) == 4


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_primitives(config):
    """With a platform, four of them and no memory of ours; tests/sim/test_board.py runs them."""
    text = verilog.convert(SPRAM(config), platform=object(), emit_src=False)
    found = re.findall(r"SB_SPRAM256KA \S+ +\((.+?)\);", text, re.S)
    assert len(found) == 4 and len(set(found)) == 1
    pins = dict(re.findall(r"\.(\w+)\((.+?)\)", found[0]))
    assert pins == {
        "CLOCK": "clk", "CHIPSELECT": "en", "WREN": "write", "ADDRESS": "addr", "DATAIN": "w_data",
        "DATAOUT": "r_data", "MASKWREN": "4'hf", "STANDBY": "1'h0", "SLEEP": "1'h0",
        "POWEROFF": "1'h1"}
    assert not re.search(r"reg .*\[\d+:\d+\];", text)


def test_mistakes():
    with pytest.raises(ValueError, match="^beat_bits must be 32 or 64, not 128$"):
        SPRAM(Config(fmt="fp32", beat_bits=128))
    with pytest.raises(TypeError, match="^config must be a Config"):
        SPRAM(32)
