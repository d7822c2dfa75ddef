"""Layers of a chain, and how modules and functions of PyTorch become them."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Layer", "Builder", "Refused"]

KERNEL_MAX = 11  # the largest window whose taps and tags the instructions can name
FUSED_STRIDE_MAX = 15  # of a pooling that LOAD can undo


@dataclass
class Layer:
    """One step of the chain.

    Parameters
    ----------
    name : str
        Module path in the network, or name of the traced node.
    op : str
        "conv" (a linear layer is a 1x1 convolution), "maxpool", "avgpool" or "relu".
    source : tuple of (int, int, int)
        Channels, rows, columns that come in, before any flatten.
    shape : tuple of (int, int, int)
        Channels, rows, columns that the operation makes, before `pool`.
    kernel, stride, padding : tuple of (int, int)
        Rows, columns.
    relu : bool
        A ReLU follows.
    pool : Layer or None
        Non-overlapping, unpadded maximum pooling that follows, done while the results leave the
        array, and undone while their gradient is loaded.
    linear : bool
        The layer sees its input flattened.
    scale : float
        What the sum of the window is multiplied with (avgpool).
    weight, bias : str or None
        Parameter names as in `state_dict`.
    """

    name: str
    op: str
    source: tuple
    shape: tuple
    kernel: tuple = (1, 1)
    stride: tuple = (1, 1)
    padding: tuple = (0, 0)
    relu: bool = False
    pool: "Layer | None" = None
    linear: bool = False
    scale: float = 1.0
    weight: str | None = None
    bias: str | None = None

    @property
    def output(self):
        """Channels, rows, columns that go out."""
        return self.pool.shape if self.pool else self.shape

    @property
    def macs(self):
        """Multiply-accumulates of one image, forward."""
        if self.op != "conv":
            return 0
        c, h, w = self.source
        m, rows, cols = self.shape
        if self.linear:
            return c * h * w * m
        return m * rows * cols * c * self.kernel[0] * self.kernel[1]


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


class Refused(Exception):
    """A node that cannot be run; the text is the reason."""


def _out(size, kernel, stride, padding):
    return tuple(
        (s + 2 * p - k) // d + 1 for s, k, d, p in zip(size, kernel, stride, padding, strict=True)
    )


class Builder:
    """State while walking the nodes: the layers so far and the shape of the tensor in hand."""

    def __init__(self, input_shape):
        self.layers = []
        self.flat = len(input_shape) == 1
        self.shape = (*input_shape, 1, 1) if self.flat else tuple(input_shape)

    def _spatial(self):
        if self.flat:
            raise Refused("needs an image [batch, channel, row, column], its input is flat")

    def _window(self, kernel, stride, padding, limit=KERNEL_MAX):
        if max(kernel) > limit:
            raise Refused(f"kernel {kernel} is larger than {limit}")
        if max(stride) > 127:
            raise Refused(f"stride {stride} is larger than 127")
        size = _out(self.shape[1:], kernel, stride, padding)
        if min(size) < 1:
            raise Refused(
                f"kernel {kernel} does not fit into {self.shape[1:]} with padding {padding}"
            )
        return size

    def _add(self, layer):
        self.layers.append(layer)
        self.shape = layer.output

    def conv(self, name, m):
        self._spatial()
        if m.groups != 1:
            raise Refused(f"groups = {m.groups}, only 1 is possible")
        if _pair(m.dilation) != (1, 1):
            raise Refused(f"dilation = {m.dilation}, only 1 is possible")
        if m.padding_mode != "zeros":
            raise Refused(f"padding_mode = {m.padding_mode!r}, only 'zeros' is possible")
        if m.in_channels != self.shape[0]:
            raise Refused(f"expects {m.in_channels} channels, gets {self.shape[0]}")
        kernel, stride, padding = _pair(m.kernel_size), _pair(m.stride), m.padding
        if padding == "valid":
            padding = (0, 0)
        elif padding == "same":
            if any(k % 2 == 0 for k in kernel):
                raise Refused(
                    "padding = 'same' with an even kernel pads one side more than the other"
                )
            padding = tuple(k // 2 for k in kernel)
        padding = _pair(padding)
        size = self._window(kernel, stride, padding)
        self._add(
            Layer(
                name,
                "conv",
                self.shape,
                (m.out_channels, *size),
                kernel,
                stride,
                padding,
                weight=f"{name}.weight",
                bias=f"{name}.bias" if m.bias is not None else None,
            )
        )

    def linear(self, name, m):
        if not self.flat:
            raise Refused("needs flat input [batch, features]; put a Flatten before it")
        c, h, w = self.shape
        if m.in_features != c * h * w:
            raise Refused(f"expects {m.in_features} features, gets {c * h * w}")
        self._add(
            Layer(
                name,
                "conv",
                self.shape,
                (m.out_features, 1, 1),
                linear=True,
                weight=f"{name}.weight",
                bias=f"{name}.bias" if m.bias is not None else None,
            )
        )

    def relu(self, name):
        if not self.layers:
            self._add(Layer(name, "relu", self.shape, self.shape))
        self.layers[-1].relu = True

    def maxpool(
        self,
        name,
        kernel,
        stride=None,
        padding=0,
        dilation=1,
        ceil_mode=False,
        return_indices=False,
    ):
        self._spatial()
        kernel, padding = _pair(kernel), _pair(padding)
        stride = _pair(stride) if stride else kernel
        if ceil_mode:
            raise Refused("ceil_mode is not possible")
        if return_indices:
            raise Refused("return_indices is not possible")
        if _pair(dilation) != (1, 1):
            raise Refused(f"dilation = {dilation}, only 1 is possible")
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            raise Refused(f"padding {padding} is more than half of the kernel {kernel}")
        size = self._window(kernel, stride, padding)
        layer = Layer(name, "maxpool", self.shape, (self.shape[0], *size), kernel, stride, padding)
        before = self.layers[-1] if self.layers else None
        apart = padding == (0, 0) and all(s >= k for s, k in zip(stride, kernel, strict=True))
        apart = apart and max(stride) <= FUSED_STRIDE_MAX
        if before is not None and before.op == "conv" and before.pool is None and apart:
            before.pool = layer
            self.shape = before.output
        else:
            self._add(layer)

    def avgpool(
        self,
        name,
        kernel,
        stride=None,
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
        divisor_override=None,
    ):
        self._spatial()
        kernel, padding = _pair(kernel), _pair(padding)
        stride = _pair(stride) if stride else kernel
        if ceil_mode:
            raise Refused("ceil_mode is not possible")
        if not count_include_pad and padding != (0, 0):
            raise Refused("count_include_pad = False with padding is not possible")
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            raise Refused(f"padding {padding} is more than half of the kernel {kernel}")
        size = self._window(kernel, stride, padding, 255)
        divisor = kernel[0] * kernel[1] if divisor_override is None else divisor_override
        if not divisor:
            raise Refused("divisor_override is 0")
        self._add(
            Layer(
                name,
                "avgpool",
                self.shape,
                (self.shape[0], *size),
                kernel,
                stride,
                padding,
                scale=1 / divisor,
            )
        )

    def adaptive(self, name, size):
        self._spatial()
        if any(
            want not in (1, None if have == 1 else 1)
            for want, have in zip(_pair(size), self.shape[1:], strict=True)
        ):
            raise Refused(f"output size {size}, only 1 is possible")
        self.avgpool(name, self.shape[1:], (1, 1))

    def flatten(self, start, end):
        if self.flat:
            return
        if start != 1 or end not in (-1, 3):
            raise Refused(f"flattens dimensions {start} to {end}, only 1 to the last is possible")
        self.flat = True

    def dropout(self, p, training):
        if training and p:
            raise Refused(f"dropout with p = {p} in training; set p = 0 or eval() before compiling")

    def module(self, name, m):
        match m:
            case nn.Conv2d() if type(m) is nn.Conv2d:
                self.conv(name, m)
            case nn.Linear():
                self.linear(name, m)
            case nn.ReLU():
                self.relu(name)
            case nn.MaxPool2d():
                self.maxpool(
                    name,
                    m.kernel_size,
                    m.stride,
                    m.padding,
                    m.dilation,
                    m.ceil_mode,
                    m.return_indices,
                )
            case nn.AvgPool2d():
                self.avgpool(
                    name,
                    m.kernel_size,
                    m.stride,
                    m.padding,
                    m.ceil_mode,
                    m.count_include_pad,
                    m.divisor_override,
                )
            case nn.AdaptiveAvgPool2d():
                self.adaptive(name, m.output_size)
            case nn.Flatten():
                self.flatten(m.start_dim, m.end_dim)
            case nn.Dropout() | nn.Dropout1d() | nn.Dropout2d():
                self.dropout(m.p, m.training)
            case nn.Identity():
                pass
            case _:
                raise Refused(f"{type(m).__name__} is not supported")

    def function(self, name, target, args, kwargs):
        if target in (F.relu, torch.relu, torch.relu_, F.relu_, "relu", "relu_"):
            self.relu(name)
        elif target in (F.max_pool2d, torch.max_pool2d):
            self.maxpool(name, *args, **kwargs)
        elif target is F.avg_pool2d:
            self.avgpool(name, *args, **kwargs)
        elif target is F.adaptive_avg_pool2d:
            self.adaptive(name, *args, **kwargs)
        elif target in (torch.flatten, "flatten"):
            start, end = (list(args) + [0, -1][len(args) :])[:2]
            self.flatten(kwargs.get("start_dim", start), kwargs.get("end_dim", end))
        elif target in ("view", "reshape"):
            size = args[0] if len(args) == 1 and isinstance(args[0], tuple | list) else args
            features = math.prod(self.shape)
            batch_kept = len(size) == 2 and (
                (not isinstance(size[0], int) and size[1] in (-1, features))
                or (size[0] == -1 and size[1] == features)
            )
            if not batch_kept:
                raise Refused(
                    f"{target}{tuple(size)}: only {target}(x.size(0), -1) or "
                    f"{target}(-1, {features}) is possible"
                )
            self.flatten(1, -1)
        elif target is F.dropout:
            arguments = dict(zip(("p", "training"), args, strict=False)) | kwargs
            self.dropout(arguments.get("p", 0.5), arguments.get("training", True))
        elif target == "contiguous":
            pass
        else:
            raise Refused(f"{getattr(target, '__name__', target)} is not supported")
