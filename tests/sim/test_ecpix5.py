"""The design of the ECPIX-5, whose memory is block RAM, trained by the driver of serial ports."""

import gradgate
from gradgate.sim.board import BoardSimulation

from tests.sim.training import trained

BOARD = gradgate.board("ecpix5-85f")
STEPS = "digits-small", 4, 3  # network, batch, steps


def test_training():
    """Losses and weights equal to the model's, bit for bit."""
    with BoardSimulation(BOARD) as simulation:
        with gradgate.device(simulation.url, board=BOARD) as device:
            found = trained(device, *STEPS)
    assert found == trained(gradgate.device("model", board=BOARD), *STEPS)
