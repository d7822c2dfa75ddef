# amaranth: UnusedElaboratable=no
"""The sequencer against fake units: order, tokens, END, errors, and cycle counts."""

import random
import struct
from collections import Counter, deque

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.fetch import Fetch
from gradgate.hw.isa import BYTES, Unit, encode
from gradgate.hw.sequencer import TOKENS, UNITS, Sequencer

from tests.hw.memory import Memory

CONFIGS = {
    "w32": Config(tm=2, tn=4, beat_bits=32),
    "w64": Config(tm=4, tn=8, beat_bits=64, max_burst=8),
    "w64_single": Config(tm=4, tn=8, beat_bits=64, max_burst=1),
    "w128": Config(tm=4, tn=4, fmt="fp32", beat_bits=128, max_burst=256),
}


def instruction(unit, wait=(), signal=(), mark=0):
    """One instruction with `mark` in its last word."""
    words = encode(unit, wait=sum(1 << u for u in wait), signal=sum(1 << u for u in signal))
    words[15] = mark
    return words


def balanced(rng, count):
    """A random program that leaves no tokens: pairs of instructions share one."""
    units = [rng.choice(UNITS) for _ in range(count)]
    waits, signals = [set() for _ in units], [set() for _ in units]
    for _ in range(2 * count):
        first, last = sorted(rng.sample(range(count), 2))
        u, v = units[first], units[last]
        if u != v and u not in waits[last] and v not in signals[first]:
            waits[last].add(u)
            signals[first].add(v)
    return [instruction(u, w, s, k)
            for k, (u, w, s) in enumerate(zip(units, waits, signals, strict=True))]


class Bench:
    """A sequencer, a memory with a program at `address`, and four units that log what they do.

    A unit holds up to `slots` instructions, accepts with probability `1 - stall` a cycle, and takes
    `work(mark)` cycles for one; None is for ever.
    """

    def __init__(self, config, program, *, address=0x1000, seed=0, stall=0.0, latency=1, slots=2,
                 work=lambda mark: 2, timeout=0, fault_at=None):
        print("seed", seed)
        self.rng = random.Random(seed)
        self.dut = Sequencer(config)
        self.memory = Memory(config, random.Random(seed), latency=latency, stall=stall)
        self.address, self.stall, self.slots, self.work = address, stall, slots, work
        self.timeout, self.fault_at = timeout, fault_at
        for k, words in enumerate(program):
            struct.pack_into("<16I", self.memory.data, address + BYTES * k, *words)
        self.accepted = {u: [] for u in UNITS}  # (cycle, words)
        self.completed = {u: [] for u in UNITS}
        self.fetched = 0
        self.last_beat = None  # cycle in which the sequencer was told of it
        self.cycles = None  # from start to the end of `busy`

    async def unit(self, ctx, u):
        port, inside, now = self.dut.units[u], deque(), 0
        while True:
            ready = len(inside) < self.slots and self.rng.random() >= self.stall
            ctx.set(port.ready, ready)
            done = bool(inside) and inside[0] is not None and inside[0] <= now
            ctx.set(self.dut.done[u], done)
            if done:
                inside.popleft()
                self.completed[u].append(now)
            _, _, take, payload = await ctx.tick().sample(port.valid & port.ready, port.payload)
            if take:
                words = [payload >> 32 * k & 0xffffffff for k in range(16)]
                self.accepted[u].append((now, words))
                work = self.work(words[15])
                begin = max([now, *(t for t in inside if t is not None)])
                inside.append(None if work is None else begin + work)
            now += 1

    async def count(self, ctx):
        data, now = self.dut.port.data, 0
        while True:
            _, _, fetched, beat = await ctx.tick().sample(self.dut.fetched, data.valid & data.ready)
            self.fetched += fetched
            now += 1
            if beat:
                self.last_beat = now
            ctx.set(self.dut.beat, beat)

    async def serve(self, ctx):
        await self.memory.serve_reads(ctx, self.dut.port)

    async def main(self, ctx):
        dut = self.dut
        ctx.set(dut.address, self.address)
        ctx.set(dut.timeout, self.timeout)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for cycle in range(self.limit):
            if not ctx.get(dut.busy):
                self.cycles = cycle
                break
            ctx.set(dut.fault, cycle == self.fault_at)
            await ctx.tick()
        else:
            raise AssertionError(f"still busy after {self.limit} cycles")
        await ctx.tick().repeat(50)  # nothing may happen any more
        assert not ctx.get(dut.busy)
        self.ended = bool(ctx.get(dut.ended))
        self.errors = {name for name in ("timeout", "token_overflow", "unknown_unit", "bus_error")
                       if ctx.get(getattr(dut.errors, name))}
        self.tokens_left = bool(ctx.get(dut.tokens_left))
        self.tokens = {pair: ctx.get(dut.tokens[k]) for k, pair in enumerate(TOKENS)
                       if ctx.get(dut.tokens[k])}
        self.state = {name: ctx.get(getattr(dut, name))
                      for name in ("executing", "waiting", "empty")}

    def run(self, limit=4000):
        self.limit = limit
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        sim.add_testbench(self.main)
        sim.add_testbench(self.serve, background=True)
        sim.add_testbench(self.count, background=True)
        for u in UNITS:
            async def unit(ctx, u=u):
                await self.unit(ctx, u)
            sim.add_testbench(unit, background=True)
        sim.run()
        return self

    def check(self, program):
        """Everything ran, in order, and no instruction before its tokens."""
        for u in UNITS:
            mine = [words for words in program if words[0] & 15 == u]
            assert [words for _, words in self.accepted[u]] == mine
            assert len(self.completed[u]) == len(mine)
        for u in UNITS:
            taken = Counter()
            for cycle, words in self.accepted[u]:
                for v in UNITS:
                    if words[0] >> 4 + v & 1:
                        taken[v] += 1
                        given = sum(
                            done < cycle and source[0] >> 8 + u & 1
                            for done, (_, source) in zip(self.completed[v], self.accepted[v],
                                                         strict=False))
                        assert given >= taken[v], (u, v, cycle)
        assert self.fetched == len(program) + 1
        assert self.ended and not self.errors and not self.tokens_left and not self.tokens
        assert self.state == {"executing": 0, "waiting": 0, "empty": 15}


END = instruction(Unit.END)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CONFIGS)
def test_random_programs(name, seed):
    rng = random.Random(seed)
    config = CONFIGS[name]
    program = balanced(rng, 24)
    address = 0x1000 - config.beat_bytes * rng.randrange(100)
    bench = Bench(config, [*program, END], address=address, seed=seed, stall=0.3,
                  latency=rng.choice([1, 20]), slots=rng.choice([1, 3, 8]),
                  work=lambda mark: random.Random(mark).choice([0, 1, 5, 60]))
    bench.run().check(program)


@pytest.mark.parametrize("name", CONFIGS)
def test_reads_end_soon_behind_end(name):
    config = CONFIGS[name]
    program = [instruction(Unit.POST, mark=k) for k in range(5)]
    bench = Bench(config, [*program, END], address=0x1040).run()
    bench.check(program)
    last = max(address + length * config.beat_bytes for address, length in bench.memory.reads)
    assert last <= 0x1040 + 5 * BYTES + Fetch.AHEAD * config.beat_bytes
    assert min(address for address, _ in bench.memory.reads) == 0x1040


@pytest.mark.parametrize("count", [6, 7])
def test_a_full_queue_holds_everything_behind_it(count):
    """Six LOAD_A fit in unit, head and queue; what is behind the seventh is not dispatched."""
    program = [*(instruction(Unit.LOAD_A),) * count, instruction(Unit.POST, mark=1)]
    bench = Bench(CONFIGS["w64"], [*program, END], slots=1, work=lambda mark: 1 if mark else 250)
    bench.run().check(program)
    release = bench.completed[Unit.LOAD_A][0]
    assert (bench.accepted[Unit.POST][0][0] < release) == (count == 6)


@pytest.mark.parametrize("name", CONFIGS)
def test_cycles(name):
    """Latency and rate of the docstrings."""
    config = CONFIGS[name]
    beats = BYTES // config.beat_bytes
    program = [instruction(Unit.COMPUTE, mark=k) for k in range(3)]
    bench = Bench(config, [*program, END], slots=8).run()
    bench.check(program)
    times = [cycle for cycle, _ in bench.accepted[Unit.COMPUTE]]
    if config.max_burst >= 4 * beats:  # one burst
        assert [b - a for a, b in zip(times, times[1:], strict=False)] == [beats + 3] * 2

    # a token given in cycle t: the waiting instruction is offered in cycle t + 4
    program = [instruction(Unit.LOAD_B, signal=[Unit.COMPUTE]),
               instruction(Unit.COMPUTE, wait=[Unit.LOAD_B])]
    bench = Bench(config, [*program, END], work=lambda mark: 400).run()
    bench.check(program)
    assert bench.accepted[Unit.COMPUTE][0][0] == bench.completed[Unit.LOAD_B][0] + 4


def test_masks_stay_with_their_instructions():
    """Several in flight, each with another mask."""
    masks = [[], [Unit.LOAD_A], [Unit.POST], [Unit.LOAD_B]]
    program = [instruction(Unit.COMPUTE, signal=masks[k % 4], mark=k) for k in range(12)]
    program += [instruction(u, wait=[Unit.COMPUTE])
                for u in (Unit.LOAD_A, Unit.POST, Unit.LOAD_B) * 3]
    bench = Bench(CONFIGS["w128"], [*program, END], slots=8, work=lambda mark: 30).run()
    bench.check(program)


@pytest.mark.parametrize("count", [255, 256])
def test_token_overflow(count):
    program = [instruction(Unit.LOAD_A, signal=[Unit.POST])] * count
    bench = Bench(CONFIGS["w128"], [*program, END], slots=8, work=lambda mark: 0).run()
    assert bench.tokens_left == (count == 255)
    assert bench.ended == (count == 255)
    assert bench.errors == ({"token_overflow"} if count == 256 else set())
    if count == 255:
        assert bench.tokens == {(Unit.LOAD_A, Unit.POST): 255}


@pytest.mark.parametrize("number", [4, 14])
def test_unknown_unit(number):
    bad = [number, *[0] * 15]
    program = [instruction(Unit.POST), instruction(Unit.LOAD_A), bad, instruction(Unit.POST), END]
    bench = Bench(CONFIGS["w64"], program).run()
    assert bench.errors == {"unknown_unit"} and not bench.ended
    assert len(bench.accepted[Unit.POST]) == 1


def test_deadlock_is_a_timeout_with_readable_state():
    program = [instruction(Unit.LOAD_B, signal=[Unit.COMPUTE]),
               instruction(Unit.COMPUTE, wait=[Unit.LOAD_A, Unit.LOAD_B]),
               instruction(Unit.POST, mark=1)]
    bench = Bench(CONFIGS["w64"], [*program, END], timeout=100,
                  work=lambda mark: None if mark else 3).run()
    assert bench.errors == {"timeout"} and not bench.ended
    assert bench.tokens == {(Unit.LOAD_B, Unit.COMPUTE): 1}
    assert bench.state == {"executing": 1 << Unit.POST, "waiting": 1 << Unit.COMPUTE,
                           "empty": 15 - (1 << Unit.COMPUTE)}
    last = max(bench.last_beat, bench.accepted[Unit.POST][0][0], bench.completed[Unit.LOAD_B][0])
    assert bench.cycles + 1 == last + 100 + 3  # `cycles` begins after the cycle of `start`


def test_work_is_progress():
    """An instruction longer than the timeout is no error while its unit is active."""
    program = [instruction(Unit.POST)]
    for active in (True, False):
        bench = Bench(CONFIGS["w64"], [*program, END], timeout=50, work=lambda mark: 500)

        async def tickle(ctx, bench=bench):
            while True:
                for cycle in range(40):
                    ctx.set(bench.dut.active[Unit.POST], cycle == 39)
                    await ctx.tick()

        if active:
            bench.count = tickle
        bench.run()
        assert bench.ended == active
        assert bench.errors == (set() if active else {"timeout"})


def test_a_dead_memory_is_a_timeout():
    bench = Bench(CONFIGS["w64"], [END], latency=10000, timeout=300).run()
    assert bench.errors == {"timeout"}


def test_fault_stops_the_program():
    program = [instruction(Unit.POST, mark=k) for k in range(20)]
    bench = Bench(CONFIGS["w64"], [*program, END], work=lambda mark: 30, fault_at=100).run()
    assert bench.errors == {"bus_error"} and bench.cycles == 101
    # an offer once made stands
    assert sum(cycle > 103 for cycle, _ in bench.accepted[Unit.POST]) <= 1


def test_type_of_config():
    with pytest.raises(TypeError, match="^config must be a Config, not 8$"):
        Sequencer(8)
