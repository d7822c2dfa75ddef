"""The whole design of the iCEBreaker, trained on the digits by the driver of serial ports."""

from dataclasses import replace

import gradgate
import pytest
from gradgate.boards import board
from gradgate.nets import net
from gradgate.sim.board import BoardSimulation

from tests.sim.training import trained

BOARD = board("icebreaker")
NET, BATCH = "digits-small", 8


@pytest.mark.parametrize("steps", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_training(steps):
    """Losses and weights equal to the model's, bit for bit; all of it in 128 KiB."""
    with BoardSimulation(BOARD) as simulation:
        with gradgate.device(simulation.url, board=BOARD) as device:
            found = trained(device, NET, BATCH, steps)
            cycles = device.resident.counters["backward"].cycles
            assert device.link.statistics.repeated == 0
    assert found == trained(gradgate.device("model", board=BOARD), NET, BATCH, steps)
    assert sum(p.numel() for p in net(NET)[0].parameters()) >= 2000
    assert steps * 2_000_000 < cycles < steps * 4_000_000


def test_another_core_is_refused():
    """A host that expects the large core with the same array is told what differs."""
    other = replace(BOARD, config=replace(BOARD.config, core="units"))
    with BoardSimulation(BOARD) as simulation:
        with pytest.raises(gradgate.DeviceError, match="core is micro, not units$"):
            gradgate.device(simulation.url, board=other)
