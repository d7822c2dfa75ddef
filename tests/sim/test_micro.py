"""The small core equals the model bit for bit: random programs, memory that stalls, errors."""

import pytest
from gradgate.errors import BusError, DeviceError, DeviceTimeout, NumericError, ProgramError
from gradgate.hw.config import Config
from gradgate.hw.isa import Unit, encode
from gradgate.sim.model import ModelDevice
from gradgate.sim.rtl import MemoryTiming, RTLDevice
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from tests.sim.programs import MEMORY, Generator

CONFIG = Config(tm=2, tn=4, beat_bits=32, a_depth=32, b_depth=64, acc_depth=32, max_burst=8,
                core="micro")
TIMINGS = [MemoryTiming(latency=1), MemoryTiming(latency=7, stall=0.5)]
DATA = 0x4000


@pytest.fixture(scope="module")
def devices():
    """The model, and the gateware behind memories of different timing."""
    rtl = [RTLDevice(CONFIG, MEMORY, timing, seed) for seed, timing in enumerate(TIMINGS)]
    yield ModelDevice(CONFIG, MEMORY), rtl
    for device in rtl:
        device.close()


def outcome(device, image):
    """(kind of exception or None, memory, counters) after running `image`."""
    device.write(0, image)
    try:
        counters, error = device.run(0), None
    except DeviceError as exception:
        counters, error = None, type(exception)
    return error, device.read(0, MEMORY), counters


def compare(devices, seed, length, timing):
    generator = Generator(CONFIG, seed)
    generator.grow(length)
    image = generator.image()
    error, memory, counters = outcome(devices[0], image)
    rtl_error, rtl_memory, rtl_counters = outcome(devices[1][timing], image)
    wrong = [hex(i) for i in range(0, MEMORY, 4) if memory[i:i + 4] != rtl_memory[i:i + 4]]
    assert not wrong, (f"seed {seed}: {len(wrong)} words differ, the first at {wrong[:8]}\n"
                       f"{generator.listing()}")
    assert rtl_error == error
    if error is None:
        assert rtl_counters.instructions == counters.instructions
        assert rtl_counters.active["COMPUTE"] == counters.active["COMPUTE"]


@settings(max_examples=60, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(0, 30), timing=st.sampled_from((0, 1)))
@example(seed=1, length=100, timing=1)
@example(seed=2, length=100, timing=0)
def test_random_programs(devices, seed, length, timing):
    note(f"seed {seed}, {length} instructions")
    compare(devices, seed, length, timing)


@pytest.mark.slow
def test_many_long_programs(devices):
    for seed in range(1000):
        compare(devices, seed, 60, seed % 2)


def image(*instructions):
    return b"".join(word.to_bytes(4, "little") for words in instructions for word in words)


def copied(address, **more):
    """A POST that copies two fp32 numbers to memory."""
    return encode(Unit.POST, src_mem=1, src_fp32=1, out_fp32=1, p2=1, p1=1, p0=1,
                  src_base=DATA, out_base=address, o_len=2, o_n1=1, o_n2=1, **more)


END = encode(Unit.END)
UNKNOWN = [7, *[0] * 15]
LARGE, SMALL, INFINITE = 0x7f000000, 0x3f800000, 0x7f800000


@pytest.mark.parametrize("instructions, numbers, error, text", [
    ([copied(DATA + 8, wait=1), END], [SMALL] * 2, DeviceTimeout, "POST: waiting for tokens"),
    ([copied(DATA + 8, signal=1), END], [SMALL] * 2, ProgramError, "tokens left at the end"),
    ([copied(DATA + 8), UNKNOWN], [SMALL] * 2, ProgramError, "unknown unit"),
    ([copied(MEMORY), END], [SMALL] * 2, BusError, "memory answered an access with an error"),
    ([copied(DATA + 8), END], [SMALL, INFINITE], NumericError, "an infinity or NaN was read"),
    ([copied(DATA + 8, scale=1, imm0=LARGE), END], [LARGE] * 2, NumericError, "overflowed"),
    ([encode(Unit.LOAD_A, signal=8)] * 256 + [END], [], ProgramError, "a token counter overflowed"),
], ids=["deadlock", "left", "unknown", "bus", "infinite", "overflow", "tokens"])
def test_errors(devices, instructions, numbers, error, text):
    """Each is reported as by the large core, and the device works afterwards."""
    device = devices[1][0]
    device.write(0, bytes(MEMORY))
    device.write(0, image(*instructions))
    device.write(DATA, image(numbers))
    with pytest.raises(error, match=text):
        device.run(0)
    device.write(0, image(copied(DATA + 8), END))
    device.write(DATA, image([SMALL, LARGE]))
    counters = device.run(0)
    assert device.read(DATA + 8, 8) == image([SMALL, LARGE])
    assert counters.instructions == {"LOAD_A": 0, "LOAD_B": 0, "COMPUTE": 0, "POST": 1}
    start, done = (int(counters.records["POST"][name][0]) for name in ("start", "done"))
    assert 0 < start < done < counters.cycles < 1000


def test_constants_are_no_numbers(devices):
    """An infinite constant counts as zero and sets no flag."""
    device = devices[1][0]
    device.write(0, image(copied(DATA + 8, scale=1, imm0=INFINITE), END))
    device.write(DATA, image([SMALL, SMALL]))
    device.run(0)
    assert device.read(DATA + 8, 8) == bytes(8)


def test_reset_in_a_program(devices):
    """Whenever it comes, the next program runs as if nothing had been."""
    model, (device, _) = devices
    generator = Generator(CONFIG, 3)
    generator.grow(40)
    wanted = outcome(model, generator.image())[:2]
    for cycles in range(1, 4000, 333):
        device.write(0, generator.image())
        device._set("PROG_ADDR", 0)
        device._set("CTRL", 1)
        device.harness.run(cycles)
        device._set("CTRL", 2)
        while device._get("STATUS"):
            pass
        assert device._get("FETCHED") == 0
        assert outcome(device, generator.image())[:2] == wanted
