"""The whole design of the iCEBreaker, trained on the digits by the driver of serial ports."""

from dataclasses import replace

import gradgate
import pytest
import torch
from gradgate.boards import board
from gradgate.data import digits
from gradgate.nets import net
from gradgate.sim.board import BoardSimulation

BOARD = board("icebreaker")
BATCH = 8


def trained(device, steps):
    """(losses, state) of digits-small after so many steps."""
    torch.manual_seed(0)
    (images, labels), _ = digits()
    model = gradgate.compile(net("digits-small")[0], example_inputs=(images[:BATCH],),
                             device=device)
    assert sum(p.numel() for p in model.parameters()) >= 2000
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = [float(model.train_step(x, y, optimizer=optimizer))
              for x, y in zip(images.split(BATCH)[:steps], labels.split(BATCH), strict=False)]
    return losses, {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("steps", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_training(steps):
    """Losses and weights equal to the model's, bit for bit; all of it in 128 KiB."""
    with BoardSimulation(BOARD) as simulation:
        with gradgate.device(simulation.url, board=BOARD) as device:
            found = trained(device, steps)
            cycles = device.resident.counters["backward"].cycles
            assert device.link.statistics.repeated == 0
    assert found == trained(gradgate.device("model", board=BOARD), steps)
    assert steps * 2_000_000 < cycles < steps * 4_000_000


def test_another_core_is_refused():
    """A host that expects the large core with the same array is told what differs."""
    other = replace(BOARD, config=replace(BOARD.config, core="units"))
    with BoardSimulation(BOARD) as simulation:
        with pytest.raises(gradgate.DeviceError, match="core is micro, not units$"):
            gradgate.device(simulation.url, board=other)
