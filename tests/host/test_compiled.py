"""The compiled model as a PyTorch module, on the model device."""

import copy
import io

import gradgate
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gradgate.errors import DeviceTimeout, NumericError, OutOfMemoryError
from gradgate.hw.config import Config
from gradgate.parameter import DeviceParameter
from gradgate.sim.model import ModelDevice
from torch import nn

BF16 = Config()
FP32 = Config(tm=16, tn=16, fmt="fp32", beat_bits=128, a_depth=2048)
TINY = Config(tm=2, tn=4, beat_bits=32, a_depth=128, b_depth=64, acc_depth=32)
SHAPE = (6, 3, 9, 8)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(10, 7, (2, 3), stride=(1, 2), bias=False), nn.ReLU(),
        nn.Flatten(), nn.Linear(7 * 3 * 1, 5))


def batch(seed=0, size=SHAPE[0]):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn((size, *SHAPE[1:]), generator=generator),
            torch.randint(0, 5, (size,), generator=generator))


def compiled(config=BF16, seed=0, memory=4 << 20, **options):
    model = gradgate.compile(network(seed), (batch()[0],), ModelDevice(config, memory))
    return model, gradgate.optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9} | options)


def autograd_step(model, optimizer, x, y):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def bits(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("momenta", [[0.9, 0.9, 0.9], [0.0, 0.9, 0.5]], ids=str)
@pytest.mark.parametrize("config", [BF16, FP32, TINY], ids=lambda c: c.name)
def test_fused_step_has_the_bits_of_autograd(config, momenta):
    """Also with a momentum of its own for each layer, which changes from step to step."""
    models = [compiled(config, weight_decay=0.01) for _ in range(2)]
    (one, first), (two, second) = models
    for model, optimizer in models:
        layers = [["0.weight", "0.bias"], ["3.weight"], ["6.weight", "6.bias"]]
        optimizer.param_groups[0]["params"] = []
        optimizer.param_groups[:] = [
            optimizer.param_groups[0] | {"params": [model.get_parameter(name) for name in names]}
            for names in layers]
    for step, size in enumerate((3, 6, 1, 6)):
        for _, optimizer in models:
            for i, group in enumerate(optimizer.param_groups):
                group["momentum"] = momenta[(i + step) % 3]
        x, y = batch(step, size)
        losses = autograd_step(one, first, x, y), two.train_step(x, y, optimizer=second)
        assert losses[0] == losses[1]
        assert bits(one) == bits(two)
    before = bits(compiled(config)[0])
    assert all(before[name] != value for name, value in bits(one).items())
    states = (list(o.state_dict()["state"].values()) for o in (first, second))
    for a, b in zip(*states, strict=True):
        assert torch.equal(a["momentum_buffer"], b["momentum_buffer"])


def test_update_is_sgd_in_fp32():
    """Weights and momentum after two steps, to the bit, from the gradients that the host sees."""
    model, optimizer = compiled(lr=0.1, momentum=0.9, weight_decay=0.01)
    lr, mu, wd = map(np.float32, (0.1, 0.9, 0.01))
    state = {name: (p.detach().numpy().copy(), np.zeros(p.shape, np.float32))
             for name, p in model.named_parameters()}
    for step in range(2):
        x, y = batch(step)
        autograd_step(model, optimizer, x, y)
        for name, p in model.named_parameters():
            w, m = state[name]
            m = mu * m + (p.grad.numpy() + wd * w)
            w = w - lr * m
            state[name] = w, m
            np.testing.assert_array_equal(p.detach().numpy(), w)
    momenta = optimizer.state_dict()["state"]
    for i, (_, m) in enumerate(state.values()):
        np.testing.assert_array_equal(momenta[i]["momentum_buffer"].numpy(), m)


def test_training_follows_pytorch():
    net = network()
    theirs = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    model, ours = compiled(FP32, lr=0.1, momentum=0.9, weight_decay=0.01)
    for step in range(10):
        x, y = batch(step)
        wanted = autograd_step(net, theirs, x, y)
        got = model.train_step(x, y, optimizer=ours)
        assert abs(got - wanted) < 1e-5
    for name, value in net.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    net.load_state_dict(model.state_dict())


def test_resume_continues_to_the_bit():
    one, first = compiled()
    for step in range(2):
        one.train_step(*batch(step), optimizer=first)
    file = io.BytesIO()
    torch.save({"net": one.state_dict(), "opt": first.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    two, second = compiled(seed=1, lr=0.7)
    two.train_step(*batch(9), optimizer=second)
    two.load_state_dict(state["net"])
    second.load_state_dict(state["opt"])
    assert bits(one) == bits(two)
    for step in range(2, 4):
        one.train_step(*batch(step), optimizer=first)
        autograd_step(two, second, *batch(step))
        assert bits(one) == bits(two)


def test_state_dict_does_not_change_later():
    model, optimizer = compiled()
    state = model.state_dict()
    kept = copy.deepcopy(state)
    model.train_step(*batch(), optimizer=optimizer)
    assert all(torch.equal(state[name], kept[name]) for name in state)
    assert not torch.equal(model.state_dict()["0.weight"], kept["0.weight"])
    assert list(state) == list(network().state_dict())


def test_eval_has_the_bits_of_training():
    model, _ = compiled()
    for size in (6, 1, 11):
        x, _ = batch(1, size)
        with torch.no_grad():
            y = model.eval()(x)
        assert not y.requires_grad
        assert torch.equal(y, model.train()(x).detach())


def test_two_outputs_before_their_backward():
    """Activations overwritten by another batch are computed again."""
    one, _ = compiled()
    two, _ = compiled()
    (xa, ya), (xb, yb) = batch(0), batch(1, 4)
    la, lb = F.cross_entropy(one(xa), ya), F.cross_entropy(one(xb), yb)
    with torch.no_grad():
        one(batch(3, 8)[0])
    (la + lb).backward()
    for x, y in ((xa, ya), (xb, yb)):
        F.cross_entropy(two(x), y).backward()
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=0)


def test_backward_after_the_update_is_refused():
    model, optimizer = compiled()
    x, y = batch()
    loss = F.cross_entropy(model(x), y)
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="weights have changed"):
        loss.backward()


def test_gradients_accumulate_and_may_be_edited():
    model, optimizer = compiled(momentum=0.0)
    x, y = batch()
    F.cross_entropy(model(x), y).backward()
    once = {name: p.grad.clone() for name, p in model.named_parameters()}
    F.cross_entropy(model(x), y).backward()
    for name, p in model.named_parameters():
        assert torch.equal(p.grad, 2 * once[name])
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    assert norm > 0.01
    before = model.state_dict()
    optimizer.step()
    for name, p in model.named_parameters():
        wanted = before[name].numpy() - np.float32(0.1) * p.grad.numpy()
        np.testing.assert_array_equal(p.detach().numpy(), wanted)
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    before = bits(model)
    optimizer.step()
    assert bits(model) == before
    optimizer.zero_grad(set_to_none=False)


def test_gradients_of_the_users_own():
    """A step needs no pass before it."""
    model, optimizer = compiled(momentum=0.0)
    before = model.state_dict()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name].numpy() - np.float32(0.1))


def test_frozen_parameters_stay():
    results = []
    for fused in (False, True):
        model, optimizer = compiled()
        names = {"0.weight", "6.bias"}
        for name, p in model.named_parameters():
            p.requires_grad_(name not in names)
        before = bits(model)
        x, y = batch()
        if fused:
            model.train_step(x, y, optimizer=optimizer)
        else:
            autograd_step(model, optimizer, x, y)
            assert all((p.grad is None) == (name in names) for name, p in model.named_parameters())
        results.append(bits(model))
        assert {name for name in before if before[name] == results[-1][name]} == names
    assert results[0] == results[1]


def test_only_the_last_layer_trains():
    """No gradient of features is computed for layers before the first one that trains."""
    model, optimizer = compiled()
    x, y = batch()
    model.train_step(x, y, optimizer=optimizer)
    whole = model.profile()["backward"].instructions["COMPUTE"]
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith("6"))
    before = bits(model)
    model.train_step(x, y, optimizer=optimizer)
    assert model.profile()["backward"].instructions["COMPUTE"] - whole < whole / 2
    assert {n for n, v in bits(model).items() if v != before[n]} == {"6.weight", "6.bias"}


def test_optimizer_may_hold_some_parameters():
    model, _ = compiled()
    optimizer = gradgate.optim.SGD(list(model.parameters())[-2:], lr=0.1)
    before = bits(model)
    autograd_step(model, optimizer, *batch())
    model.train_step(*batch(), optimizer=optimizer)
    assert {n for n, v in bits(model).items() if v != before[n]} == {"6.weight", "6.bias"}


def test_values_written_in_place_are_noticed():
    model, optimizer = compiled()
    model.train_step(*batch(), optimizer=optimizer)
    x, _ = batch()
    nn.init.constant_(model.get_parameter("6.weight"), 0.0)
    with torch.no_grad():
        model.get_parameter("6.bias").copy_(torch.arange(5.0))
        y = model(x)
    assert torch.equal(y, torch.arange(5.0).expand(len(x), 5))
    momentum = optimizer.state_dict()["state"][3]["momentum_buffer"]
    assert momentum.abs().max() > 0, "writing a weight must not change its momentum"


def test_parameters_show_the_device():
    model, optimizer = compiled()
    p = model.get_parameter("0.weight")
    assert isinstance(p, nn.Parameter) and isinstance(p, DeviceParameter)
    before = p.detach().clone()
    model.train_step(*batch(), optimizer=optimizer)
    assert not torch.equal(p, before)
    assert torch.equal(p, model.state_dict()["0.weight"])


def test_parameter_without_finite_values_is_refused():
    model, optimizer = compiled()
    before = bits(model)
    weight = model.get_parameter("3.weight")
    with torch.no_grad():
        kept = weight[0, 0, 0, 0].clone()
        weight[0, 0, 0, 0] = float("nan")
    for _ in range(2):
        with pytest.raises(NumericError, match="^3 "):
            model(batch()[0])
    with torch.no_grad():
        weight[0, 0, 0, 0] = kept
    model(batch()[0])
    assert bits(model) == before


@pytest.mark.parametrize(("x", "error", "match"), [
    (torch.zeros(2, 3, 9, 9), ValueError, r"\[batch, 3, 9, 8\], not \[2, 3, 9, 9\]"),
    (torch.zeros(0, 3, 9, 8), ValueError, "batch"),
    (torch.zeros(3, 9, 8), ValueError, "batch"),
    (torch.zeros(2, 3, 9, 8).double(), TypeError, "float64"),
    (np.zeros((2, 3, 9, 8)), TypeError, "ndarray"),
    (torch.full((2, 3, 9, 8), float("inf")), NumericError, "input"),
    (torch.full((2, 3, 9, 8), 3.4e38), NumericError, "overflow"),
])
def test_bad_input(x, error, match):
    model, optimizer = compiled()
    before = bits(model)
    for run in (model, lambda x: model.train_step(x, torch.zeros(2).long(), optimizer=optimizer)):
        with pytest.raises(error, match=match):
            run(x)
    assert bits(model) == before
    model.train_step(*batch(), optimizer=optimizer)


def test_gradient_that_is_not_finite_is_refused():
    model, optimizer = compiled()
    before = bits(model)
    with pytest.raises(NumericError, match="output gradient"):
        model.train_step(*batch(), optimizer=optimizer, loss=lambda y, t: (y * float("inf")).sum())
    y = model(batch()[0])
    y.sum().backward()
    model.get_parameter("0.weight").grad[0, 0, 0, 0] = float("nan")
    with pytest.raises(NumericError, match="gradient of 0"):
        optimizer.step()
    assert bits(model) == before


def test_batch_that_does_not_fit():
    model, optimizer = compiled(memory=256 << 10)
    for _ in range(2):
        with pytest.raises(OutOfMemoryError, match="MiB are needed.*256.00 KiB(?s:.*)0 output"):
            model(torch.zeros(2000, *SHAPE[1:]))
        model.train_step(*batch(), optimizer=optimizer)
        autograd_step(model, optimizer, *batch())
    with pytest.raises(OutOfMemoryError, match="6 weights"):
        compiled(memory=4 << 10)


class Failing(ModelDevice):
    """Fails after the n-th run from now, having done all its work."""

    countdown = None

    def run(self, address, **options):
        counters = super().run(address, **options)
        if self.countdown is not None:
            self.countdown -= 1
            if self.countdown == 0:
                self.countdown = None
                raise DeviceTimeout("as planned")
        return counters


@pytest.mark.parametrize("fused", [False, True])
def test_no_weights_are_lost_when_the_device_fails(fused):
    device = Failing(BF16, 4 << 20)
    model = gradgate.compile(network(), (batch()[0],), device)
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    good, other = compiled()

    def step(model, optimizer):
        if fused:
            model.train_step(*batch(), optimizer=optimizer)
        else:
            autograd_step(model, optimizer, *batch())

    def everything():
        return bits(model), [momentum.numpy().tobytes() for momentum in model.momenta().values()]

    step(model, optimizer)
    step(good, other)
    for runs in (1, 2) if fused else (1, 2, 3):
        before = everything()
        device.countdown = runs
        with pytest.raises(DeviceTimeout):
            step(model, optimizer)
        assert everything() == before
    step(model, optimizer)
    step(good, other)
    assert bits(model) == bits(good)


def test_a_failed_backward_pass_spoils_no_gradients():
    device = Failing(BF16, 4 << 20)
    model = gradgate.compile(network(), (batch()[0],), device)
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.1)
    other, reference = compiled(momentum=0.0)
    for m in (model, other):
        F.cross_entropy(m(batch()[0]), batch()[1]).backward()
    loss = F.cross_entropy(model(batch(1)[0]), batch(1)[1])
    device.countdown = 1
    with pytest.raises(DeviceTimeout):
        loss.backward()
    optimizer.step()
    reference.step()
    assert bits(model) == bits(other)


def test_any_loss():
    model, optimizer = compiled(FP32)
    net = network()
    x, _ = batch()
    target = torch.randn(SHAPE[0], 5)
    loss = model.train_step(x, target, F.mse_loss, optimizer=optimizer)
    torch.testing.assert_close(loss, F.mse_loss(net(x), target).detach())


def test_input_gradient_without_trained_weights():
    model, _ = compiled(FP32)
    net = network()
    for p in (*model.parameters(), *net.parameters()):
        p.requires_grad_(False)
    x = batch()[0].requires_grad_()
    z = x.detach().clone().requires_grad_()
    model(x).square().sum().backward()
    net(z).square().sum().backward()
    torch.testing.assert_close(x.grad, z.grad)


def test_profile_and_macs():
    model, optimizer = compiled()
    assert model.profile().total.read_bytes == 0
    model.train_step(*batch(), optimizer=optimizer)
    first = model.profile()
    assert set(first) == {"forward", "backward"}
    with torch.no_grad():
        model(batch()[0])
    assert set(model.profile()) == {"forward", "backward", "inference"}
    assert first.total.read_bytes == sum(c.read_bytes for c in first.values())
    head, *rows = str(first).splitlines()
    assert "COMPUTE active" in head and [row.split()[0] for row in rows[:3]] == [*first, "total"]
    assert f"{first.total.active['COMPUTE']:,}" in rows[2]
    conv1, conv2, linear = 10 * 9 * 8 * 27, 7 * 3 * 10 * 6, 21 * 5
    assert model.train_macs() == 3 * (conv1 + conv2 + linear) - conv1


@pytest.mark.parametrize(("arguments", "match"), [
    (("net", (batch()[0],), "dev"), "module must be"),
    ((network(), (batch()[0],), "model"), "gradgate.device"),
    ((network(), batch(), ModelDevice(BF16, 1 << 20)), "one tensor, not 2"),
    ((network(), (batch()[0].double(),), ModelDevice(BF16, 1 << 20)), "float64"),
])
def test_bad_arguments_of_compile(arguments, match):
    with pytest.raises(TypeError, match=match):
        gradgate.compile(*arguments)


def test_parameters_stay_on_the_device():
    model, _ = compiled()
    with pytest.raises(TypeError, match="stay"):
        model.half()


def test_one_network_per_device():
    device = ModelDevice(BF16, 4 << 20)
    x, y = batch()
    first = gradgate.compile(network(0), (x,), device)
    optimizer = gradgate.optim.SGD(first.parameters(), lr=0.1)
    first.train_step(x, y, optimizer=optimizer)
    wanted = [torch.from_numpy(first.runtime.read_weights(s, tuple(w.shape))[0].copy())
              for s, w, _ in first._slots]
    second = gradgate.compile(network(1), (x,), device)
    second(x)
    # the first has taken its trained weights along, and says why it cannot run
    for (_, weight, _), value in zip(first._slots, wanted, strict=True):
        assert torch.equal(weight, value)
    with pytest.raises(gradgate.DeviceError, match="another network has been compiled"):
        first(x)
    with pytest.raises(gradgate.DeviceError, match="another network has been compiled"):
        first.train_step(x, y, optimizer=optimizer)
    assert torch.equal(second(x), gradgate.compile(network(1), (x,), ModelDevice(BF16, 4 << 20))(x))


def test_copies_are_refused():
    model = compiled()[0]
    with pytest.raises(TypeError, match="save state_dict"):
        copy.deepcopy(model)
    with pytest.raises(TypeError, match="save state_dict"):
        torch.save(model, io.BytesIO())


def test_parameters_from_elsewhere_are_refused():
    model, (x, _) = compiled()[0], batch()
    zeros = {name: torch.zeros(p.shape) for name, p in model.named_parameters()}
    with pytest.raises(TypeError, match="with load_state_dict"):
        torch.func.functional_call(model, zeros, (x,))
    model(x)


def test_dropout_cannot_be_switched_on_later():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Dropout(0.5)).eval()
    model = gradgate.compile(net, (torch.zeros(1, 3, 5, 6),), ModelDevice(BF16, 4 << 20))
    assert not model.training
    with pytest.raises(gradgate.UnsupportedError, match="1: dropout cannot be trained"):
        model.train()


def test_an_overflow_names_the_pass():
    model, (x, _) = compiled()[0], batch()
    with torch.no_grad():
        next(iter(model.parameters())).fill_(3e38)
    with pytest.raises(gradgate.NumericError, match="forward pass, batch of"):
        model(x + 2)


@pytest.mark.parametrize("images", [65, 600])
def test_large_batches_overflow_no_tokens(images):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 5, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(3, 1))
    x = torch.randn(images, 3, 10, 12)
    model = gradgate.compile(net, (x[:1],), ModelDevice(TINY, 32 << 20, check=True))
    y = torch.randn_like(net(x))
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.1)
    F.mse_loss(model(x), y).backward()
    model.train_step(x, y, F.mse_loss, optimizer=optimizer)
