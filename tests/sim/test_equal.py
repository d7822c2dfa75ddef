"""The gateware equals the model bit for bit: random programs, random memory timing."""

import pytest
from gradgate.errors import DeviceError
from gradgate.hw.config import Config
from gradgate.sim.model import ModelDevice
from gradgate.sim.rtl import MemoryTiming, RTLDevice
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from tests.sim.programs import MEMORY, Generator

CONFIGS = [
    Config(tm=2, tn=4, beat_bits=32, a_depth=32, b_depth=64, acc_depth=32, max_burst=8),
    Config(tm=4, tn=8, beat_bits=64, a_depth=64, b_depth=64, acc_depth=64, max_burst=16,
           read_ports=3, write_ports=2),
    Config(tm=4, tn=4, fmt="fp32", beat_bits=128, a_depth=64, b_depth=32, acc_depth=32,
           max_burst=16, write_ports=2),
]
TIMINGS = [
    MemoryTiming(latency=1),
    MemoryTiming(stall=0.3),
    MemoryTiming(latency=50, beat_cycles=2.5, shared=True),
    MemoryTiming(latency=7, stall=0.7, outstanding=1),
]


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda c: c.name)
def devices(request):
    """The model, and the gateware behind memories of different timing."""
    config = request.param
    rtl = [RTLDevice(config, MEMORY, timing, seed) for seed, timing in enumerate(TIMINGS)]
    yield ModelDevice(config, MEMORY, check=True), rtl
    for device in rtl:
        device.close()


def outcome(device, image):
    """(kind of exception or None, memory, counters) after running `image`."""
    device.write(0, image)
    try:
        counters, error = device.run(0, timeout=20_000), None
    except DeviceError as exception:
        counters, error = None, type(exception)
    return error, device.read(0, MEMORY), counters


@settings(max_examples=60, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(0, 30), timing=st.sampled_from(range(4)))
@example(seed=1, length=100, timing=1)
@example(seed=2, length=100, timing=2)
def test_random_programs(devices, seed, length, timing):
    model, rtl = devices
    generator = Generator(model.config, seed)
    generator.grow(length)
    note(generator.listing())
    image = generator.image()
    error, memory, counters = outcome(model, image)
    rtl_error, rtl_memory, rtl_counters = outcome(rtl[timing], image)
    wrong = [hex(i) for i in range(0, MEMORY, 4) if memory[i:i + 4] != rtl_memory[i:i + 4]]
    assert not wrong, f"{len(wrong)} words differ, the first at {wrong[:8]}"
    assert rtl_error == error
    if error is None:
        assert rtl_counters.instructions == counters.instructions
        assert rtl_counters.active == counters.active
        assert rtl_counters.write_bytes == counters.write_bytes


@pytest.mark.slow
def test_many_long_programs(devices):
    model, rtl = devices
    for seed in range(1000):
        generator = Generator(model.config, seed)
        generator.grow(60)
        image = generator.image()
        assert outcome(rtl[seed % 4], image)[:2] == outcome(model, image)[:2], f"seed {seed}"


def test_a_difference_is_seen(devices):
    """The comparison itself: one bit of one operand changes what both compute, in the same way."""
    model, rtl = devices
    generator = Generator(model.config, 5)
    generator.grow(30)
    image = generator.image()
    fields = next(x.fields for x in generator.program if "d_base" in x.fields)
    changed = bytearray(image)
    for address in range(fields["d_base"], fields["d_base"] + 64):
        changed[address] ^= 0x40
    error, memory, _ = outcome(model, image)
    _, other, _ = outcome(rtl[0], bytes(changed))
    assert memory[0xc000:] != other[0xc000:]
    assert outcome(rtl[0], image)[:2] == (error, memory)
