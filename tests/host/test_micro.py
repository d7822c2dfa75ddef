"""Predicted cycles of the small core against the gateware."""

from types import SimpleNamespace

import gradgate
import pytest
import torch
import torch.nn.functional as F
from gradgate.boards import board
from gradgate.device import UNITS
from gradgate.micro import LATENCY, predict
from gradgate.sim.rtl import MemoryTiming, RTLDevice
from torch import nn

CONFIG = board("icebreaker").config
NETS = {
    "pooled": (nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(24, 10)), (3, 1, 8, 8)),
    "overlapping": (nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(3, stride=2), nn.Conv2d(6, 8, 3, padding=1),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 3)), (2, 4, 11, 11)),
    "linear": (nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 12)), (16, 20)),
}


class Recorder(RTLDevice):
    """Keeps the programs that it has run, with their counters."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.runs = []

    def run(self, address, **options):
        counters = super().run(address, **options)
        program = []
        while True:
            data = self.read(address + 64 * len(program), 64)
            words = [int.from_bytes(data[k:k + 4], "little") for k in range(0, 64, 4)]
            fields = gradgate.hw.isa.decode(words)
            if fields["unit"] == gradgate.hw.isa.Unit.END:
                break
            program.append((fields["unit"], fields))
        self.runs.append((SimpleNamespace(instructions=program), counters))
        return counters


@pytest.mark.parametrize("latency", [LATENCY, 9])
@pytest.mark.parametrize("name", NETS)
def test_programs_within_two_percent(name, latency):
    """Within 5 % with a memory that is slower; instructions within 6 %, or 20 cycles."""
    network, shape = NETS[name]
    timing = MemoryTiming(latency=latency)
    with Recorder(CONFIG, 1 << 20, timing) as device:
        x = torch.randn(shape)
        model = gradgate.compile(network, example_inputs=(x,), device=device)
        optimizer = gradgate.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        y = torch.zeros(shape[0], dtype=torch.long)
        model.train_step(x, y, optimizer=optimizer)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert len(device.runs) >= 4
    for program, counters in device.runs:
        found = predict(program, CONFIG, timing)
        assert abs(found.cycles / counters.cycles - 1) < (0.02 if latency == LATENCY else 0.05)
        if latency != LATENCY:
            continue
        for unit in UNITS:
            wanted, got = ((r["done"] - r["start"]).astype(float)
                           for r in (counters.records[unit], found.records[unit]))
            assert (abs(got - wanted) < 0.06 * wanted + 20).all()
