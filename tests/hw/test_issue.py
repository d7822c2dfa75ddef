# amaranth: UnusedElaboratable=no
"""The queue of one unit: order, tokens, masks in flight, cycle counts."""

import random

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.isa import BYTES, Unit, encode
from gradgate.hw.issue import Issue

from tests.hw.memory import feed

CONFIGS = {
    "w32": Config(tm=2, tn=4, beat_bits=32),
    "w64": Config(tm=4, tn=8, beat_bits=64),
    "w128": Config(tm=4, tn=4, fmt="fp32", beat_bits=128),
}


def instruction(rng, wait=None, signal=None):
    words = encode(Unit.POST, wait=rng.randrange(8) if wait is None else wait,
                   signal=rng.randrange(8) if signal is None else signal)
    return words[:1] + [rng.getrandbits(32) for _ in range(15)]


def beats(config, words):
    value = sum(word << 32 * k for k, word in enumerate(words))
    return [value >> k & (1 << config.beat_bits) - 1
            for k in range(0, 8 * BYTES, config.beat_bits)]


class Unit_:
    """Counters of tokens and a unit around an Issue: logs (cycle, event, value)."""

    def __init__(self, config, instructions, *, seed=0, stall=0.0, delay=lambda k: 3, slots=8,
                 tokens=lambda cycle: 0, halt_at=None, cycles=800):
        print("seed", seed)
        self.config, self.rng = config, random.Random(seed)
        self.instructions, self.stall, self.delay, self.slots = instructions, stall, delay, slots
        self.new_tokens, self.halt_at, self.cycles = tokens, halt_at, cycles
        self.dut = Issue(config)
        self.taken, self.given, self.accepted, self.done, self.levels = [], [], [], [], []
        self.first = None

    async def main(self, ctx):
        dut = self.dut
        counters, inside = [0, 0, 0], []
        for cycle in range(self.cycles):
            for v in range(3):
                counters[v] += self.new_tokens(cycle) >> v & 1
            ctx.set(dut.tokens, sum((count > 0) << v for v, count in enumerate(counters)))
            ctx.set(dut.halt, self.halt_at is not None and cycle >= self.halt_at)
            ready = len(inside) < self.slots and self.rng.random() >= self.stall
            ctx.set(dut.o.ready, ready)
            if ready and ctx.get(dut.o.valid):
                payload = ctx.get(dut.o.payload)
                self.accepted.append((cycle, [payload >> 32 * k & 0xffffffff for k in range(16)]))
                inside.append(cycle + self.delay(len(self.accepted)))
            done = bool(inside) and inside[0] <= cycle
            ctx.set(dut.done, done)
            # tokens come a cycle after
            if self.done and self.done[-1] == cycle - 1:
                self.given.append(ctx.get(dut.give))
            else:
                assert ctx.get(dut.give) == 0
            if done:
                inside.pop(0)
                self.done.append(cycle)
            if take := ctx.get(dut.take):
                self.taken.append((cycle, take))
                for v in range(3):
                    counters[v] -= take >> v & 1
                    assert counters[v] >= 0
            if self.first is None and ctx.get(dut.i.valid & dut.i.ready):
                self.first = cycle
            self.levels.append((ctx.get(dut.executing), ctx.get(dut.waiting), ctx.get(dut.empty)))
            await ctx.tick()

    def run(self):
        async def supply(ctx):
            await feed(ctx, self.dut.i, [beat for words in self.instructions
                                         for beat in beats(self.config, words)],
                       self.rng, self.stall)
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        sim.add_testbench(supply, background=True)
        sim.add_testbench(self.main)
        sim.run()
        return self


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CONFIGS)
def test_random(name, seed):
    rng = random.Random(seed)
    program = [instruction(rng) for _ in range(12)]
    bench = Unit_(CONFIGS[name], program, seed=seed, stall=0.3, slots=rng.choice([1, 8]),
                  delay=lambda k: random.Random(k).choice([1, 2, 40]),
                  tokens=lambda cycle: random.Random(cycle).randrange(1 << 10) & 7).run()
    assert [words for _, words in bench.accepted] == program
    assert bench.given == [words[0] >> 8 & 15 for words in program]
    assert [take for _, take in bench.taken] == [words[0] >> 4 & 15 for words in program
                                                 if words[0] >> 4 & 15]
    assert bench.levels[-1] == (0, 0, 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_cycles(name):
    """Latency of an empty queue and rate of a full one."""
    config = CONFIGS[name]
    rng = random.Random(0)
    program = [instruction(rng, wait=0) for _ in range(5)]
    bench = Unit_(config, program).run()
    per = BYTES // config.beat_bytes
    assert bench.accepted[0][0] - bench.first == per + 3
    times = [cycle for cycle, _ in bench.accepted]
    assert [b - a for a, b in zip(times, times[1:], strict=False)] == [per + 3] * 4


def test_waits_for_every_token():
    """Offered two cycles after the counter shows the last token, not before."""
    program = [instruction(random.Random(0), wait=0b101)]
    bench = Unit_(CONFIGS["w128"], program,
                  tokens=lambda cycle: {50: 1, 60: 2, 90: 4}.get(cycle, 0)).run()
    assert bench.taken == [(90, 0b101)]
    assert bench.accepted[0][0] == 91
    waiting = [cycle for cycle, level in enumerate(bench.levels) if level[1]]
    assert waiting == list(range(waiting[0], 90)) and waiting[0] < 20


def test_done_with_the_handover():
    """A unit may be done in the cycle after it accepts."""
    rng = random.Random(2)
    program = [instruction(rng, wait=0) for _ in range(6)]
    bench = Unit_(CONFIGS["w128"], program, delay=lambda k: 1).run()
    assert bench.done == [cycle + 1 for cycle, _ in bench.accepted]
    assert bench.given == [words[0] >> 8 & 15 for words in program]
    assert not any(executing for executing, _, _ in bench.levels)


def test_no_more_in_flight_than_masks():
    rng = random.Random(3)
    program = [instruction(rng, wait=0) for _ in range(12)]
    bench = Unit_(CONFIGS["w128"], program, slots=12, delay=lambda k: 300, cycles=1300).run()
    before = sum(cycle < bench.done[0] for cycle, _ in bench.accepted)
    assert before == Issue.IN_FLIGHT
    assert [words for _, words in bench.accepted] == program
    assert bench.given == [words[0] >> 8 & 15 for words in program]


def test_halt():
    rng = random.Random(4)
    program = [instruction(rng, wait=0) for _ in range(4)]
    bench = Unit_(CONFIGS["w128"], program, halt_at=16).run()
    assert [cycle < 18 for cycle, _ in bench.accepted] == [True] * len(bench.accepted)
    assert 1 <= len(bench.accepted) < 4


def test_type_of_config():
    with pytest.raises(TypeError, match="^config must be a Config, not 1$"):
        Issue(1)
