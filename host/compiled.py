"""The network as PyTorch sees it: a module whose parameters live on the device."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from .boards import Board
from .device import Device
from .errors import DeviceError, UnsupportedError
from .graph import trace
from .parameter import DeviceParameter, array_of, plain
from .profile import Profile
from .runtime import Runtime

__all__ = ["CompiledModel", "compile"]


class _Apply(torch.autograd.Function):
    """Forward and backward pass on the device, for autograd."""

    @staticmethod
    def forward(ctx, model, x, *parameters):
        ctx.model, ctx.version = model, model.version
        ctx.input_gradient = x.requires_grad
        ctx.save_for_backward(x)
        output = model._forward(x, True, ctx.input_gradient)
        ctx.generation = model.runtime.generation
        return model._shaped(output)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        model, (x,) = ctx.model, ctx.saved_tensors
        if model.version != ctx.version:
            raise RuntimeError(
                "the weights have changed since this output was computed; call "
                "backward() before the update"
            )
        if model.runtime.generation != ctx.generation:
            # another batch has overwritten the activations
            model._forward(x, True, ctx.input_gradient)
            ctx.generation = model.runtime.generation
        return None, *model._backward(x, gradient, ctx.needs_input_grad[1:])


class CompiledModel(nn.Module):
    """A network that runs on a device; made by `gradgate.compile`.

    Parameters have the names, shapes and values of the network's, and their truth is on the device.
    `model(x)` runs the forward pass for any batch size; autograd, `gradgate.optim.SGD` and
    `state_dict` work as usual. `train_step` does one step without gradients of weights in memory.

    Parameters
    ----------
    network : Network
    parameters : dict of str to Tensor
    device : Device
    """

    def __init__(self, network, parameters, device):
        super().__init__()
        if device.resident is not None and not device.resident.lost:
            device.resident.leave()
        self.runtime = Runtime(network, device)
        self.version = 0  # counts changes of the weights
        self._stale = False
        self._slots = []  # (step, weight, bias or None)
        self._gradients = {}  # parameter -> gradient that the device holds
        # parameters in the order of the network's, for optimizer state; names like
        # "features.0.weight"
        made = {}
        for name, value in parameters.items():
            made[name] = parameter = DeviceParameter(
                value.detach().clone().contiguous(), value.requires_grad
            )
            holder = self
            *path, leaf = name.split(".")
            for part in path:
                if part not in holder._modules:
                    holder.add_module(part, nn.Module())
                holder = holder._modules[part]
            holder.register_parameter(leaf, parameter)
        for step in self.runtime.steps:
            if step.weights is not None:
                self._slots.append(
                    (
                        step,
                        made[step.layer.weight],
                        made[step.layer.bias] if step.layer.bias else None,
                    )
                )
        for parameter in made.values():
            parameter.owner, parameter.touched = self, False
        self._named = [
            (self.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], p)
            for name, p in made.items()
        ]
        self.runtime.leave = self.fetch
        for slot in self._slots:
            self._upload(slot)
        self.load_momenta({})

    def __deepcopy__(self, memo):
        raise TypeError(
            "a compiled model cannot be copied or pickled, its weights are on its "
            "device; save state_dict(), and compile again"
        )

    def __reduce_ex__(self, protocol):
        self.__deepcopy__({})

    def train(self, mode=True):
        """As of any module. Raises UnsupportedError for networks with dropout, which were compiled
        in eval mode."""
        if mode and self.runtime.network.dropout:
            raise UnsupportedError(
                f"{', '.join(self.runtime.network.dropout)}: dropout cannot be "
                "trained; set p = 0 before compiling"
            )
        return super().train(mode)

    @property
    def device(self):
        return self.runtime.device

    def _slot_parameters(self):
        return [p for _, weight, bias in self._slots for p in (weight, bias) if p is not None]

    # ---- values of parameters

    def _upload(self, slot):
        step, weight, bias = slot
        self.runtime.write_weights(step, array_of(weight), None if bias is None else array_of(bias))
        for p in (weight, bias):
            if p is not None:
                p.shadow = array_of(p).copy()

    def fetch(self):
        """Bring the parameters' values from the device, if it has changed them."""
        if not self._stale:
            return
        with plain(), torch.no_grad():
            for step, weight, bias in self._slots:
                values = self.runtime.read_weights(step, tuple(weight.shape))
                for p, value in zip((weight, bias), values, strict=True):
                    if p is not None:
                        p.copy_(torch.from_numpy(value))
                        p.shadow = value
        self._stale = False

    def push(self):
        """Take values written into parameters to the device. The passes do this by themselves.

        Values written through a tensor that shares a parameter's memory (`p.data`, kept from
        earlier) are not noticed by themselves; call this with `p.touched = True`, or use
        `load_state_dict`.
        """
        for slot in self._slots:
            touched = [p for p in slot[1:] if p is not None and p.touched]
            changed = [
                p
                for p in touched
                if not np.array_equal(array_of(p).view(np.uint32), p.shadow.view(np.uint32))
            ]
            if changed:
                self._upload(slot)
                self.version += 1
            for p in touched:
                p.touched = False

    def _changed(self):
        """The device has updated its weights."""
        self._stale = True
        self.version += 1

    def momenta(self):
        """{parameter: momentum tensor} of all parameters, from the device."""
        found = {}
        for step, weight, bias in self._slots:
            with plain():
                values = self.runtime.read_momentum(step, tuple(weight.shape))
            for p, value in zip((weight, bias), values, strict=True):
                if p is not None:
                    found[p] = torch.from_numpy(value)
        return found

    def load_momenta(self, momenta):
        """Set the momentum of parameters; those not in the dict `momenta` get zero."""
        for step, *parameters in self._slots:
            arrays = [
                None
                if p is None or momenta.get(p) is None
                else np.ascontiguousarray(momenta[p].detach().numpy(), np.float32)
                for p in parameters
            ]
            if arrays[0] is None:
                with plain():
                    arrays[0] = np.zeros(tuple(parameters[0].shape), np.float32)
            self.runtime.write_momentum(step, *arrays)

    def state_dict(self, *args, **kwargs):
        """As of any module; tensors are copies and do not change when training goes on."""
        self.fetch()
        state = super().state_dict(*args, **kwargs)
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                state[name] = value.detach().clone()
        return state

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """As of any module, and takes the values to the device.

        When a failed update has made the weights on the device unknown, this makes them known
        again: then all must be in `state_dict`, and momentum is zero afterwards.
        """
        if self.runtime.lost:
            return self._restore(state_dict, strict)
        self.fetch()
        result = super().load_state_dict(state_dict, strict=strict)
        for p in self._slot_parameters():
            p.touched = True
        self.push()
        return result

    def _restore(self, state_dict, strict):
        """load_state_dict for a device whose weights are unknown."""
        missing = [name for name, _ in self.named_parameters() if name not in state_dict]
        if missing:
            raise DeviceError(f"{self.runtime.lost}; the state given lacks {', '.join(missing)}")
        # what the device holds is not to be fetched any more
        lost, self.runtime.lost, self._stale = self.runtime.lost, None, False
        try:
            result = super().load_state_dict(state_dict, strict=strict)
            for slot in self._slots:
                self._upload(slot)
            self.load_momenta({})
        except BaseException:
            self.runtime.lost, self._stale = lost, True
            raise
        self.version += 1
        return result

    def _apply(self, *args, **kwargs):
        raise TypeError("the parameters of a compiled model stay on its device, as float32")

    # ---- passes

    def _check_input(self, x):
        wanted = self.runtime.network.input_shape
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"input must be a torch.Tensor, not {type(x).__name__}")
        if x.dtype != torch.float32:
            raise TypeError(f"input must be float32, not {x.dtype}")
        if x.dim() != len(wanted) + 1 or tuple(x.shape[1:]) != wanted or not len(x):
            raise ValueError(
                f"input must have the shape [batch, {', '.join(map(str, wanted))}], "
                f"not {list(x.shape)}"
            )

    def _shaped(self, output):
        return torch.from_numpy(
            output.reshape(len(output), *self.runtime.network.output_shape).copy()
        )

    def _forward(self, x, train, input_gradient=False):
        plan = self.runtime.plan(len(x), train=train, input_gradient=input_gradient)
        return self.runtime.forward(plan, x.detach().numpy())

    def forward(self, x):
        self._check_input(x)
        for holder, leaf, p in self._named:
            if holder._parameters[leaf] is not p:
                raise TypeError(
                    "a compiled model runs with the parameters on its device; set "
                    "them with load_state_dict()"
                )
        self.push()
        parameters = self._slot_parameters()
        with plain():
            wanted = torch.is_grad_enabled() and (
                x.requires_grad or any(p.requires_grad for p in parameters)
            )
        if not wanted:
            return self._shaped(self._forward(x, False))
        self.runtime.reserve_gradients()
        with plain():
            return _Apply.apply(self, x, *parameters)

    def _flags(self, allowed):
        """Per step whether weight and bias are in the set `allowed`."""
        flags = {
            id(step): (weight in allowed, bias in allowed) for step, weight, bias in self._slots
        }
        return tuple(flags.get(id(step), (False, False)) for step in self.runtime.steps)

    def _backward(self, x, gradient, needs):
        """Gradients of the input and all parameters, None where `needs` says so."""
        parameters = self._slot_parameters()
        wanted = {p for p, need in zip(parameters, needs[1:], strict=True) if need}
        plan = self.runtime.plan(len(x), train=True, input_gradient=x.requires_grad)
        self._gradients = {}
        self.runtime.backward(plan, gradient.numpy(), self._flags(wanted))
        found = {}
        for step, weight, bias in self._slots:
            if weight in wanted or bias in wanted:
                with plain():
                    values = self.runtime.read_gradient(step, tuple(weight.shape))
                found |= {
                    p: torch.from_numpy(v)
                    for p, v in zip((weight, bias), values, strict=True)
                    if p in wanted
                }
        self._gradients = {p: g.clone() for p, g in found.items()}
        dx = None
        if needs[0]:
            dx = torch.from_numpy(self.runtime.input_gradient(plan)).reshape(x.shape)
        return dx, *(found.get(p) for p in parameters)

    def apply_gradients(self, hyper):
        """Update parameters by their `.grad`; what `gradgate.optim.SGD.step` does.

        Parameters
        ----------
        hyper : dict
            Per parameter (weight decay, momentum, learning rate); others, and those without a
            gradient, stay as they are.

        Raises ValueError if weight and bias of one layer differ in their hyperparameters.
        """
        self.push()
        with plain():
            ready = {p for p in hyper if p.grad is not None}
            if not ready:
                return
            self.runtime.reserve_gradients()
            self._upload_gradients(ready)
            self.runtime.update(self._flags(ready), self._hyper(ready, hyper))
        self._changed()

    def _upload_gradients(self, ready):
        """Make the gradients in device memory those of the parameters in `ready`."""
        for step, weight, bias in self._slots:
            some = [p for p in (weight, bias) if p in ready]
            if all(p in self._gradients and torch.equal(p.grad, self._gradients[p]) for p in some):
                continue
            arrays = [_gradient(p, p in ready) for p in (weight, bias)]
            self.runtime.write_gradient(step, *arrays)
            for p in some:
                self._gradients[p] = p.grad.detach().clone()

    def check_groups(self, hyper):
        """Raise ValueError if weight and bias of a layer differ in `hyper` (apply_gradients)."""
        with plain():
            self._hyper(set(hyper), hyper)

    def _hyper(self, ready, hyper):
        """Hyperparameters per number of the step, of the parameters in `ready`."""
        found = {}
        for step, weight, bias in self._slots:
            values = {hyper[p] for p in (weight, bias) if p in ready}
            if len(values) > 1:
                raise ValueError(
                    f"{step.layer.name}: weight and bias are updated together and need the "
                    f"same lr, momentum and weight_decay"
                )
            if values:
                number = next(i for i, s in enumerate(self.runtime.steps) if s is step)
                found[number] = values.pop()
        return found

    def train_step(self, x, y, loss=F.cross_entropy, *, optimizer):
        """Forward, loss, backward and update of one batch; returns the loss.

        The weights get the same bits as with autograd and `optimizer.step()`, but their gradients
        never go through memory, and `.grad` is left alone.

        Parameters
        ----------
        x, y : Tensor
            Batch and targets.
        loss : callable
            loss(output, y) -> scalar tensor.
        optimizer : gradgate.optim.SGD
        """
        self._check_input(x)
        if not hasattr(optimizer, "hyperparameters"):
            raise TypeError(
                "optimizer must be a gradgate.optim.SGD, not "
                f"{type(optimizer).__module__}.{type(optimizer).__name__}"
            )
        hyper = optimizer.hyperparameters(self)
        self.push()
        with plain():
            ready = {p for p in hyper if p.requires_grad}
            steps = self._hyper(ready, hyper)
        plan = self.runtime.plan(len(x), train=True)
        output = self.runtime.forward(plan, x.detach().numpy())
        with torch.enable_grad():
            leaf = self._shaped(output).requires_grad_()
            value = loss(leaf, y)
            (gradient,) = torch.autograd.grad(value, leaf)
        if ready:
            self.runtime.backward(plan, gradient.numpy(), self._flags(ready), steps)
            self._changed()
        optimizer._opt_called = True  # what a scheduler looks for
        return value.detach()

    # ---- facts

    def profile(self):
        """What the device counted so far, a Profile: Counters per pass, and their `total`; with a
        clock, or as predicted without, also who spent the cycles of the last runs."""
        return Profile(self.runtime)

    def train_macs(self):
        """Multiply-accumulates of one image in a training step, as the network defines them:
        forward, gradients of features (none for the first layer), gradients of weights."""
        macs = [layer.macs for layer in self.runtime.network.layers]
        first = next((i for i, m in enumerate(macs) if m), 0)
        return 3 * sum(macs) - (macs[first] if macs else 0)


def _gradient(parameter, wanted):
    """Array of a parameter's gradient, zeros if it is not wanted, None without a parameter."""
    if parameter is None:
        return None
    if not wanted:
        return np.zeros(tuple(parameter.shape), np.float32)
    return np.ascontiguousarray(parameter.grad.detach().numpy(), np.float32)


def compile(module, example_inputs, device):
    """Put a PyTorch network on a device.

    A device holds one network: one that was compiled for it before keeps its weights, but cannot
    run any more.

    Parameters
    ----------
    module : torch.nn.Module
        Its weights are copied; later changes of either are not seen by the other.
    example_inputs : tuple of one Tensor
        float32, [batch, channels, rows, columns] or [batch, features]; the batch size does not
        matter.
    device : Device
        From `gradgate.device`.

    Returns a CompiledModel. Raises UnsupportedError, with every module that cannot be run and why;
    OutOfMemoryError.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
    if isinstance(device, Board | str) or not isinstance(device, Device):
        raise TypeError(f"device must be a Device from gradgate.device(), not {device!r}")
    inputs = (
        (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    )
    if len(inputs) != 1:
        raise TypeError(f"example_inputs must hold one tensor, not {len(inputs)}")
    network = trace(module, inputs[0])
    model = CompiledModel(network, dict(module.named_parameters()), device)
    return model.train(module.training and not network.dropout)
