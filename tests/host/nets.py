"""Random networks, builds and data, for tests of the host and of whole devices."""

import torch
from gradgate.hw.config import Config
from hypothesis import strategies as st
from torch import nn

__all__ = ["CONFIGS", "config_id", "networks", "representable"]

# every kind of build: thin inputs or not, one or several channel blocks per lane group, beats of
# one to four operands, buffers that hold a whole map or hardly a window
CONFIGS = [
    Config(),
    Config(tm=16, tn=16, fmt="fp32", beat_bits=128, a_depth=2048),
    Config(tm=2, tn=4, beat_bits=32, a_depth=128, b_depth=64, acc_depth=32),
    Config(tm=4, tn=8, fmt="fp32", beat_bits=64, a_depth=64, b_depth=128, acc_depth=64),
    Config(tm=4, tn=64, beat_bits=32, a_depth=1024, b_depth=256, acc_depth=512),
]


def config_id(config):
    return config.name


def representable(values, fmt):
    """`values` rounded to the operand format, as float32."""
    return values.bfloat16().float() if fmt == "bf16" else values


@st.composite
def networks(draw, max_layers=5):
    """(network, input shape with the batch): chains of everything that can be run.

    Draws a torch seed for the weights too, so that a failing example says all there is.
    """
    torch.manual_seed(draw(st.integers(0, 2**31 - 1), label="seed"))
    batch = draw(st.integers(1, 5))
    shape = channels, rows, cols = (draw(st.integers(1, 20)), draw(st.integers(1, 12)),
                                    draw(st.integers(1, 12)))
    layers, flat = [], False
    for _ in range(draw(st.integers(1, max_layers))):
        kind = draw(st.sampled_from(["conv", "conv", "linear", "max", "avg", "global", "relu"]))
        if kind == "relu":
            layers.append(nn.ReLU())
        elif kind == "linear" or flat:
            if not flat:
                layers.append(nn.Flatten())
            size = channels * rows * cols
            channels, rows, cols, flat = draw(st.integers(1, 40)), 1, 1, True
            layers.append(nn.Linear(size, channels, bias=draw(st.booleans())))
        elif kind == "global":
            layers.append(nn.AdaptiveAvgPool2d(1))
            rows = cols = 1
        else:
            layer, channels = _window(draw, kind, channels, rows, cols)
            layers.append(layer)
            rows, cols = layer(torch.zeros(1, layer.in_channels if kind == "conv" else channels,
                                           rows, cols)).shape[2:]
    if not any(isinstance(layer, nn.Conv2d | nn.Linear) for layer in layers):
        layers += [nn.Flatten(), nn.Linear(channels * rows * cols, 3)]
    return nn.Sequential(*layers), (batch, *shape)


def _window(draw, kind, channels, rows, cols):
    """(module, channels out) of a window that fits, half of the time with all options at random."""
    kernel = tuple(draw(st.integers(1, min(11 if kind == "conv" else 4, size + 2)))
                   for size in (rows, cols))
    least = tuple(max(0, -(-(k - size) // 2)) for k, size in zip(kernel, (rows, cols), strict=True))
    if kind == "conv":
        padding = tuple(draw(st.integers(p, p + 2)) for p in least)
        stride = tuple(draw(st.integers(1, 4)) for _ in kernel)
        out = draw(st.integers(1, 20))
        return nn.Conv2d(channels, out, kernel, stride, padding, bias=draw(st.booleans())), out
    kernel = tuple(min(k, size) for k, size in zip(kernel, (rows, cols), strict=True))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    stride = tuple(draw(st.integers(1, 4)) for _ in kernel)
    pool = nn.MaxPool2d if kind == "max" else nn.AvgPool2d
    return pool(kernel, stride, padding), channels
