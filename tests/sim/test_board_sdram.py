"""The design of the ULX3S, all of it: its SDRAM behind LiteDRAM, trained by the driver of serial
ports."""

import time

import gradgate
import pytest
from gradgate import dram
from gradgate.sim.board import BoardSimulation

from tests.sim.training import trained

BOARD = gradgate.board("ulx3s-85f")
STEPS = "digits", 4, 20  # network, batch, steps
pytestmark = pytest.mark.skipif(not dram.available(), reason="no LiteDRAM")


@pytest.fixture(scope="module")
def simulation():
    with BoardSimulation(BOARD) as simulation:
        yield simulation


def test_training(simulation):
    """Losses and weights equal to the model's, no rule of the chip broken."""
    with gradgate.device(simulation.url, board=BOARD) as device:
        found = trained(device, *STEPS)
        assert (device.link.statistics.damaged, device.link.statistics.ignored) == (0, 0)
    assert found == trained(gradgate.device("model", board=BOARD), *STEPS)
    assert simulation.alive


def test_all_address_bits(simulation):
    """Columns, banks and rows are told apart, up to the last words."""
    places = {1 << bit: bytes([bit]) * 64 for bit in range(6, 25)}
    places |= {0: b"0" * 64, BOARD.memory_size - 64: b"end." * 16}
    with gradgate.device(simulation.url, board=BOARD) as device:
        for place, data in places.items():
            device.write(place, data)
        for place, data in places.items():
            assert device.read(place, 64) == data, hex(place)
        with pytest.raises(gradgate.GradgateError):
            device.read(BOARD.memory_size - 32, 64)


def test_a_rule_of_the_chip_that_is_broken_ends_the_simulation():
    """At a tenth of the clock it was made for, LiteDRAM refreshes too late."""
    with pytest.raises(gradgate.DeviceError, match="rows not refreshed in time"):
        with BoardSimulation(BOARD, chip_hz=BOARD.clock_hz / 10) as simulation:
            end = time.monotonic() + 120
            while simulation.alive and time.monotonic() < end:
                time.sleep(0.1)
