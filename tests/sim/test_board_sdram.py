"""The design of the ULX3S, all of it: its SDRAM behind LiteDRAM, trained by the driver of serial
ports."""

import time

import gradgate
import pytest
import torch
from gradgate import dram, nets
from gradgate.sim.board import BoardSimulation
from sklearn.datasets import load_digits

BOARD = gradgate.board("ulx3s-85f")
BATCH, STEPS = 4, 20
pytestmark = pytest.mark.skipif(not dram.available(), reason="no LiteDRAM")


@pytest.fixture(scope="module")
def simulation():
    with BoardSimulation(BOARD) as simulation:
        yield simulation


def trained(device):
    """(losses, state) of the network of `gradgate train` after some steps with the digits."""
    torch.manual_seed(0)
    net, shape = nets.net("digits")
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:BATCH * STEPS], dtype=torch.float32).reshape(STEPS, BATCH, *shape) / 16
    y = torch.tensor(labels[:BATCH * STEPS]).reshape(STEPS, BATCH)
    model = gradgate.compile(net, (x[0],), device)
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = [float(model.train_step(a, b, optimizer=optimizer))
              for a, b in zip(x, y, strict=True)]
    return losses, {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def test_training(simulation):
    """Losses and weights equal to the model's, no rule of the chip broken."""
    with gradgate.device(simulation.url, board=BOARD) as device:
        found = trained(device)
        assert (device.link.statistics.damaged, device.link.statistics.ignored) == (0, 0)
    assert found == trained(gradgate.device("model", board=BOARD))
    assert simulation.alive


def test_all_of_memory(simulation):
    """The first and the last words of each bank and row count; nothing lies twice."""
    places = [0, 1 << 10, 1 << 12, 1 << 20, BOARD.memory_size // 2, BOARD.memory_size - 64]
    with gradgate.device(simulation.url, board=BOARD) as device:
        for place in places:
            device.write(place, place.to_bytes(8, "little") * 8)
        for place in places:
            assert device.read(place, 64) == place.to_bytes(8, "little") * 8
        with pytest.raises(gradgate.GradgateError):
            device.read(BOARD.memory_size - 32, 64)


def test_a_rule_of_the_chip_that_is_broken_ends_the_simulation():
    """At a tenth of the clock it was made for, LiteDRAM refreshes too late."""
    with pytest.raises(gradgate.DeviceError, match="rows not refreshed in time"):
        with BoardSimulation(BOARD, chip_hz=BOARD.clock_hz / 10) as simulation:
            while simulation.alive:
                time.sleep(0.1)
