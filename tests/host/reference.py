"""float64 autograd as the judge of the device's outputs and gradients."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["Judgement", "judge", "relative"]


@dataclass
class Judgement:
    """`errors`: relative norms by name, given the choices that the device made; `flips`: how many
    choices of ReLU and maximum pooling differ from float64's; `choices`: of how many; `gap`: the
    largest distance, relative to the map's largest value, that a flipped choice has from a tie."""

    errors: dict
    flips: int
    choices: int
    gap: float


def relative(got, wanted):
    """Norm of the difference by the norm of `wanted`."""
    got, wanted = got.detach().double(), wanted.detach().double()
    scale = wanted.norm().item()
    error = (got - wanted).norm().item()
    return error / scale if scale else error


class _Choices:
    """Walks the layers in float64 with the choices that the device has left in its memory."""

    def __init__(self, model, plan):
        self.runtime, self.tensors = model.runtime, plan.tensors
        self.flips = self.choices = 0
        self.gap = 0.0

    def _note(self, other, distance, values):
        self.flips += int(other.sum())
        self.choices += other.numel()
        if other.any():
            self.gap = max(self.gap, (distance[other].max() / values.abs().max()).item())

    def _read(self, tensor):
        return self.runtime.device.read(tensor.address, tensor.size)

    def _tags(self, tensor):
        data = self._read(tensor)
        bits = np.frombuffer(data, np.uint16 if tensor.fmt == "bf16" else np.uint32)
        bits = bits >> (0 if tensor.fmt == "bf16" else 16)
        full = (bits & 0x7F).astype(np.int64).reshape(tensor.images, tensor.blocks, tensor.rows,
                                                      tensor.cols, tensor.block)
        full = full.transpose(0, 1, 4, 2, 3).reshape(tensor.images, -1, tensor.rows, tensor.cols)
        return torch.from_numpy(full[:, :tensor.channels].copy())

    def relu(self, x, i):
        out = self.tensors.outputs[i]
        mask = torch.from_numpy(out.unpack(self._read(out)) > 0).reshape(x.shape)
        own = x.detach()
        self._note(mask != (own > 0), own.abs(), own)
        return x * mask

    def maxpool(self, x, layer, i):
        p1, p0 = layer.padding
        padded = F.pad(x, (p0, p0, p1, p1), value=-1e30)
        windows = padded.unfold(2, layer.kernel[0], layer.stride[0])
        windows = windows.unfold(3, layer.kernel[1], layer.stride[1]).flatten(-2)
        tags = self._tags(self.tensors.tags[i])
        chosen = windows.gather(-1, tags[..., None])[..., 0]
        own, first = windows.detach().max(-1)
        self._note(tags != first, own - chosen.detach(), x.detach())
        return chosen

    def run(self, x, parameters):
        shape = self.runtime.network.source
        x = x.reshape(len(x), *shape)
        for i, step in enumerate(self.runtime.steps):
            layer = step.layer
            if layer.op == "conv":
                weight = parameters[layer.weight]
                bias = parameters[layer.bias] if layer.bias else None
                if layer.linear:
                    x = x.flatten(1) @ weight.flatten(1).T
                    x = (x if bias is None else x + bias)[..., None, None]
                else:
                    x = F.conv2d(x, weight, bias, layer.stride, layer.padding)
                if layer.pool is not None:
                    x = self.maxpool(x, layer.pool, i)
            elif layer.op == "maxpool":
                x = self.maxpool(x, layer, i)
            elif layer.op == "avgpool":
                x = F.avg_pool2d(x, layer.kernel, layer.stride, layer.padding, divisor_override=1)
                x = x * layer.scale
            if layer.relu:
                x = self.relu(x, i)
        return x.reshape(len(x), *self.runtime.network.output_shape)


def judge(model, x, gradient, *, cancelling=False):
    """Run `model` forward and backward on the device, and compare with float64.

    `x`, `gradient` and the parameters must be representable in the operand format. With
    `cancelling`, a tensor whose sums cancel to less than a tenth of their terms is measured by a
    tenth of the terms: relative to such a result no finite precision is small.
    """
    x = x.clone().requires_grad_()
    model.zero_grad()
    y = model(x)
    y.backward(gradient)
    got = {"output": y, "input": x.grad, **{name: p.grad for name, p in model.named_parameters()}}
    plan = model.runtime.plan(len(x), train=True, input_gradient=True)
    choices = _Choices(model, plan)
    wanted = _exact(model, choices, x, gradient, lambda t: t)
    errors = {name: relative(got[name], wanted[name]) for name in got}
    if cancelling:
        terms = _exact(model, _Choices(model, plan), x, gradient, torch.abs)
        for name, error in errors.items():
            scale, least = (t[name].detach().norm().item() for t in (wanted, terms))
            if scale < 0.1 * least:
                errors[name] = error * (scale or 1) / (0.1 * least)
    return Judgement(errors, choices.flips, choices.choices, choices.gap)


def _exact(model, choices, x, gradient, view):
    """Output and gradients in float64 by name, of `view` of all inputs."""
    x = view(x.detach().double()).requires_grad_()
    parameters = {name: view(p.detach().double()).requires_grad_()
                  for name, p in model.named_parameters()}
    y = choices.run(x, parameters)
    y.backward(view(gradient.double()))
    return {"output": y, "input": x.grad, **{name: p.grad for name, p in parameters.items()}}
