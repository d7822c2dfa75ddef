"""PyTorch module in, chain of layers out; or one exception that lists all that cannot be run."""

import copy
import operator
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from .errors import UnsupportedError
from .layers import Builder, Refused

__all__ = ["Network", "trace"]


@dataclass
class Network:
    """A chain of layers.

    `input_shape` and `output_shape` are PyTorch's, without the batch; `source` is the input as
    (channels, rows, columns). `dropout` names the modules that would do something in training.
    """

    layers: list
    input_shape: tuple
    output_shape: tuple
    source: tuple
    dropout: tuple = ()


def _is_size(node):
    """Whether `node` computes the batch size, for `x.view(x.size(0), -1)`."""
    if node.op == "call_method" and node.target == "size":
        return node.args[1:] in ((), (0,))
    if node.op == "call_function" and node.target is getattr:
        return node.args[1:] == ("shape",)
    return (
        node.op == "call_function"
        and node.target is operator.getitem
        and isinstance(node.args[0], fx.Node)
        and _is_size(node.args[0])
        and node.args[1] == 0
    )


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
        graph = fx.Tracer().trace(module)
    except Exception as error:
        raise UnsupportedError(f"the network's forward cannot be traced: {error}") from error

    builder = Builder(example.shape[1:])
    source = builder.shape
    refused = [
        f"{name}: parameters must be float32, not {p.dtype}"
        for name, p in module.named_parameters()
        if p.dtype != torch.float32
    ]
    refused += [
        f"{name or 'the network'}: hooks would not be called"
        for name, m in module.named_modules()
        if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
    ]
    refused += _walk(graph, dict(module.named_modules()), builder)
    refused += _misused(module, builder.layers, bool(refused))
    if not builder.layers and not refused:
        refused.append("the network computes nothing")
    if refused:
        raise UnsupportedError("the device cannot run\n  " + "\n  ".join(refused))
    c, h, w = builder.shape
    return Network(
        _tidy(builder.layers),
        tuple(example.shape[1:]),
        (c * h * w,) if builder.flat else (c, h, w),
        source,
        tuple(name for name, m in module.named_modules() if getattr(m, "p", 0)),
    )


def _walk(graph, modules, builder):
    """Put all nodes of the graph into `builder`; returns the reasons against."""
    refused, seen, current = [], set(), None
    for node in graph.nodes:
        name = node.target if node.op == "call_module" else node.name
        if node.op == "placeholder":
            if current is not None:
                refused.append(f"{name}: a second input is not possible")
            current = current or node
        elif node.op == "output":
            if not isinstance(node.args[0], fx.Node):
                refused.append("output: the network must return one tensor")
            elif node.args[0] is not current:
                refused.append(f"output: {node.args[0].name} is not the end of the chain")
        elif not _is_size(node):
            inputs = [n for n in node.all_input_nodes if not _is_size(n)]
            chained, current = inputs == [current], node
            if not chained:
                those = ", ".join(n.name for n in inputs) or "nothing"
                refused.append(
                    f"{name}: works on {those}, but only a chain is possible, in which "
                    f"each tensor is used once"
                )
                continue
            try:
                _put(builder, node, modules, seen)
            except Refused as reason:
                refused.append(f"{name}: {reason}")
                if not _guess(builder, modules.get(name)):
                    refused.append("(what comes after it was not looked at)")
                    break
    return refused


def _put(builder, node, modules, seen):
    """Put one node into `builder`. Raises Refused."""
    if node.op == "call_module":
        target = modules[node.target]
        if target in seen and list(target.parameters()):
            raise Refused("is called twice; shared parameters are not possible")
        seen.add(target)
        builder.module(node.target, target)
    elif node.op in ("call_function", "call_method"):
        arguments = {k: v for k, v in node.kwargs.items() if k != "inplace"}
        builder.function(node.name, node.target, node.args[1:], arguments)
    else:
        raise Refused(f"{node.op} is not supported")


def _misused(module, layers, refused):
    """Reasons against parameters that several modules share or, if all else is well, none uses."""
    users = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        users.setdefault(id(parameter), []).append(name)
    reasons = [
        f"{', '.join(names)}: shared parameters are not possible"
        for names in users.values()
        if len(names) > 1
    ]
    if not (reasons or refused):
        known = {n for layer in layers for n in (layer.weight, layer.bias)}
        reasons = [
            f"{name}: is not used" for name, _ in module.named_parameters() if name not in known
        ]
    return reasons


_SAME_SHAPE = (
    nn.BatchNorm2d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.Dropout,
    nn.Sigmoid,
    nn.Tanh,
    nn.GELU,
    nn.SiLU,
    nn.ELU,
    nn.LeakyReLU,
    nn.ReLU6,
    nn.Hardswish,
    nn.Softmax,
)


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
    """Layers that see a 1x1 map through a 1x1 kernel become linear: their pixels are the images,
    and a pooling that follows does nothing."""
    return [
        replace(layer, linear=True, pool=None)
        if layer.op == "conv"
        and layer.source[1:] == layer.kernel == (1, 1)
        and layer.padding == (0, 0)
        else layer
        for layer in layers
    ]
