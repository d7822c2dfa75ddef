"""sim/rtl.py, sim/memory.h and sim/harness.cpp: timing, errors, counters, traces."""

import dataclasses
import random
import resource
import signal
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest
from gradgate.boards import MemoryTiming
from gradgate.device import UNITS
from gradgate.errors import BusError, DeviceError, DeviceTimeout, NumericError, ProgramError
from gradgate.hw.config import Config
from gradgate.hw.fetch import Fetch
from gradgate.hw.isa import Unit, encode
from gradgate.sim import verilate
from gradgate.sim.rtl import Harness, RTLDevice

from tests.cocotb.convolution import Convolution

CONFIG = Config(tm=2, tn=4, beat_bits=32, a_depth=32, b_depth=64, acc_depth=32, max_burst=8)
SIZE = 0x8000
BEATS, BURST, BEAT_BYTES = 256, 16, 8  # of copy_engine.v
START, STATUS, BASE, CYCLES = 0x10, 0x14, 0x18, 0x40


@pytest.fixture(scope="module")
def engine():
    """The library of a small copy engine with the ports of AXITop."""
    text = (Path(__file__).parent / "copy_engine.v").read_text()
    return verilate.build("copy_engine", text, defines={"BEAT_BYTES": BEAT_BYTES})


def copy(library, timing, seed=0, fail=(0, 0), size=SIZE, base=0):
    """(cycles, faults) of copying BEATS beats; checks the copy."""
    harness = Harness(library, size, timing=timing, seed=seed)
    data = random.Random(seed).randbytes(BEATS * BEAT_BYTES)
    harness.memory[base:base + len(data)] = data
    harness.fail(*fail)
    harness.write_register(BASE, base)
    harness.write_register(START, 1)
    assert harness.run(100_000)
    copied = bytes(harness.memory[base + 4096:base + 4096 + len(data)])
    if not fail[1]:
        assert copied == data
    cycles, fault = harness.read_register(CYCLES), harness.read_register(STATUS) >> 5 & 1
    harness.close()
    return cycles, fault


@pytest.mark.parametrize("latency", [1, 10, 50])
def test_latency(engine, latency):
    """A read, and the write at the end, each show the latency once; the bursts overlap."""
    base, _ = copy(engine, MemoryTiming(latency=1, outstanding=64))
    cycles, _ = copy(engine, MemoryTiming(latency=latency, outstanding=64))
    assert cycles - base == 2 * (latency - 1)
    # one cycle more than latency on either side, one for the copy; and the last burst is written
    # only when all of it is there
    assert base == BEATS + BURST + 3


@pytest.mark.parametrize("beat_cycles", [1, 1.5, Fraction(7, 3), 4])
@pytest.mark.parametrize("shared", [False, True])
def test_bandwidth(engine, beat_cycles, shared):
    cycles, _ = copy(engine, MemoryTiming(beat_cycles=beat_cycles, shared=shared))
    expected = BEATS * beat_cycles * 2 if shared else (BEATS + BURST) * beat_cycles
    assert 0 <= cycles - expected <= 2 * 10 + 3 * beat_cycles + 3


def test_one_outstanding_read_waits_for_the_last(engine):
    cycles, _ = copy(engine, MemoryTiming(latency=20, outstanding=1))
    bursts = BEATS // BURST
    assert bursts * (20 + BURST - 1) <= cycles <= bursts * (20 + BURST + 2) + BURST + 25


def test_rows_and_refresh(engine):
    """Reads and writes in turn on a shared memory open a row for each burst."""
    timing = MemoryTiming(shared=True, row_bytes=1024, row_cycles=9)
    bursts = BEATS // BURST
    cycles, _ = copy(engine, timing)
    assert 0 <= cycles - 2 * bursts * (BURST + 9) <= 2 * 10 + 6
    slow, _ = copy(engine, dataclasses.replace(timing, refresh_interval=100, refresh_cycles=50))
    assert 1.7 < slow / cycles < 2.2


def test_large_memory_takes_no_room(engine):
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    copy(engine, MemoryTiming(), size=1 << 32, base=(1 << 32) - 8192)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 100_000  # KiB


@pytest.mark.parametrize("seed", range(4))
def test_stalls(engine, seed):
    """Stalled memory copies correctly, more slowly, the same way for the same seed."""
    timing = MemoryTiming(stall=0.5)
    cycles, _ = copy(engine, timing, seed)
    assert cycles == copy(engine, timing, seed)[0]
    assert 1.7 * BEATS < cycles < 3 * BEATS
    assert cycles != copy(engine, timing, seed + 100)[0]


def test_injected_errors(engine):
    assert copy(engine, MemoryTiming(), fail=(100, 4))[1]
    assert copy(engine, MemoryTiming(), fail=(4096 + BEATS * BEAT_BYTES - 1, 1))[1]
    assert not copy(engine, MemoryTiming(), fail=(4096 + BEATS * BEAT_BYTES, 8))[1]


def test_protocol_and_assertions_are_checked(engine, capfd):
    harness = Harness(engine, SIZE, timing=MemoryTiming())
    harness.write_register(BASE, 1)
    with pytest.raises(DeviceError, match="AW: burst type is not INCR .address 0x00001000"):
        harness.write_register(START, 1)
        harness.run(1000)
    harness.reset()
    harness.write_register(BASE, 2)
    with pytest.raises(DeviceError, match="assertion failed: AXITop.v:"):
        harness.write_register(START, 1)
        harness.run(1000)
    assert "Assertion failed" in capfd.readouterr().out
    harness.reset()
    harness.write_register(BASE, 0)
    harness.write_register(START, 1)
    assert harness.run(1000)


def test_prepare():
    """Zeros go, other initial values stay; what belongs to no memory is left alone."""
    text = "\n".join([
        "  reg [7:0] x = 8'h00;", "  reg [31:0] \\y$1  = 32'd0;", "  reg [7:0] z = 8'h01;",
        "  reg [7:0] mem [1:0];", "  initial begin", "    mem[0] = 8'h00;", "    mem[1] = 8'h00;",
        "  end", "  reg [7:0] rom [1:0];", "  initial begin", "    rom[0] = 8'h00;",
        "    rom[1] = 8'h02;", "  end", "  always @*", "    \\p [7:4] = 4'h3;", "  always @*",
        "    q = x;", ""])
    assert verilate.prepare(text) == "\n".join([
        "  reg [7:0] x ;", "  reg [31:0] \\y$1 ;", "  reg [7:0] z = 8'h01;",
        "  reg [7:0] mem [1:0];", "  reg [7:0] rom [1:0];", "  initial begin",
        "    rom[0] = 8'h00;", "    rom[1] = 8'h02;",
        "  end", "  initial", "    \\p [7:4] = 4'h3;", "  always @*", "    q = x;", ""])


@pytest.fixture(scope="module")
def device():
    with RTLDevice(CONFIG, SIZE, MemoryTiming(stall=0.1), seed=7) as device:
        yield device


def words(*program):
    return b"".join(word.to_bytes(4, "little") for x in program for word in x)


def load(unit=Unit.LOAD_A, base=0x5000, beats=8, **fields):
    """Fills `beats` words of one bank pair of a buffer."""
    return encode(unit, d_base=base, d_len=beats, d_n1=1, d_n2=1, d_n3=1, spp=1, nb=1, n2=1, n1=1,
                  n0=beats, hi1=1, hi0=beats, sd1=1, sd0=1, **fields)


END = encode(Unit.END)


def test_counters(device):
    device.write(0, words(load(Unit.LOAD_B, beats=5, wait=1), load(beats=32, signal=2), END))
    counters = device.run(0)
    assert counters.instructions == {"LOAD_A": 1, "LOAD_B": 1, "COMPUTE": 0, "POST": 0}
    assert counters.active == {"LOAD_A": 32, "LOAD_B": 5, "COMPUTE": 0, "POST": 0}
    assert counters.write_bytes == 0
    ahead = counters.read_bytes - (37 * 4 + 2 * 64)  # from END on
    assert 32 <= ahead <= Fetch.AHEAD * 4
    assert 32 <= counters.busy["LOAD_A"] < counters.cycles
    assert counters.starved["LOAD_B"] > counters.busy["LOAD_A"]
    assert list(counters.busy) == list(UNITS)


def test_records(device):
    """Per instruction, in step with the counters."""
    device.write(0, words(load(Unit.LOAD_B, beats=5, wait=1), load(Unit.LOAD_B, beats=3),
                          load(beats=32), load(beats=7, signal=2, base=0x5040), END))
    counters = device.run(0)
    records = counters.records
    assert {unit: len(records[unit]) for unit in UNITS} == counters.instructions
    assert records["LOAD_A"]["active"].tolist() == [32, 7]
    assert records["LOAD_B"]["active"].tolist() == [5, 3]
    first = records["LOAD_B"][0]
    # `done` is known a cycle later, the token is given in the next and there in the one after, in
    # which the instruction is taken from the queue, to be offered in the next
    assert first["start"] == records["LOAD_A"]["done"][1] + 4
    assert 0 < first["starved"] == counters.starved["LOAD_B"]
    for unit in UNITS:
        own = records[unit]
        assert own["active"].sum() == counters.active[unit]
        assert own["starved"].sum() == counters.starved[unit]
        executing = {cycle for record in own
                     for cycle in range(int(record["start"]) + 2, int(record["done"]) + 2)}
        assert len(executing) == counters.busy[unit]
        assert all(cycle < counters.cycles for cycle in executing)
        assert all(own["start"][1:] >= own["start"][:-1])
    # the fetch of three instructions, and the latency of memory
    assert 0 < records["LOAD_A"]["start"][0] < 100
    assert (counters + counters).records is None
    again = device.run(0).records
    assert len(again["LOAD_A"]) == 2


def test_read_and_write(device):
    device.write(0x6000, memoryview(bytes(range(16))))
    assert device.read(0x6004, 4) == bytes([4, 5, 6, 7])
    for address, size in ((SIZE - 2, 4), (-1, 1), (SIZE, 1)):
        with pytest.raises(BusError, match="outside the memory of 32768 bytes"):
            device.read(address, size)
        with pytest.raises(BusError, match="outside the memory of 32768 bytes"):
            device.write(address, bytes(size))


def works(device):
    """A program after an exception runs as if nothing had happened."""
    device.write(0, words(load(), END))
    assert device.run(0).active["LOAD_A"] == 8


def test_timeout_names_what_hangs(device):
    device.write(0, words(load(signal=4), load(Unit.LOAD_B, wait=4, base=0x5040), END))
    with pytest.raises(DeviceTimeout) as caught:
        device.run(0, timeout=500)
    text = str(caught.value)
    assert "LOAD_A: queue empty; 1 completed" in text
    assert "LOAD_B: waiting for tokens; 0 completed" in text
    assert "at instruction 1: wait=4 d_base=20544 d_len=8" in text
    assert "tokens: LOAD_A -> COMPUTE: 1" in text
    works(device)


def test_last_resort(device):
    device.write(0, words(load(wait=4), END))
    device.max_cycles = 3000
    try:
        with pytest.raises(DeviceTimeout, match="still running after 3000 cycles"):
            device.run(0, timeout=0)
    finally:
        device.max_cycles = 10**12
    works(device)


@pytest.mark.parametrize("program, error, message", [
    ([load(base=SIZE - 16), END], BusError, "read of .* bytes at 0x0000.*, outside of the memory"),
    ([[7] + [0] * 15, END], ProgramError, "unknown unit number"),
    ([load(signal=4), END], ProgramError, "tokens left at the end"),
    ([load(signal=4)] * 256 + [END], ProgramError, "token counter overflowed"),
])
def test_program_errors(device, program, error, message):
    device.write(0, words(*program))
    with pytest.raises(error, match=message):
        device.run(0)
    works(device)


def test_bus_error_on_a_bad_address(device):
    device.write(0, words(load(base=0x5000), END))
    device.harness.fail(0x5010, 4)
    with pytest.raises(BusError, match="read of .* bytes at 0x00005"):
        device.run(0)
    device.harness.fail(0, 0)
    works(device)


def test_nonfinite_and_overflow(device):
    device.write(0x7000, bytes.fromhex("c07f") * 16)
    device.write(0, words(load(base=0x7000), END))
    with pytest.raises(NumericError, match="infinity or NaN was read"):
        device.run(0)
    device.write(0x7000, (0x7f000000).to_bytes(4, "little") * 4)
    device.write(0, words(encode(
        Unit.POST, src_mem=1, src_fp32=1, scale=1, imm0=0x7f000000, out_fp32=1, src_base=0x7000,
        p2=1, p1=1, p0=1, w1=1, w0=1, out_base=0x7100, o_len=2, o_n1=1, o_n2=1), END))
    with pytest.raises(NumericError, match="overflowed"):
        device.run(0)
    works(device)


@pytest.mark.parametrize("timing", [
    MemoryTiming(), MemoryTiming(latency=30, beat_cycles=1.5, stall=0.3),
    MemoryTiming(shared=True, row_bytes=512, row_cycles=6, refresh_interval=200,
                 refresh_cycles=30)], ids=["default", "slow", "dram"])
def test_several_ports(timing):
    """A convolution through three read ports and two write ports."""
    config = dataclasses.replace(CONFIG, a_depth=64, read_ports=3, write_ports=2)
    work = Convolution(config, 4)
    with RTLDevice(config, SIZE, timing, seed=4) as device:
        assert device.timing == timing
        device.write(0, work.memory)
        counters = device.run(work.address)
        assert device.read(0, SIZE) == work.expected
    assert counters.write_bytes == work.beats_written * config.beat_bytes
    assert counters.active["COMPUTE"] == work.moving
    for unit in UNITS:
        assert counters.records[unit]["active"].sum() == counters.active[unit]
        assert len(counters.records[unit]) == counters.instructions[unit]


def test_wrong_identity():
    library = verilate.library(CONFIG)
    device = RTLDevice.__new__(RTLDevice)
    device.config = dataclasses.replace(CONFIG, a_depth=64)
    device.harness = Harness(library, SIZE, timing=MemoryTiming())
    with pytest.raises(DeviceError, match="register CONFIG1 is 0x00050605, not 0x00050606"):
        device._check_identity()


def test_ctrl_c(device):
    """An interrupt ends a long run, and leaves the device usable."""
    device.write(0, words(load(wait=4), END))
    reports = []
    device.progress = reports.append
    # whoever runs the tests in the background may have made them ignore it
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            device.run(0, timeout=0)
    finally:
        device.progress = None
        signal.signal(signal.SIGINT, handler)
    assert time.monotonic() - started < 60
    assert reports == sorted(reports)
    works(device)


def test_unwritable_trace(tmp_path):
    with pytest.raises(FileNotFoundError):
        RTLDevice(CONFIG, SIZE, trace=tmp_path / "missing" / "trace.vcd")


def test_power_up_state_is_random():
    """What was never written differs from seed to seed: nobody gets away with reading it."""
    seen = set()
    for seed in range(3):
        with RTLDevice(CONFIG, SIZE, seed=seed) as device:
            device.write(0, words(encode(
                Unit.POST, p2=1, p1=1, p0=4, as0=1, w1=1, w0=1, out_fp32=1, out_base=0x5000,
                o_len=8, o_n1=1, o_n2=1), END))
            device.run(0)
            seen.add(device.read(0x5000, 32))
    assert len(seen) == 3


def test_trace(tmp_path):
    path = tmp_path / "trace.vcd"
    with RTLDevice(CONFIG, SIZE, trace=path) as device:
        works(device)
        cycles = device.harness.cycles
    text = path.read_text()
    assert "m_axi_araddr" in text
    assert f"#{10 * cycles - 5}\n" in text


@pytest.mark.parametrize("size, error", [(0, ValueError), (2**32 + 1, ValueError),
                                         (4.0, TypeError)])
def test_memory_size_is_validated(size, error):
    with pytest.raises(error, match=f"memory_size must be .*, not {size}"):
        RTLDevice(CONFIG, size)


def test_memory_beyond_the_addresses_is_refused():
    config = dataclasses.replace(CONFIG, addr_bits=17)
    with pytest.raises(ValueError, match="^memory_size must be at most 131072 as addr_bits is 17, "
                                         "not 131076$"):
        RTLDevice(config, (1 << 17) + 4)


def test_use_after_close():
    device = RTLDevice(CONFIG, SIZE)
    device.close()
    device.close()
    for use in (lambda: device.run(0), lambda: device.read(0, 4), lambda: device.write(0, b"1234")):
        with pytest.raises(ValueError, match="the device is closed"):
            use()
