"""sim/memory.h: cycle for cycle what its text says, and DRAM efficiencies as they were measured."""

import ctypes
import dataclasses
import random
from fractions import Fraction
from math import ceil
from pathlib import Path

import gradgate.sim
import pytest
from gradgate.boards import MemoryTiming, board
from gradgate.sim import toolchain
from gradgate.sim.rtl import Timing

BEAT = 8  # bytes
READ, WRITE = 0, 1


class Transfer(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint32) for n in ("port", "write", "addr", "beats")] + [
        (n, ctypes.c_uint64) for n in ("earliest", "address", "first", "last", "answer")]


def driver(beat_bytes):
    """memory_driver.cpp for beats of so many bytes."""
    return ctypes.CDLL(str(toolchain.shared_library(
        "memory_driver", [Path(__file__).parent / "memory_driver.cpp"],
        include=[Path(gradgate.sim.__file__).parent], defines={"BEAT_BYTES": beat_bytes})))


@pytest.fixture(scope="module")
def library():
    return driver(BEAT)


def run(library, timing, transfers, ports=1, seed=0, limit=200_000):
    """Do `transfers`, tuples (port, write, address, beats, earliest cycle): (list with the cycles
    of each, cycles in all)."""
    done = (Transfer * len(transfers))(*(Transfer(*t) for t in transfers))
    library.run.restype = ctypes.c_uint64
    cycles = library.run(ctypes.byref(Timing.of(timing)), ports, done, len(done),
                         ctypes.c_uint64(seed), ctypes.c_uint64(limit))
    assert cycles, "the memory broke a rule, or did not finish"
    return list(done), cycles


def expected(timing, transfers, ports):
    """The text of memory.h once more, burst by burst: (first beat of reads, answer) per transfer.

    For masters that never wait: the address of the i-th transfer of a port and direction is taken
    in the cycle `earliest`, its beats in those that follow.
    """
    pace = Fraction(timing.beat_cycles).limit_denominator(1000)
    interval, length = timing.refresh_interval, timing.refresh_cycles

    def stands(cycle):
        return interval and cycle >= interval and cycle % interval < length

    def advance(start, work):
        """End of `work` cycles of serving from `start` on."""
        time = start
        while True:
            if stands(int(time)):
                time = Fraction(int(time) + 1)
                continue
            step = min(work, int(time) + 1 - time)
            time, work = time + step, work - step
            if not work:
                return time

    queues = {(p, w): [] for p in range(ports) for w in (READ, WRITE)}
    for i, (port, write, address, beats, earliest) in enumerate(transfers):
        due = earliest + beats if write else earliest + timing.latency
        queues[port, write].append((i, due, address, beats))
    channels = [list(queues)] if timing.shared else [[q] for q in queues]
    results = [None] * len(transfers)
    for order in channels:
        free, before, last = Fraction(0), None, -1
        pending = {q: list(queues[q]) for q in order}
        while any(pending.values()):
            start = max(free, min(pending[q][0][1] for q in order if pending[q]))
            while stands(int(start)):
                start = Fraction(int(start) + 1)
            turns = [(last + k) % len(order) for k in range(1, len(order) + 1)]
            last = next(k for k in turns if pending[order[k]] and
                        pending[order[k]][0][1] <= int(start))
            write = order[last][1]
            i, _, address, beats = pending[order[last]].pop(0)
            work = Fraction(0)
            if timing.row_bytes:
                epoch = int(start) // interval if interval else 0
                here = (address // timing.row_bytes, write, epoch)
                work += timing.row_cycles * (here != before)
                before = here
            end = advance(start, work + beats * pace)
            first = ceil(advance(start, work + pace)) - 1
            results[i] = (first, ceil(end) - 1 + (timing.latency if write else 0))
            free = end
    return results


TIMINGS = [
    MemoryTiming(latency=1),
    MemoryTiming(latency=13, beat_cycles=1.5),
    MemoryTiming(latency=5, beat_cycles=Fraction(7, 3), shared=True),
    MemoryTiming(latency=9, shared=True, row_bytes=1024, row_cycles=7),
    MemoryTiming(latency=40, row_bytes=256, row_cycles=4, refresh_interval=78, refresh_cycles=35),
    MemoryTiming(latency=3, beat_cycles=Fraction(6, 5), shared=True, row_bytes=512, row_cycles=11,
                 refresh_interval=97, refresh_cycles=9),
]


@pytest.mark.parametrize("ports", [1, 2, 3])
@pytest.mark.parametrize("timing", TIMINGS, ids=range(len(TIMINGS)))
def test_random_bursts(library, timing, ports):
    """Sparse and dense, long and short, against the text."""
    seed = ports
    print("seed", seed)
    rng = random.Random(seed)
    timing = dataclasses.replace(timing, outstanding=1000)
    transfers = []
    for port in range(ports):
        for write in (READ, WRITE):
            now = 0
            for _ in range(40):
                beats = rng.choice([1, 2, 3, 16, 31])
                address = rng.randrange(1 << 12) * 16 * BEAT & ~0xfff | rng.randrange(128) * BEAT
                transfers.append((port, write, address, beats, now))
                now += beats + rng.choice([0, 0, 5, 120])
    done, _ = run(library, timing, transfers, ports)
    answers = expected(timing, transfers, ports)
    for transfer, result, (first, answer) in zip(transfers, done, answers, strict=True):
        assert result.address == transfer[4]
        assert result.answer == answer
        if not transfer[1]:
            assert result.first == first


def sequential(write, beats, burst):
    """Bursts without a gap in address or time."""
    return [(0, write, BEAT * at, burst, 0) for at in range(0, beats, burst)]


@pytest.mark.parametrize("write", [READ, WRITE])
@pytest.mark.parametrize("burst", [4, 64])
def test_one_direction_streams(library, write, burst):
    """A channel of its own loses nothing, in both directions at once."""
    other = [(0, 1 - write, *t[2:]) for t in sequential(write, 4096, burst)]
    timing = MemoryTiming(latency=20, outstanding=16)
    _, cycles = run(library, timing, sequential(write, 4096, burst) + other)
    assert 4096 <= cycles <= 4096 + burst + 2 * 20 + 3


def test_ports_do_not_disturb_each_other(library):
    alone = sequential(READ, 2048, 32)
    timing = MemoryTiming(latency=20, row_bytes=1024, row_cycles=5)
    _, cycles = run(library, timing, alone)
    both = alone + [(1, w, a + 7 * 1024, n, t) for w in (READ, WRITE) for _, _, a, n, t in alone]
    done, _ = run(library, timing, both, ports=2)
    assert max(t.answer for t in done[:len(alone)]) == cycles - 1


def test_outstanding(library):
    """One read at a time waits for the one before."""
    timing = MemoryTiming(latency=30, outstanding=1)
    done, _ = run(library, timing, sequential(READ, 64, 16) + sequential(WRITE, 64, 16))
    reads, writes = done[:4], done[4:]
    assert all(b.address == a.last + 1 for a, b in zip(reads, reads[1:], strict=False))
    assert all(b.address == a.answer + 1 for a, b in zip(writes, writes[1:], strict=False))


def test_write_buffer(library):
    """Beats are taken at one per cycle until 512 wait for a slow memory."""
    timing = MemoryTiming(beat_cycles=100, outstanding=64)
    done, _ = run(library, timing, sequential(WRITE, 1024, 64))
    # while the first burst is served, 512 of others fit; the next begins 6400 cycles later
    assert [t.last - t.first for t in done[:9]] == [63] * 9
    assert done[8].last == 9 * 64 - 1
    assert done[9].last > 6400


def test_stalls_change_no_order(library):
    timing = MemoryTiming(latency=4, stall=0.5)
    transfers = sequential(READ, 256, 8) + sequential(WRITE, 256, 8)
    done, cycles = run(library, timing, transfers)
    for part in (done[:32], done[32:]):
        assert [t.answer for t in part] == sorted(t.answer for t in part)
    assert cycles == run(library, timing, transfers)[1]
    assert cycles != run(library, timing, transfers, seed=1)[1]
    assert cycles > run(library, MemoryTiming(latency=4), transfers)[1] + 150


# LiteDRAM with a 16-bit SDRAM, measured in simulation at two clocks: words per run of reads and
# writes in turn, or reads and writes in sequence, and the share of the peak
MEASURED = {50e6: {1: 0.129, 16: 0.687, 64: 0.873, 256: 0.940, "read": 0.963, "write": 0.947},
            100e6: {1: 0.098, 16: 0.625, 64: 0.857, 256: 0.943, "read": 0.967, "write": 0.959}}
ROW_CYCLES = {50e6: 7, 100e6: 9}


def at_clock(clock):
    """The SDRAM of ulx3s-85f at another clock: the same times in other cycles."""
    timing = board("ulx3s-85f").timing
    return dataclasses.replace(timing, row_cycles=ROW_CYCLES[clock],
                               refresh_interval=int(7.8e-6 * clock))


def share_of_peak(library, timing, pattern):
    beats, base = 16384, 1 << 20
    # beats of one word each, so that runs of one word can be told
    timing = dataclasses.replace(timing, beat_cycles=1, outstanding=64,
                                 row_bytes=timing.row_bytes // 2 * BEAT)
    if pattern in ("read", "write"):
        transfers = sequential(pattern == "write", beats, 64)
    else:
        transfers = [(0, w, BEAT * at + w * base, pattern, 0)
                     for at in range(0, beats // 2, pattern) for w in (READ, WRITE)]
    share = beats / run(library, timing, transfers)[1]
    print(f"{pattern}: {share:.3f} of the peak")
    return share


@pytest.mark.parametrize("pattern", MEASURED[50e6])
@pytest.mark.parametrize("clock", MEASURED)
def test_sdram_as_measured(library, clock, pattern):
    share = share_of_peak(library, at_clock(clock), pattern)
    assert abs(share - MEASURED[clock][pattern]) < 0.03


@pytest.mark.parametrize("pattern", MEASURED[50e6])
def test_ulx3s_lies_between_what_was_measured(library, pattern):
    """Its clock does, so its memory must."""
    profile = board("ulx3s-85f")
    low, high = (MEASURED[clock][pattern] for clock in (50e6, 100e6))
    between = low + (high - low) * (profile.clock_hz - 50e6) / 50e6
    assert abs(share_of_peak(library, profile.timing, pattern) - between) < 0.03
