"""sim/sdram.h keeps its chip's rules; hw/sdram.py and LiteDRAM work with it, as fast as profile
ulx3s-85f says."""

import ctypes
import random
import re
from pathlib import Path

import gradgate.sim
import numpy as np
import pytest
from gradgate import dram
from gradgate.boards import board
from gradgate.errors import DeviceError
from gradgate.sim import sdram, toolchain

from tests.sim import test_memory as fast

HERE = Path(__file__).parent
PROFILE = board("ulx3s-85f")
CONFIG, CLOCK = PROFILE.config, PROFILE.clock_hz
BEAT = CONFIG.beat_bytes
READ, WRITE = 0, 1

# --- the chip ---------------------------------------------------------------------------------

STOP, RD, WR, ACT, PRE, REF, MRS = 1, 2, 3, 4, 5, 6, 7
ALL = 1 << 10  # A10: all banks, or close the row after the access
POWER_UP = 8000  # cycles at 80 MHz


class Cycle(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint32) for n in ("cke", "code", "ba", "a", "dm", "driven", "dq",
                                               "valid", "read")]


@pytest.fixture(scope="module")
def chip():
    library = ctypes.CDLL(str(toolchain.shared_library(
        "sdram_driver", [HERE / "sdram_driver.cpp"],
        include=[Path(gradgate.sim.__file__).parent])))
    library.play.restype = ctypes.c_char_p

    def play(*commands, clock=80e6):
        """Plays (code, bank, address, data or None, mask) and numbers of idle cycles: (violation
        without its cycle, words that the chip drove by cycle)."""
        cycles = []
        for command in commands:
            if isinstance(command, int):
                cycles += [Cycle(1, 8)] * command
                continue
            code, bank, address, data, mask = (*command, *(0, 0, None, 0)[len(command) - 1:])
            cycles.append(Cycle(1, code, bank, address, mask, data is not None, data or 0))
        done = (Cycle * len(cycles))(*cycles)
        text = library.play(ctypes.c_double(clock), done, len(done)).decode()
        return (re.sub(r"^SDRAM cycle \d+: ", "", text),
                {i: c.read for i, c in enumerate(done) if c.valid})

    return play


def start(latency=2):
    return [POWER_UP, (PRE, 0, ALL), 1, (REF,), 5, (REF,), 5, (MRS, 0, latency << 4), 1]


def test_words_and_masks(chip):
    begin = [*start(), (ACT, 1, 77), 1, (WR, 1, 5, 0x1234), (WR, 1, 6, 0xabcd), (WR, 1, 5, 0, 1)]
    at = POWER_UP + 1 + 1 + 6 + 6 + 2 + 2 + 3
    assert chip(*begin, (RD, 1, 5), (RD, 1, 6), 4) == ("", {at + 1: 0x0034, at + 2: 0xabcd})


def test_cas_latency_of_three(chip):
    at = POWER_UP + 1 + 1 + 6 + 6 + 2 + 2
    assert chip(*start(3), (ACT,), 1, (RD,), 4) == ("", {at + 2: 0})


def test_rows_close_by_themselves(chip):
    """As early as tRAS allows, and then tRP is as long as always."""
    begin = [*start(), (ACT, 0, 1), 1, (RD, 0, ALL)]
    assert chip(*begin, 3, (ACT, 0, 2))[0] == ""
    assert chip(*begin, 2, (ACT, 0, 2))[0] == "tRP: row activated after a precharge"
    assert chip(*begin[:-1], 4, (WR, 0, ALL, 7), 3, (ACT, 0, 2))[0] == ""
    assert chip(*begin[:-1], 4, (WR, 0, ALL, 7), 2, (ACT, 0, 2))[0].startswith("tRP")


OPEN = [*start(), (ACT, 0, 3), 1]
BROKEN = {
    "command before the chip has powered up": [POWER_UP - 2, (PRE, 0, ALL)],
    "chip initialised without closing its rows first": [POWER_UP, (REF,)],
    "tRP: refresh or mode after a precharge": [*OPEN, 2, (PRE, 0, 0), (REF,)],
    "tRFC: command during a refresh": [*start()[:4], 4, (REF,)],
    "tMRD: command after a mode register was set": [*start()[:-1], (ACT,)],
    "row activated before the chip was initialised": [*start()[:-2], (ACT,)],
    "CAS latency is neither 2 nor 3": [*start()[:-2], (MRS, 0, 0x10)],
    "bursts of more than one word": [*start()[:-2], (MRS, 0, 0x21)],
    "access to a bank without an open row": [*OPEN, (RD, 1, 0)],
    "access to a row that is being closed": [*OPEN, (RD, 0, ALL), (RD, 0, 0)],
    "tRCD: access after a row was activated": [*OPEN[:-1], (RD,)],
    "tRAS: row closed after it was activated": [*OPEN, 1, (PRE,)],
    "tWR: row closed after a write": [*OPEN, 4, (WR, 0, 0, 1), (PRE,)],
    "tRP: row activated after a precharge": [*OPEN, 8, (PRE,), (ACT,)],
    "tRRD: row activated after another": [*OPEN[:-1], (ACT, 1)],
    "row activated in a bank with an open row": [*OPEN, 9, (ACT, 0, 4)],
    "write without data": [*OPEN, (WR,)],
    "data pins driven from both sides": [*OPEN, (RD,), (WR, 0, 0, 1)],
    "refresh with an open row": [*OPEN, (REF,)],
    "mode register set with an open row": [*OPEN, (MRS, 0, 0x20)],
    "rows not refreshed in time": [*start(), 10 * 625],
    "a command that bursts of one word do not need": [*OPEN, (STOP,)],
}


@pytest.mark.parametrize("rule", BROKEN)
def test_rules(chip, rule):
    assert chip(*BROKEN[rule])[0] == rule


def test_time_from_row_to_row(chip):
    """tRC is more than tRAS and tRP, but not in cycles of slow clocks."""
    begin = [3 * POWER_UP, (PRE, 0, ALL), 9, (REF,), 20, (REF,), 20, (MRS, 0, 0x20), 9, (ACT,)]
    for idle, text in ((3, "tRC: row activated after another of the bank"), (4, "")):
        assert chip(*begin, 8, (PRE,), idle, (ACT,), clock=200e6)[0] == text


def test_refreshes_in_time(chip):
    steps = [step for _ in range(20) for step in (620, (REF,))]
    assert chip(*start(), *steps)[0] == ""


# --- the controller ---------------------------------------------------------------------------

needs_litedram = pytest.mark.skipif(
    not dram.available(), reason="LiteDRAM is not installed: pip install '.[boards]'")


@pytest.fixture(scope="module")
def simulator():
    return sdram.library(CONFIG, dram.controller(CLOCK))


@pytest.fixture
def bench(simulator):
    with sdram.Bench(simulator, CONFIG, CLOCK) as bench:
        yield bench


@pytest.fixture(scope="module")
def memory():
    """sim/memory.h with the timing of the profile: cycles of a list of transfers."""
    library = fast.driver(BEAT)
    return lambda transfers: fast.run(library, PROFILE.timing, transfers, limit=10_000_000)


@needs_litedram
def test_start(bench):
    """200 us, a handful of commands, and refreshes from then on."""
    assert 16_000 < bench.cycles < 21_000  # 200 us at 80 MHz
    before = bench.counts
    _, _, cycles = bench.run([(0, READ, 0, 1, 100 * PROFILE.timing.refresh_interval)])
    assert before.refreshes == 2
    assert 99 <= bench.counts.refreshes - before.refreshes <= 101
    assert (bench.counts.reads, bench.counts.writes) == (BEAT // 2, 0)


@needs_litedram
def test_chip_that_is_too_slow(simulator):
    """The rules of the chip reach the caller."""
    with pytest.raises(DeviceError, match=r"^SDRAM cycle \d+: tRCD: access after a row was act"):
        sdram.Bench(simulator, CONFIG, 2 * CLOCK).run([(0, READ, 0, 1, 0)])


@needs_litedram
@pytest.mark.parametrize("stall", [0.0, 0.2])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_bursts(simulator, seed, stall):
    """Everything written is there, everywhere in the memory, whatever the masters' pace."""
    print("seed", seed)
    rng = random.Random(seed)
    with sdram.Bench(simulator, CONFIG, CLOCK, seed=seed) as bench:
        places = rng.sample(range(0, PROFILE.memory_size, 4096), 250)
        pieces = {place: rng.randbytes(BEAT * rng.randint(1, CONFIG.max_burst))
                  for place in places}

        def bursts(write, places):
            return [(0, write, p, len(pieces[p]) // BEAT, rng.choice([0, i * 40]))
                    for i, p in enumerate(places)]

        def contents(places):
            return b"".join(pieces[p] for p in places)

        first, second = places[:125], places[125:]
        bench.run(bursts(WRITE, first), contents(first), stall=stall)
        # one half is read while the other is written
        mixed = bursts(READ, first) + bursts(WRITE, second)
        _, read, _ = bench.run(mixed, contents(second), stall=stall)
        assert read == contents(first)
        rng.shuffle(places)
        _, read, _ = bench.run(bursts(READ, places), stall=stall)
        assert read == contents(places)


def run_of(write, size, base=0):
    """Bursts of `size` bytes, 32 KiB one after the other."""
    return [(0, write, base + at, size // BEAT, 0) for at in range(0, 1 << 15, size)]


def rows(write, size, rng):
    return [(0, write, 1024 * rng.randrange(1 << 14), size // BEAT, 0) for _ in range(300)]


def streams():
    """Sizes are of bursts, in bytes."""
    rng, far = random.Random(0), 1 << 22
    yield "read", run_of(READ, 512)
    yield "write", run_of(WRITE, 512)
    yield "short reads in a row", run_of(READ, 16)
    for size in (64, 128, 512):
        pairs = zip(run_of(READ, size), run_of(WRITE, size, far), strict=True)
        yield f"both, {size}", [t for pair in pairs for t in pair]
    yield "reads of other rows, 128", rows(READ, 128, rng)
    yield "reads of other rows, 64", rows(READ, 64, rng)
    yield "writes of other rows, 32", rows(WRITE, 32, rng)


STREAMS = dict(streams())


@needs_litedram
@pytest.mark.parametrize("name", STREAMS)
def test_streams_take_what_the_profile_says(bench, memory, name):
    transfers = STREAMS[name]
    _, _, cycles = bench.run(transfers, outstanding=PROFILE.timing.outstanding)
    words = sum(t[3] for t in transfers) * BEAT // 2
    predicted = memory(transfers)[1]
    print(f"{name}: {cycles} cycles, {words / cycles:.1%} of the peak, "
          f"profile {predicted / cycles - 1:+.1%}")
    assert abs(predicted / cycles - 1) < 0.03


@needs_litedram
def test_latency(bench, memory):
    """Of a read in an open row that nothing disturbs; the profile is a few cycles slower."""
    alone = [(0, READ, BEAT * i, 1, 100 * i) for i in range(100)]
    measured = min(t.first - t.address for t in bench.run(alone)[0])
    predicted = min(t.first - t.address for t in memory(alone)[0])
    assert (measured, predicted) == (7 + 2 + 2, PROFILE.timing.latency + 2 - 1)


def digits():
    """The bursts of a training step of the digits, batch 32, recorded at the bus of `rtl` with
    beats of 8 bytes."""
    recorded = np.load(HERE / "digits_bursts.npz")
    return [(0, int(write), 8 * int(address), int(beats) * 8 // BEAT, 0)
            for write, address, beats in
            zip(recorded["write"], recorded["address"], recorded["beats"], strict=True)]


@needs_litedram
def test_digits(bench, memory):
    transfers = digits()
    assert sum(t[3] for t in transfers) * BEAT == 780_352
    _, _, cycles = bench.run(transfers, outstanding=PROFILE.timing.outstanding)
    predicted = memory(transfers)[1]
    print(f"{cycles} cycles, profile {predicted / cycles - 1:+.2%}")
    assert abs(predicted / cycles - 1) < 0.03
