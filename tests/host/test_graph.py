"""Tracing: what is understood, and what is refused with which reason."""

import pytest
import torch
import torch.nn.functional as F
from gradgate.errors import UnsupportedError
from gradgate.graph import trace
from torch import nn

IMAGE = torch.zeros(2, 3, 12, 10)


def layers(net, x=IMAGE):
    return trace(net, x).layers


class Functional(nn.Module):
    """One network in the many ways in which people write it."""

    def __init__(self, forward):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 6 * 5, 7)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


@pytest.mark.parametrize("forward", [
    lambda m, x: m.fc(torch.flatten(F.max_pool2d(F.relu(m.conv(x)), 2), 1)),
    lambda m, x: m.fc(F.max_pool2d(torch.relu(m.conv(x)), kernel_size=2, stride=2).flatten(1)),
    lambda m, x: m.fc(torch.max_pool2d(m.conv(x).relu(), (2, 2)).flatten(start_dim=1)),
    lambda m, x: m.fc(F.max_pool2d(m.conv(x).relu_(), 2).view(x.size(0), -1)),
    lambda m, x: m.fc(F.max_pool2d(F.relu(m.conv(x), inplace=True), 2).reshape(x.shape[0], -1)),
    lambda m, x: m.fc(F.dropout(F.relu(F.max_pool2d(m.conv(x), 2)), 0.5, False).flatten(1)),
])
def test_spellings(forward):
    first, last = layers(Functional(forward))
    assert (first.op, first.relu, first.shape, first.pool.shape) == (
        "conv", True, (4, 12, 10), (4, 6, 5))
    assert (last.op, last.linear, last.relu, last.shape) == ("conv", True, False, (7, 1, 1))
    assert (first.weight, last.bias) == ("conv.weight", "fc.bias")


def test_nested_modules_keep_their_names():
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Identity(),
                        nn.Dropout(0.0), nn.Flatten(), nn.Linear(320, 2, bias=False))
    first, last = layers(net)
    assert (first.weight, last.weight, last.bias) == ("0.0.weight", "4.weight", None)
    assert trace(net, IMAGE).output_shape == (2,)


@pytest.mark.parametrize(("conv", "padding"), [
    (nn.Conv2d(3, 4, (3, 5), padding="same"), (1, 2)),
    (nn.Conv2d(3, 4, 4, padding="valid"), (0, 0)),
    (nn.Conv2d(3, 4, (3, 11), padding=(1, 5), stride=(2, 3)), (1, 5)),
])
def test_convolutions(conv, padding):
    layer, = layers(nn.Sequential(conv))
    assert layer.padding == padding
    assert layer.shape == tuple(conv(IMAGE).shape[1:])


@pytest.mark.parametrize("pool", [
    nn.MaxPool2d(3, 2, 1), nn.AvgPool2d((2, 3), (1, 2), (1, 1)), nn.AdaptiveAvgPool2d(1),
    nn.AvgPool2d(2, divisor_override=3),
])
def test_pools_stand_alone(pool):
    layer, = layers(nn.Sequential(pool))
    assert layer.shape == tuple(pool(IMAGE).shape[1:])


def test_overlapping_pool_is_not_fused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2), nn.MaxPool2d(2))
    assert [layer.op for layer in layers(net)] == ["conv", "maxpool", "maxpool"]
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, 3), nn.ReLU(), nn.MaxPool2d(2))
    first, second = layers(net)
    assert first.relu and first.pool.stride == (3, 3) and second.op == "maxpool"


@pytest.mark.parametrize(("stride", "fused"), [((15, 2), True), ((2, 16), False)])
def test_pool_with_a_large_stride_is_not_fused(stride, fused):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2, stride))
    first, *rest = layers(net, torch.zeros(1, 3, 40, 40))
    assert (first.pool is not None) == fused
    assert [layer.op for layer in rest] == [] if fused else ["maxpool"]


def test_pool_of_one_pixel_does_nothing():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(1), nn.ReLU())
    layer, = layers(net, torch.zeros(2, 3, 1, 1))
    assert layer.linear and layer.relu and layer.pool is None


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("module", "reason"), [
    (nn.Conv2d(3, 3, 3, groups=3), "groups = 3"),
    (nn.Conv2d(3, 4, 3, dilation=2), "dilation"),
    (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), "padding_mode = 'reflect'"),
    (nn.Conv2d(3, 4, 12), "larger than 11"),
    (nn.Conv2d(3, 4, (4, 3), padding="same"), "even kernel"),
    (nn.Conv2d(5, 4, 3), "expects 5 channels, gets 3"),
    (nn.Conv2d(3, 4, 11, padding=0), "does not fit"),
    (nn.MaxPool2d(2, ceil_mode=True), "ceil_mode"),
    (nn.MaxPool2d(2, dilation=2), "dilation"),
    (nn.MaxPool2d(2, return_indices=True), "return_indices"),
    (nn.AvgPool2d(3, padding=1, count_include_pad=False), "count_include_pad"),
    (nn.AvgPool2d(2, ceil_mode=True), "ceil_mode"),
    (nn.AdaptiveAvgPool2d(2), "only 1 is possible"),
    (nn.Linear(10, 4), "needs flat input"),
    (nn.Flatten(2), "flattens dimensions 2"),
    (nn.Dropout(0.5), "dropout with p = 0.5"),
    (nn.BatchNorm2d(3), "BatchNorm2d is not supported"),
    (nn.Sigmoid(), "Sigmoid is not supported"),
])
def test_refused(module, reason):
    net = nn.Sequential()
    net.add_module("culprit", module)
    with pytest.raises(UnsupportedError, match=f"culprit: .*{reason}"):
        trace(net, IMAGE)


def test_all_that_is_refused_is_listed():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(
        2, ceil_mode=True), nn.Sigmoid(), nn.Conv2d(6, 4, 3, dilation=2))
    with pytest.raises(UnsupportedError) as error:
        trace(net, IMAGE)
    for name, word in (("0", "groups"), ("1", "BatchNorm2d"), ("3", "ceil_mode"), ("4", "Sigmoid"),
                       ("5", "dilation")):
        assert any(line.strip().startswith(f"{name}: ") and word in line
                   for line in str(error.value).splitlines())
    assert net[0].weight.device.type == "cpu", "tracing must leave the network alone"


class Net(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


@pytest.mark.parametrize(("forward", "reason"), [
    (lambda m, x: m.b(m.a(x)) + x, "only a chain is possible"),
    (lambda m, x: m.a(m.a(m.b(x))), "a: is called twice"),
    (lambda m, x: m.a(x), "b.weight: is not used"),
    (lambda m, x: (m.b(m.a(x)), x), "must return one tensor"),
    (lambda m, x: m.b(m.a(x)) if x.sum() > 0 else x, "cannot be traced"),
    (lambda m, x: F.gelu(m.b(m.a(x))), "gelu is not supported"),
    (lambda m, x: m.b(m.a(x)).view(-1, 90), "only view"),
])
def test_graphs_that_are_refused(forward, reason):
    with pytest.raises(UnsupportedError, match=reason):
        trace(Net(forward), IMAGE)


def test_shared_and_double_parameters_are_refused():
    net = Net(lambda m, x: m.b(m.a(x)))
    net.b.weight = net.a.weight
    with pytest.raises(UnsupportedError, match="a.weight, b.weight: shared"):
        trace(net, IMAGE)
    with pytest.raises(UnsupportedError, match="0.weight: parameters must be float32"):
        trace(nn.Sequential(nn.Conv2d(3, 4, 3).double()), IMAGE)
    with pytest.raises(UnsupportedError, match="computes nothing"):
        trace(nn.Sequential(nn.Flatten()), IMAGE)


@pytest.mark.parametrize(("x", "match"), [
    ([1.0], "list"), (IMAGE.double(), "float64"), (IMAGE[0], "2 or 4 dimensions"),
])
def test_bad_example(x, match):
    with pytest.raises(TypeError, match=match):
        trace(nn.Sequential(nn.ReLU()), x)


def test_hooks_are_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    net[1].register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises(UnsupportedError, match="1: hooks would not be called"):
        trace(net, torch.zeros(1, 3, 5, 6))


@pytest.mark.parametrize("size", [(-1, 48), ("batch", -1), ("batch", 48)], ids=str)
def test_views_that_flatten(size):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(48, 5)

        def forward(self, x):
            y = self.conv(x)
            return self.head(y.view(*(x.size(0) if s == "batch" else s for s in size)))

    network = trace(Net(), torch.zeros(2, 3, 5, 6))
    assert network.layers[-1].linear and network.output_shape == (5,)


def test_views_that_do_something_else_are_refused():
    class Net(nn.Module):
        def forward(self, x):
            return x.view(-1, 45)

    with pytest.raises(UnsupportedError, match=r"only view\(x.size\(0\), -1\) or view\(-1, 90\)"):
        trace(nn.Sequential(Net(), nn.Linear(45, 2)), torch.zeros(2, 3, 5, 6))
