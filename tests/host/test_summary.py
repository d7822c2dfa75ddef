"""What is counted from a program is what a device counts when it runs it."""

import gradgate
import pytest
import torch
import torch.nn.functional as F
from gradgate.hw.config import Config
from gradgate.hw.isa import BYTES
from gradgate.sim.model import ModelDevice
from gradgate.summary import Usage, summarise
from torch import nn

from tests.host.nets import CONFIGS, config_id

BATCH = 3


def trained(config, layers, momentum):
    """A compiled network that has done one fused step."""
    torch.manual_seed(0)
    net = nn.Sequential(*layers)
    x, y = torch.randn(BATCH, 3, 11, 9), torch.randint(0, 4, (BATCH,))
    model = gradgate.compile(net, (x,), ModelDevice(config, 4 << 20))
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
    model.train_step(x, y, lambda out, y: F.cross_entropy(out.flatten(1), y), optimizer=optimizer)
    return model


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("config", CONFIGS, ids=config_id)
def test_bytes_and_instructions(config, momentum):
    """Of everything that moves data: pooling in and between layers, masks, average, updates."""
    model = trained(config, [
        nn.Conv2d(3, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 3), nn.Conv2d(10, 5, 2),
        nn.MaxPool2d(2, 1), nn.ReLU(), nn.AvgPool2d((2, 1)), nn.Flatten(), nn.Linear(5, 4),
        nn.ReLU()], momentum)
    programs, _ = model.runtime.step_programs(BATCH, momentum=bool(momentum))
    for program, counters in zip(programs, model.profile().values(), strict=True):
        total = sum_of(program, config)
        assert sum(counters.instructions.values()) == total.instructions
        assert counters.write_bytes == total.write_bytes
        fetched = counters.read_bytes - total.read_bytes  # END, and the rest of its block
        assert BYTES <= fetched <= 4 * BYTES


def test_tags_of_a_network_that_ends_in_a_pooling():
    """They are operands, while the output is fp32."""
    config = Config()
    model = trained(config, [nn.Conv2d(3, 4, 9, padding=(0, 4)), nn.MaxPool2d((3, 9))], 0.0)
    total = sum_of(model.runtime.step_programs(BATCH)[0][0], config)
    assert total.write_bytes == BATCH * config.tm * (4 + 2)
    assert model.profile()["forward"].write_bytes == total.write_bytes


def sum_of(program, config):
    total = Usage()
    for usage in summarise(program, config).values():
        total += usage
    return total
