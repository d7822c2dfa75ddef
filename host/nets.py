"""Networks ready to use, as ordinary PyTorch modules.

`1x`, `lenet10`, `alexnet` and `vgg16` are the networks of EF-Train (Tang et al., TODAES 2022), with
its shapes: batch norm and dropout are not in them, AlexNet is not grouped, and VGG-16 ends in an
average pooling and one linear layer. `vgg16-block5`, `alexnet-fc`, `pointwise` and `strided` are
small ones that show single kinds of layers.
"""

import importlib
from collections import OrderedDict

import torch
from torch import nn

from .errors import GradgateError

__all__ = [
    "NETS",
    "net",
    "digits_cnn",
    "digits_small",
    "cnn_1x",
    "lenet10",
    "alexnet",
    "vgg16",
    "vgg16_block5",
    "alexnet_fc",
    "pointwise",
    "strided",
]


def _digits(first, second):
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * 2 * 2, 10),
    )


def digits_cnn():
    """Two convolutions, two poolings and a linear layer for 1x8x8 images; 12,010 parameters."""
    return _digits(16, 64)


def digits_small():
    """The same with 8 and 24 channels, for devices with little memory; 2,802 parameters."""
    return _digits(8, 24)


def _chain(**layers):
    """A Sequential of the named layers, with a ReLU after each convolution and each linear layer
    but the last one, and a flatten before the first linear layer."""
    chain, last = OrderedDict(), list(layers)[-1]
    for name, layer in layers.items():
        if isinstance(layer, nn.Linear) and "flatten" not in chain:
            chain["flatten"] = nn.Flatten()
        chain[name] = layer
        if isinstance(layer, nn.Conv2d | nn.Linear) and name != last:
            chain[f"relu_{name}"] = nn.ReLU()
    return nn.Sequential(chain)


def _conv3(n, m):
    return nn.Conv2d(n, m, 3, padding=1)


def cnn_1x():
    """The CIFAR-10 network "1X" for 3x32x32 images: six convolutions, three poolings."""
    return _chain(
        conv1=_conv3(3, 16),
        conv2=_conv3(16, 16),
        pool1=nn.MaxPool2d(2),
        conv3=_conv3(16, 32),
        conv4=_conv3(32, 32),
        pool2=nn.MaxPool2d(2),
        conv5=_conv3(32, 64),
        conv6=_conv3(64, 64),
        pool3=nn.MaxPool2d(2),
        fc=nn.Linear(1024, 10),
    )


def lenet10():
    """LeNet-10 for 3x32x32 images: three convolutions, each pooled, two linear layers."""
    return _chain(
        conv1=_conv3(3, 32),
        pool1=nn.MaxPool2d(2),
        conv2=_conv3(32, 32),
        pool2=nn.MaxPool2d(2),
        conv3=_conv3(32, 64),
        pool3=nn.MaxPool2d(2),
        fc1=nn.Linear(1024, 64),
        fc2=nn.Linear(64, 10),
    )


def alexnet():
    """AlexNet for 3x227x227 images, not grouped, with overlapping 3x3 poolings."""
    return _chain(
        conv1=nn.Conv2d(3, 96, 11, stride=4),
        pool1=nn.MaxPool2d(3, stride=2),
        conv2=nn.Conv2d(96, 256, 5, padding=2),
        pool2=nn.MaxPool2d(3, stride=2),
        conv3=_conv3(256, 384),
        conv4=_conv3(384, 384),
        conv5=_conv3(384, 256),
        pool5=nn.MaxPool2d(3, stride=2),
        fc6=nn.Linear(256 * 6 * 6, 4096),
        fc7=nn.Linear(4096, 4096),
        fc8=nn.Linear(4096, 1000),
    )


def vgg16():
    """The 13 convolutions of VGG-16 for 3x224x224 images, average pooling, one linear layer."""
    layers, channels, number = {}, 3, 0
    for stage, (count, wider) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for _ in range(count):
            number += 1
            layers[f"conv{number}"] = _conv3(channels, wider)
            channels = wider
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    return _chain(**layers, avgpool=nn.AvgPool2d(7), fc=nn.Linear(512, 1000))


def vgg16_block5():
    """The last three convolutions of VGG-16, on 14x14 maps."""
    return _chain(
        conv11=_conv3(512, 512),
        conv12=_conv3(512, 512),
        conv13=_conv3(512, 512),
        pool5=nn.MaxPool2d(2),
        avgpool=nn.AvgPool2d(7),
        fc=nn.Linear(512, 1000),
    )


def alexnet_fc():
    """The linear layers of AlexNet."""
    return _chain(
        fc6=nn.Linear(256 * 6 * 6, 4096),
        fc7=nn.Linear(4096, 4096),
        fc8=nn.Linear(4096, 1000),
    )


def pointwise():
    """1x1 convolutions as in bottlenecks, on the smallest maps and channels that count."""
    return _chain(
        conv0=nn.Conv2d(64, 64, 1),
        conv1=nn.Conv2d(64, 64, 1),
        conv2=nn.Conv2d(64, 256, 1),
        conv3=nn.Conv2d(256, 64, 1),
        pool=nn.MaxPool2d(2),
        fc=nn.Linear(64 * 7 * 7, 10),
    )


def strided():
    """3x3 convolutions with stride 2, of even and odd maps."""
    return _chain(
        conv0=_conv3(3, 64),
        conv1=nn.Conv2d(64, 64, 3, stride=2, padding=1),
        conv2=nn.Conv2d(64, 128, 3, stride=2, padding=1),
        conv3=nn.Conv2d(128, 128, 3, stride=2, padding=1),
        fc=nn.Linear(128 * 7 * 7, 10),
    )


NETS = {
    "digits": (digits_cnn, (1, 8, 8)),
    "digits-small": (digits_small, (1, 8, 8)),
    "1x": (cnn_1x, (3, 32, 32)),
    "lenet10": (lenet10, (3, 32, 32)),
    "alexnet": (alexnet, (3, 227, 227)),
    "vgg16": (vgg16, (3, 224, 224)),
    "vgg16-block5": (vgg16_block5, (512, 14, 14)),
    "alexnet-fc": (alexnet_fc, (256, 6, 6)),
    "pointwise": (pointwise, (64, 14, 14)),
    "strided": (strided, (3, 56, 56)),
}


def net(name):
    """(module, shape of one input) of the network of that name, weights at random.

    Parameters
    ----------
    name : str
        A key of NETS, or `package.module:callable`, a function of yours without parameters that
        returns the same pair.

    Raises GradgateError if there is no such network, or what the function returns is no such pair.
    """
    if name in NETS:
        make, shape = NETS[name]
        return make(), shape
    path, colon, function = name.partition(":")
    if not colon:
        raise GradgateError(
            f"no network {name!r}; there are {', '.join(NETS)}, and package.module:callable"
        )
    try:
        make = getattr(importlib.import_module(path), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise GradgateError(f"no network {name!r}: {error}") from error
    found = make()
    if not (
        isinstance(found, tuple)
        and len(found) == 2
        and isinstance(found[0], nn.Module)
        and isinstance(found[1], tuple | list | torch.Size)
        and all(type(size) is int for size in found[1])
    ):
        raise GradgateError(f"{name} must return (module, shape of one input), not {found!r}")
    return found[0], tuple(found[1])
