"""SGD: hyperparameters, schedulers, groups."""

import gradgate
import pytest
import torch
from gradgate.hw.config import Config
from gradgate.sim.model import ModelDevice
from torch import nn

FP32 = Config(tm=4, tn=8, fmt="fp32", beat_bits=64)


def compiled(config=None):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    return gradgate.compile(net, (torch.zeros(1, 6),), ModelDevice(config or Config(), 1 << 20))


def step(model, optimizer, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(4, 6, generator=generator), torch.randint(0, 3, (4,), generator=generator)
    return model.train_step(x, y, optimizer=optimizer)


@pytest.mark.parametrize(("options", "error", "match"), [
    ({"lr": "0.1"}, TypeError, "lr must be a number, not '0.1'"),
    ({"lr": True}, TypeError, "lr must be a number"),
    ({"lr": torch.tensor(0.1)}, TypeError, "lr must be a number"),
    ({"lr": -0.1}, ValueError, "lr must be finite and at least 0, not -0.1"),
    ({"lr": float("nan")}, ValueError, "lr must be finite"),
    ({"lr": 0.1, "momentum": None}, TypeError, "momentum must be a number"),
    ({"lr": 0.1, "weight_decay": -1}, ValueError, "weight_decay must be"),
])
def test_bad_hyperparameters(options, error, match):
    model = compiled()
    with pytest.raises(error, match=match):
        gradgate.optim.SGD(model.parameters(), **options)


def test_bad_learning_rate_later():
    model = compiled()
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.1)
    before = model.state_dict()
    optimizer.param_groups[0]["lr"] = "0.1"
    with pytest.raises(TypeError, match="lr must be a number"):
        step(model, optimizer)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_only_parameters_of_one_compiled_model():
    with pytest.raises(TypeError, match="compiled model"):
        gradgate.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="one compiled model"):
        gradgate.optim.SGD([*compiled().parameters(), *compiled().parameters()], lr=0.1)
    optimizer = gradgate.optim.SGD(compiled().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="another model"):
        step(compiled(), optimizer)


def test_scheduler_changes_what_the_device_does():
    model, twin = compiled(), compiled()
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    other = gradgate.optim.SGD(twin.parameters(), lr=0.5)
    for n in range(3):
        step(model, optimizer, n)
        schedule.step()
        other.param_groups[0]["lr"] = 0.5 ** (n + 1)
        step(twin, other, n)
        assert all(torch.equal(v, twin.state_dict()[k]) for k, v in model.state_dict().items())
    constant = compiled()
    third = gradgate.optim.SGD(constant.parameters(), lr=0.5)
    for n in range(3):
        step(constant, third, n)
    assert not torch.equal(constant.state_dict()["0.weight"], model.state_dict()["0.weight"])


def test_groups():
    model = compiled()
    first, last = list(model.parameters())[:2], list(model.parameters())[2:]
    optimizer = gradgate.optim.SGD([{"params": first, "lr": 0.0}, {"params": last}], lr=0.1)
    before = model.state_dict()
    step(model, optimizer)
    assert {k: torch.equal(v, before[k]) for k, v in model.state_dict().items()} == {
        "0.weight": True, "0.bias": True, "2.weight": False, "2.bias": False}
    del optimizer.param_groups[0]["params"][1]
    optimizer.param_groups[1]["params"].append(first[1])
    with pytest.raises(ValueError, match="0: weight and bias"):
        step(model, optimizer)


def test_momentum_begins_at_zero_when_switched_on():
    """As in PyTorch, which keeps no buffer without momentum."""
    model = compiled(FP32)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    net.load_state_dict(model.state_dict())
    ours = gradgate.optim.SGD(model.parameters(), lr=0.1)
    theirs = torch.optim.SGD(net.parameters(), lr=0.1)
    for n in range(4):
        ours.param_groups[0]["momentum"] = theirs.param_groups[0]["momentum"] = 0.9 * (n >= 2)
        x, y = torch.ones(4, 6) * (n + 1), torch.arange(4) % 3
        model.train_step(x, y, optimizer=ours)
        theirs.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        theirs.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_closure():
    model = compiled()
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(2, 6)).square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) > optimizer.step(closure)


def groups(parameters):
    """Groups of the parameters of `compiled()`, one per layer."""
    parameters = list(parameters)
    return [{"params": parameters[:2]}, {"params": parameters[2:]}]


@pytest.mark.parametrize("config", [FP32, Config()], ids=lambda c: c.fmt)
@pytest.mark.parametrize("momenta", [
    [0.9, 0.9, 0.9], [0, 0, 0.9, 0.9], [0.9, 0.9, 0, 0, 0.9, 0.9], [0, 0.9, 0, 0.5],
    [(0.9, 0), (0.9, 0), (0, 0.9), (0, 0.9), (0.5, 0.5)], [(0, 0.9), (0, 0), (0, 0.9)]], ids=str)
def test_momentum_switched_on_and_off(momenta, config):
    """Weights and momenta as of torch.optim.SGD, from random gradients; momenta for all layers, or
    for each."""
    model = compiled(config)
    theirs = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    reference = torch.optim.SGD(groups(theirs.values()), lr=0.1, weight_decay=0.01)
    optimizer = gradgate.optim.SGD(groups(model.parameters()), lr=0.1, weight_decay=0.01)
    generator = torch.Generator().manual_seed(0)
    for momentum in momenta:
        for one in (reference, optimizer):
            for i, group in enumerate(one.param_groups):
                group["momentum"] = momentum[i] if isinstance(momentum, tuple) else momentum
        for name, p in model.named_parameters():
            p.grad = torch.randn(p.shape, generator=generator)
            theirs[name].grad = p.grad.clone()
        optimizer.step()
        reference.step()
        for name, p in model.named_parameters():
            torch.testing.assert_close(p.detach(), theirs[name].detach(), rtol=1e-6, atol=1e-6)
        state = optimizer.state_dict()["state"]
        for i, p in enumerate(theirs.values()):
            buffer = reference.state[p].get("momentum_buffer")
            wanted = torch.zeros_like(p) if buffer is None else buffer
            torch.testing.assert_close(state[i]["momentum_buffer"], wanted, rtol=1e-6, atol=1e-6)


def test_a_fused_step_without_momentum_moves_none():
    """It leaves the momenta's memory alone, and needs less traffic than one with momentum."""
    model = compiled()
    optimizer = gradgate.optim.SGD(groups(model.parameters()), lr=0.1, momentum=0.9)
    step(model, optimizer)
    runtime = model.runtime
    weights = runtime.weights

    def stored():
        return [runtime.device.read(w.momentum, w.size) for w in weights]

    def traffic(n):
        before = model.profile().total
        step(model, optimizer, n)
        after = model.profile().total
        return after.read_bytes - before.read_bytes, after.write_bytes - before.write_bytes

    both, before = traffic(1), stored()
    optimizer.param_groups[1]["momentum"] = 0
    first = traffic(2)
    middle = stored()
    optimizer.param_groups[0]["momentum"] = 0
    none = traffic(3)
    assert all(any(data) for data in before)
    assert middle[1] == before[1] and middle[0] != before[0]
    assert stored() == middle
    sizes = [w.size for w in weights]
    for axis in (0, 1):
        assert both[axis] - first[axis] == sizes[1] and first[axis] - none[axis] == sizes[0]


def test_a_new_optimizer_starts_without_momentum():
    model = compiled()
    step(model, gradgate.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for state in optimizer.state_dict()["state"].values():
        assert not state["momentum_buffer"].any()


def test_loaded_momentum_counts_after_steps_without():
    model = compiled()
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step(model, optimizer)
    saved = optimizer.state_dict()
    other = gradgate.optim.SGD(model.parameters(), lr=0.1)
    step(model, other)
    other.load_state_dict(saved)
    assert other.param_groups[0]["momentum"] == 0.9
    for key, state in other.state_dict()["state"].items():
        assert torch.equal(state["momentum_buffer"], saved["state"][key]["momentum_buffer"])
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros(p.shape)
    other.step()
    momenta = [s["momentum_buffer"] for s in saved["state"].values()]
    for (name, p), momentum in zip(model.named_parameters(), momenta, strict=True):
        assert torch.allclose(p, weights[name] - 0.1 * 0.9 * momentum, atol=1e-6)
        assert momentum.any()


def test_groups_are_checked_at_once():
    model = compiled()
    weights = [p for n, p in model.named_parameters() if "weight" in n]
    biases = [p for n, p in model.named_parameters() if "bias" in n]
    with pytest.raises(ValueError, match="0: weight and bias are updated together"):
        gradgate.optim.SGD([{"params": weights, "weight_decay": 0.1}, {"params": biases}], lr=0.1)


def test_only_our_optimizer_steps_on_the_device():
    model = compiled()
    with pytest.raises(TypeError, match="must be a gradgate.optim.SGD, not torch.optim.sgd.SGD"):
        step(model, torch.optim.SGD(model.parameters(), lr=0.1))
