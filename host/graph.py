"""PyTorch module in, chain of layers out; or one exception that lists all that cannot be run."""

import copy
import operator
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import fx, nn

from .errors import UnsupportedError

__all__ = ["Layer", "Network", "trace"]

KERNEL_MAX = 11  # the largest window whose taps and tags the instructions can name


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
        array.
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


@dataclass
class Network:
    """A chain of layers.

    `input_shape` and `output_shape` are PyTorch's, without the batch; `source` is the input as
    (channels, rows, columns).
    """

    layers: list = field(default_factory=list)
    input_shape: tuple = ()
    output_shape: tuple = ()
    source: tuple = ()


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


class _Refused(Exception):
    """A node that cannot be run; the text is the reason."""


def _out(size, kernel, stride, padding):
    return tuple((s + 2 * p - k) // d + 1 for s, k, d, p in zip(size, kernel, stride, padding,
                                                                strict=True))


class _Builder:
    """State while walking the nodes: the layers so far and the shape of the tensor in hand."""

    def __init__(self, input_shape):
        self.layers = []
        self.flat = len(input_shape) == 1
        self.shape = (*input_shape, 1, 1) if self.flat else tuple(input_shape)
        self.net = Network(input_shape=tuple(input_shape), source=self.shape)

    def _spatial(self):
        if self.flat:
            raise _Refused("needs an image [batch, channel, row, column], its input is flat")

    def _window(self, kernel, stride, padding, limit=KERNEL_MAX):
        if max(kernel) > limit:
            raise _Refused(f"kernel {kernel} is larger than {limit}")
        if max(stride) > 127:
            raise _Refused(f"stride {stride} is larger than 127")
        size = _out(self.shape[1:], kernel, stride, padding)
        if min(size) < 1:
            raise _Refused(
                f"kernel {kernel} does not fit into {self.shape[1:]} with padding {padding}"
            )
        return size

    def _add(self, layer):
        self.layers.append(layer)
        self.shape = layer.output

    def conv(self, name, m):
        self._spatial()
        if m.groups != 1:
            raise _Refused(f"groups = {m.groups}, only 1 is possible")
        if _pair(m.dilation) != (1, 1):
            raise _Refused(f"dilation = {m.dilation}, only 1 is possible")
        if m.padding_mode != "zeros":
            raise _Refused(f"padding_mode = {m.padding_mode!r}, only 'zeros' is possible")
        if m.in_channels != self.shape[0]:
            raise _Refused(f"expects {m.in_channels} channels, gets {self.shape[0]}")
        kernel, stride, padding = _pair(m.kernel_size), _pair(m.stride), m.padding
        if padding == "valid":
            padding = (0, 0)
        elif padding == "same":
            if any(k % 2 == 0 for k in kernel):
                raise _Refused(
                    "padding = 'same' with an even kernel pads one side more than the other"
                )
            padding = tuple(k // 2 for k in kernel)
        padding = _pair(padding)
        size = self._window(kernel, stride, padding)
        self._add(Layer(name, "conv", self.shape, (m.out_channels, *size), kernel, stride, padding,
                        weight=f"{name}.weight",
                        bias=f"{name}.bias" if m.bias is not None else None))

    def linear(self, name, m):
        if not self.flat:
            raise _Refused("needs flat input [batch, features]; put a Flatten before it")
        c, h, w = self.shape
        if m.in_features != c * h * w:
            raise _Refused(f"expects {m.in_features} features, gets {c * h * w}")
        self._add(Layer(name, "conv", self.shape, (m.out_features, 1, 1), linear=True,
                        weight=f"{name}.weight",
                        bias=f"{name}.bias" if m.bias is not None else None))

    def relu(self, name):
        if not self.layers:
            self._add(Layer(name, "relu", self.shape, self.shape))
        self.layers[-1].relu = True

    def maxpool(self, name, kernel, stride=None, padding=0, dilation=1, ceil_mode=False,
                return_indices=False):
        self._spatial()
        kernel, padding = _pair(kernel), _pair(padding)
        stride = _pair(stride) if stride else kernel
        if ceil_mode:
            raise _Refused("ceil_mode is not possible")
        if return_indices:
            raise _Refused("return_indices is not possible")
        if _pair(dilation) != (1, 1):
            raise _Refused(f"dilation = {dilation}, only 1 is possible")
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            raise _Refused(f"padding {padding} is more than half of the kernel {kernel}")
        size = self._window(kernel, stride, padding)
        layer = Layer(name, "maxpool", self.shape, (self.shape[0], *size), kernel, stride, padding)
        before = self.layers[-1] if self.layers else None
        apart = padding == (0, 0) and all(s >= k for s, k in zip(stride, kernel, strict=True))
        if before is not None and before.op == "conv" and before.pool is None and apart:
            before.pool = layer
            self.shape = before.output
        else:
            self._add(layer)

    def avgpool(self, name, kernel, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
                divisor_override=None):
        self._spatial()
        kernel, padding = _pair(kernel), _pair(padding)
        stride = _pair(stride) if stride else kernel
        if ceil_mode:
            raise _Refused("ceil_mode is not possible")
        if not count_include_pad and padding != (0, 0):
            raise _Refused("count_include_pad = False with padding is not possible")
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            raise _Refused(f"padding {padding} is more than half of the kernel {kernel}")
        size = self._window(kernel, stride, padding, 255)
        divisor = kernel[0] * kernel[1] if divisor_override is None else divisor_override
        if not divisor:
            raise _Refused("divisor_override is 0")
        self._add(Layer(name, "avgpool", self.shape, (self.shape[0], *size), kernel, stride,
                        padding, scale=1 / divisor))

    def adaptive(self, name, size):
        self._spatial()
        if any(want not in (1, None if have == 1 else 1) for want, have in zip(_pair(size),
                                                                               self.shape[1:],
                                                                               strict=True)):
            raise _Refused(f"output size {size}, only 1 is possible")
        self.avgpool(name, self.shape[1:], (1, 1))

    def flatten(self, start, end):
        if self.flat:
            return
        if start != 1 or end not in (-1, 3):
            raise _Refused(f"flattens dimensions {start} to {end}, only 1 to the last is possible")
        self.flat = True

    def dropout(self, p, training):
        if training and p:
            raise _Refused(
                f"dropout with p = {p} in training; set p = 0 or eval() before compiling"
            )

    def module(self, name, m):
        match m:
            case nn.Conv2d() if type(m) is nn.Conv2d:
                self.conv(name, m)
            case nn.Linear():
                self.linear(name, m)
            case nn.ReLU():
                self.relu(name)
            case nn.MaxPool2d():
                self.maxpool(name, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode,
                             m.return_indices)
            case nn.AvgPool2d():
                self.avgpool(name, m.kernel_size, m.stride, m.padding, m.ceil_mode,
                             m.count_include_pad, m.divisor_override)
            case nn.AdaptiveAvgPool2d():
                self.adaptive(name, m.output_size)
            case nn.Flatten():
                self.flatten(m.start_dim, m.end_dim)
            case nn.Dropout() | nn.Dropout1d() | nn.Dropout2d():
                self.dropout(m.p, m.training)
            case nn.Identity():
                pass
            case _:
                raise _Refused(f"{type(m).__name__} is not supported")

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
            if self.flat or len(size) != 2 or isinstance(size[0], int) or size[1] != -1:
                raise _Refused(f"{target}{tuple(size)}: only {target}(x.size(0), -1) is possible")
            self.flatten(1, -1)
        elif target is F.dropout:
            arguments = dict(zip(("p", "training"), args, strict=False)) | kwargs
            self.dropout(arguments.get("p", 0.5), arguments.get("training", True))
        elif target == "contiguous":
            pass
        else:
            raise _Refused(f"{getattr(target, '__name__', target)} is not supported")


def _is_size(node):
    """Whether `node` computes the batch size, for `x.view(x.size(0), -1)`."""
    if node.op == "call_method" and node.target == "size":
        return node.args[1:] in ((), (0,))
    if node.op == "call_function" and node.target is getattr:
        return node.args[1:] == ("shape",)
    return (node.op == "call_function" and node.target is operator.getitem
            and isinstance(node.args[0], fx.Node) and _is_size(node.args[0]) and node.args[1] == 0)


class _Tracer(fx.Tracer):
    """Treats every module that is not a container of the user's as a leaf."""

    def is_leaf_module(self, m, name):
        return super().is_leaf_module(m, name) and not isinstance(m, nn.Sequential)


def trace(module, example):
    """The chain of layers of `module` for inputs shaped like `example`.

    Raises UnsupportedError, with one line per module that cannot be run and the reason; TypeError
    if the example is not a float32 tensor with 2 or 4 dimensions.
    """
    if not isinstance(example, torch.Tensor):
        raise TypeError(f"example input must be a torch.Tensor, not {type(example).__name__}")
    if example.dtype != torch.float32:
        raise TypeError(f"example input must be float32, not {example.dtype}")
    if example.dim() not in (2, 4):
        raise TypeError(f"example input must have 2 or 4 dimensions, not {example.dim()}")
    try:
        graph = _Tracer().trace(module)
    except Exception as error:
        raise UnsupportedError(f"the network's forward cannot be traced: {error}") from error

    builder = _Builder(example.shape[1:])
    refused, seen, current = [], {}, None
    modules = dict(module.named_modules())
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            refused.append(f"{name}: parameters must be float32, not {parameter.dtype}")
    for node in graph.nodes:
        if node.op == "placeholder":
            if current is not None:
                refused.append(f"{node.name}: a second input is not possible")
            current = current or node
            continue
        if _is_size(node):
            continue
        name = node.target if node.op == "call_module" else node.name
        if node.op == "output":
            if not isinstance(node.args[0], fx.Node):
                refused.append("output: the network must return one tensor")
            elif node.args[0] is not current:
                refused.append(f"output: {node.args[0].name} is not the end of the chain")
            continue
        inputs = [n for n in node.all_input_nodes if not _is_size(n)]
        if inputs != [current]:
            refused.append(
                f"{name}: works on {', '.join(n.name for n in inputs) or 'nothing'}, but "
                f"only a chain is possible, in which each tensor is used once"
            )
            current = node
            continue
        current = node
        try:
            if node.op == "call_module":
                target = modules[node.target]
                if id(target) in seen and list(target.parameters()):
                    raise _Refused("is called twice; shared parameters are not possible")
                seen[id(target)] = name
                builder.module(name, target)
            elif node.op in ("call_function", "call_method"):
                arguments = {k: v for k, v in node.kwargs.items() if k != "inplace"}
                builder.function(name, node.target, node.args[1:], arguments)
            else:
                raise _Refused(f"{node.op} is not supported")
        except _Refused as reason:
            refused.append(f"{name}: {reason}")
            if not _guess(builder, modules.get(node.target) if node.op == "call_module" else None):
                refused.append("(what comes after it was not looked at)")
                break
    users = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        users.setdefault(id(parameter), []).append(name)
    refused += [f"{', '.join(names)}: shared parameters are not possible"
                for names in users.values() if len(names) > 1]
    known = {n for layer in builder.layers for n in (layer.weight, layer.bias)}
    if not refused:
        refused += [f"{name}: is not used" for name,
                    _ in module.named_parameters() if name not in known]
    if not builder.layers and not refused:
        refused.append("the network computes nothing")
    if refused:
        raise UnsupportedError("the device cannot run\n  " + "\n  ".join(refused))
    network = builder.net
    network.layers = _tidy(builder.layers)
    c, h, w = builder.shape
    network.output_shape = (c * h * w,) if builder.flat else (c, h, w)
    return network


_SAME_SHAPE = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.Dropout, nn.Sigmoid, nn.Tanh, nn.GELU,
               nn.SiLU, nn.ELU, nn.LeakyReLU, nn.ReLU6, nn.Hardswish, nn.Softmax)


def _guess(builder, module):
    """Step over a refused module; whether the shape after it is known."""
    if isinstance(module, _SAME_SHAPE):
        return True
    if builder.flat or not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return False
    channels = getattr(module, "in_channels", builder.shape[0])
    try:
        with torch.no_grad():
            twin = copy.deepcopy(module).to("meta")
            out = twin(torch.empty(1, channels, *builder.shape[1:], device="meta"))
    except (RuntimeError, ValueError):
        return False
    if not isinstance(out, torch.Tensor):
        return False
    builder.shape = tuple(out.shape[1:])
    return True


def _tidy(layers):
    """Layers that see a 1x1 map through a 1x1 kernel become linear: their pixels are the images."""
    return [replace(layer,
                    linear=True) if layer.op == "conv" and layer.source[1:] == layer.kernel == (1,
                                                                                                1)
            and layer.padding == (0, 0) else layer for layer in layers]
