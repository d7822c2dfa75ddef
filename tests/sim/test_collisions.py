"""No result depends on what a memory gives for a word that is written in the same cycle.

Bitstreams are made without the logic that Yosys adds for that (OPTIONS in hw/ecp5.py and
hw/ice40.py). A simulated
memory gives the old word; here it gives the new one, and still everything equals the model.
"""

from dataclasses import replace

import pytest
from amaranth.lib import memory
from gradgate.errors import DeviceError
from gradgate.hw import top
from gradgate.hw.config import Config
from gradgate.sim import verilate
from gradgate.sim.model import ModelDevice
from gradgate.sim.rtl import MemoryTiming, RTLDevice

from tests.sim.programs import MEMORY, Generator

CONFIG = Config(tm=2, tn=4, beat_bits=32, a_depth=32, b_depth=64, acc_depth=32, max_burst=8)


@pytest.fixture(params=[CONFIG, replace(CONFIG, core="micro")], ids=lambda config: config.core)
def device(request, monkeypatch):
    ports, read_port, write_port = [], memory.Memory.read_port, memory.Memory.write_port

    def write(self, **options):
        port = write_port(self, **options)
        ports.append((self, port))
        return port

    def read(self, *, domain="sync", **options):
        if domain == "sync":
            options["transparent_for"] = [port for of, port in ports if of is self]
        return read_port(self, domain=domain, **options)

    monkeypatch.setattr(memory.Memory, "write_port", write)
    monkeypatch.setattr(memory.Memory, "read_port", read)
    config = request.param
    other = top.verilog(config)
    monkeypatch.undo()
    assert other != top.verilog(config)
    path = verilate.build("collisions", other, defines={"BEAT_BYTES": config.beat_bytes})
    monkeypatch.setattr(verilate, "library", lambda config, **_: path)
    with RTLDevice(config, MEMORY, MemoryTiming(stall=0.3)) as device:
        yield device


def outcome(device, image):
    """(kind of exception or None, memory) after running `image`."""
    device.write(0, image)
    try:
        device.run(0, timeout=20_000)
    except DeviceError as error:
        return type(error), device.read(0, MEMORY)
    return None, device.read(0, MEMORY)


def test_collisions(device):
    model = ModelDevice(device.config, MEMORY, check=device.config.core == "units")
    for seed in range(100):
        generator = Generator(device.config, seed)
        generator.grow(40)
        image = generator.image()
        assert outcome(device, image) == outcome(model, image), generator.listing()
