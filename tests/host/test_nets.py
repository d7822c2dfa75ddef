"""Networks by name: shapes and multiply-accumulates as EF-Train counts them."""

import sys
import types

import pytest
import torch
from gradgate.errors import GradgateError
from gradgate.graph import trace
from gradgate.nets import NETS, net
from torch import nn

# EF-Train (Tang et al., TODAES 2022): per layer multiply-accumulates of one forward pass, or the
# map after a pooling
LAYERS = {
    "1x": {
        "conv1": 442368, "conv2": 2359296, "pool1": (16, 16, 16), "conv3": 1179648,
        "conv4": 2359296, "pool2": (32, 8, 8), "conv5": 1179648, "conv6": 2359296,
        "pool3": (64, 4, 4), "fc": 10240},
    "lenet10": {
        "conv1": 884736, "pool1": (32, 16, 16), "conv2": 2359296, "pool2": (32, 8, 8),
        "conv3": 1179648, "pool3": (64, 4, 4), "fc1": 65536, "fc2": 640},
    "alexnet": {
        "conv1": 105415200, "pool1": (96, 27, 27), "conv2": 447897600, "pool2": (256, 13, 13),
        "conv3": 149520384, "conv4": 224280576, "conv5": 149520384, "pool5": (256, 6, 6),
        "fc6": 37748736, "fc7": 16777216, "fc8": 4096000},
    "vgg16": {
        "conv1": 86704128, "conv2": 1849688064, "pool1": (64, 112, 112), "conv3": 924844032,
        "conv4": 1849688064, "pool2": (128, 56, 56), "conv5": 924844032, "conv6": 1849688064,
        "conv7": 1849688064, "pool3": (256, 28, 28), "conv8": 924844032, "conv9": 1849688064,
        "conv10": 1849688064, "pool4": (512, 14, 14), "conv11": 462422016, "conv12": 462422016,
        "conv13": 462422016, "pool5": (512, 7, 7), "avgpool": (512, 1, 1), "fc": 512000},
}
# floating-point operations of one image in a training step; AlexNet's with its linear layers
TRAIN_FLOP = {"1x": 58454016, "lenet10": 25169664, "alexnet": 6600706176, "vgg16": 91909447680}


@pytest.fixture(autouse=True)
def no_memory_for_weights():
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_those_of_ef_train(name):
    module, shape = net(name)
    found = {}
    for layer in trace(module, torch.empty(2, *shape)).layers:
        assert layer.relu == (layer.op == "conv" and layer.name not in ("fc", "fc2", "fc8"))
        assert layer.op != "conv" or layer.bias == f"{layer.name}.bias"
        found[layer.name] = layer.macs or layer.shape
        if layer.pool:
            found[layer.pool.name] = layer.pool.shape
    assert list(found.items()) == list(LAYERS[name].items())


@pytest.mark.parametrize("name", TRAIN_FLOP)
def test_operations_of_a_training_step(name):
    module, shape = net(name)
    macs = [layer.macs for layer in trace(module, torch.empty(1, *shape)).layers]
    assert 2 * (3 * sum(macs) - macs[0]) == TRAIN_FLOP[name]


WIDE = "alexnet", "alexnet-fc", "vgg16", "vgg16-block5"


@pytest.mark.parametrize("name", NETS)
def test_what_pytorch_computes_has_one_score_per_class(name):
    module, shape = net(name)
    assert module(torch.empty(3, *shape)).shape == (3, 1000 if name in WIDE else 10)


def test_a_network_of_the_users_own(monkeypatch):
    own = types.ModuleType("own")
    own.small = lambda: (nn.Linear(5, 3), [5])
    own.alone = lambda: nn.Identity()
    monkeypatch.setitem(sys.modules, "own", own)
    module, shape = net("own:small")
    assert isinstance(module, nn.Linear) and shape == (5,)
    with pytest.raises(GradgateError, match=r"own:alone must return \(module, shape of one input\)"
                                            r", not Identity\(\)"):
        net("own:alone")
    with pytest.raises(GradgateError, match="no network 'own:none': .*none"):
        net("own:none")
    with pytest.raises(GradgateError, match="no network 'nowhere_at_all:f': No module named"):
        net("nowhere_at_all:f")
    with pytest.raises(GradgateError, match="no network 'vgg'; there are digits, digits-small, 1x"):
        net("vgg")
