"""The gateware's cycles against the analytical model: whole training steps, pass by pass."""

from dataclasses import replace

import gradgate
import pytest
import torch
import torch.nn.functional as F
from gradgate import nets
from gradgate.profile import pass_macs, pass_times
from gradgate.timeline import predict
from torch import nn

PASS = 0.01  # error of a pass
# where each POST waits for the one before, and a refresh or a burst of the program may hit either
CHAINS = 0.02
SHORT, CYCLES = 5000, 50  # a shorter pass may be so many cycles off
TOTAL = 0.005  # error of a step
ULX3S = 0.02  # error of a step behind the one bus of ulx3s-85f


def three_by_three():
    """3x3 convolutions with stride 2, of even and odd maps."""
    return nn.Sequential(nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 2, 1),
                         nn.ReLU(), nn.Flatten(), nn.Linear(64 * 7 * 7, 10)), (32, 28, 28)


def one_by_one():
    return nn.Sequential(nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Conv2d(64, 128, 1), nn.ReLU(),
                         nn.Conv2d(128, 16, 1), nn.ReLU(), nn.Flatten(),
                         nn.Linear(16 * 14 * 14, 10)), (64, 14, 14)


def step(net, shape, where, batch, **assumed):
    """(pass, measured cycles, predicted cycles) of a fused training step on the gateware;
    predicted for its memory, but with the parameters of MemoryTiming that are `assumed`."""
    torch.manual_seed(0)
    x, y = torch.randn(batch, *shape), torch.randint(10, (batch,))
    with gradgate.device("rtl", board=where) as device:
        model = gradgate.compile(net, (x,), device)
        optimizer = gradgate.optim.SGD(model.parameters(), lr=0.001)
        model.train_step(x, y, F.cross_entropy, optimizer=optimizer)
        macs = pass_macs(model.runtime.network, batch)
        rows = []
        for program, _, measured in model.runtime.ran.values():
            if measured.records is None:
                continue
            found = predict(program, device.config, replace(device.timing, **assumed))
            sides = [pass_times(program, device.config, macs, run.records, run.cycles)
                     for run in (measured, found)]
            rows += [((a.layer, a.kind), a.cycles, b.cycles) for a, b in zip(*sides, strict=True)]
    assert {kind for (_, kind), *_ in rows} >= {"forward", "dX", "dW"}
    return rows


def close(measured, predicted, bound=PASS):
    least = CYCLES * bound / PASS
    return abs(predicted - measured) <= (least if measured < SHORT else bound * measured)


def total_error(rows):
    measured, predicted = (sum(column) for column in list(zip(*rows, strict=True))[1:])
    return predicted / measured - 1


NETWORKS = {
    "lenet10": lambda: nets.net("lenet10"),
    "1x": lambda: nets.net("1x"),
    "stride": three_by_three,
    "1x1": one_by_one,
}


@pytest.mark.parametrize("name, batch, chains, off", [
    ("lenet10", 1, [], [("conv1", "dW")]), ("1x", 1, [], [("conv5", "dX")]),
    ("stride", 2, [("5", "dX")], []), ("1x1", 2, "all", [])])
def test_every_pass_on_zcu102(name, batch, chains, off):
    """All but those `off`, known to be 1.1 and 1.2 % short: a refresh falls into a pass or into the
    one beside it. Others may not be, and these not become right unnoticed."""
    net, shape = NETWORKS[name]()
    rows = step(net, shape, "zcu102", batch)
    wrong = [(which, *cycles) for which, *cycles in rows
             if not close(*cycles, CHAINS if chains == "all" or which in chains else PASS)]
    assert [which for which, *_ in wrong] == off, wrong
    assert all(close(*cycles, CHAINS) for _, *cycles in wrong)
    assert abs(total_error(rows)) <= TOTAL


@pytest.mark.parametrize("name, batch", [("digits", 8), ("digits", 48), ("1x", 2)])
def test_a_step_on_ulx3s(name, batch):
    """One bus for everything, so the channel sets the pace, not the array."""
    net, shape = nets.net(name)
    assert abs(total_error(step(net, shape, "ulx3s-85f", batch))) <= ULX3S


def test_a_wrong_model_is_found_out():
    """Predicted for a memory of twice the latency, or of three quarters of the bandwidth, a step
    is outside the bounds."""
    for wrong in ({"latency": 80}, {"beat_cycles": 1.33}):
        rows = step(*nets.net("lenet10"), "zcu102", 1, **wrong)
        assert abs(total_error(rows)) > TOTAL
        assert not all(close(*row[1:]) for row in rows)


@pytest.mark.parametrize("measured, predicted, good", [
    (4999, 5049, True), (4999, 5050, False), (5000, 5050, True), (5000, 5051, False),
    (20000, 19800, True), (20000, 19799, False), (100, 49, False)])
def test_bounds_of_a_pass(measured, predicted, good):
    assert close(measured, predicted) == good
