"""Training as a whole: the gateware against the model, and the model against PyTorch."""

import json

import gradgate
import pytest
import torch
import torch.nn.functional as F
from gradgate.cli import main
from gradgate.data import digits
from gradgate.nets import digits_cnn
from gradgate.sim.rtl import MemoryTiming

EPOCHS, BATCH, RATE = 6, 48, 0.15


def train(model, optimizer, step, steps=None):
    """Train `model` on the digits in a fixed order; returns the held-out accuracy."""
    (x, y), (x_test, y_test) = digits()
    order = torch.Generator().manual_seed(1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=RATE, total_steps=EPOCHS * -(-len(x) // BATCH), pct_start=0.2,
        cycle_momentum=False)
    batches = [batch for _ in range(EPOCHS)
               for batch in torch.randperm(len(x), generator=order).split(BATCH)]
    for batch in batches[:steps]:
        step(x[batch], y[batch])
        schedule.step()
    model.eval()
    with torch.no_grad():
        return (model(x_test).argmax(1) == y_test).double().mean().item()


def on_device(network, device, steps=None):
    """(accuracy, state_dict) of fused training on `device`."""
    model = gradgate.compile(network, example_inputs=(torch.zeros(1, 1, 8, 8),), device=device)
    optimizer = gradgate.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    accuracy = train(model, optimizer, lambda x, y: model.train_step(x, y, optimizer=optimizer),
                     steps)
    return accuracy, model.state_dict()


@pytest.mark.parametrize("board, points", [("zcu102", 0.5), ("ulx3s-85f", 1.0)],
                         ids=["fp32", "bf16"])
def test_training_follows_pytorch(board, points):
    torch.manual_seed(2)
    network = digits_cnn()
    with gradgate.device("model", board=board, memory_size=16 << 20) as device:
        ours, _ = on_device(network, device)

    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()

    theirs = train(network, optimizer, step)
    assert min(ours, theirs) > 0.96
    assert abs(ours - theirs) <= points / 100 + 1e-9, f"{ours:.4f}, PyTorch {theirs:.4f}"


def test_gateware_trains_to_the_bits_of_the_model():
    torch.manual_seed(3)
    network = digits_cnn()
    with gradgate.device("model", board="ulx3s-85f", memory_size=4 << 20) as device:
        wanted = on_device(network, device, steps=4)
    with gradgate.device("rtl", board="ulx3s-85f", memory_size=4 << 20,
                         timing=MemoryTiming(latency=20, stall=0.1), seed=5) as device:
        got = on_device(network, device, steps=4)
    assert got[0] == wanted[0]
    for name, value in wanted[1].items():
        assert not torch.equal(value, network.state_dict()[name]), f"{name} has not been trained"
        assert torch.equal(value, got[1][name]), name


@pytest.mark.slow
def test_the_smallest_trainer_learns(tmp_path):
    """As in the README, within the 128 KiB of the iCEBreaker."""
    main(["train", "--net", "digits-small", "--device", "model", "--board", "icebreaker",
          "--epochs", "8", "--batch", "8", "--lr", "0.02", "--out", str(tmp_path),
          "--json", str(tmp_path / "result.json")])
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["parameters"] >= 2000 and result["test_accuracy"] >= 0.95
