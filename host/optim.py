"""Optimizers that run on the device."""

from torch.optim import Optimizer

from .compiled import CompiledModel
from .parameter import DeviceParameter

__all__ = ["SGD"]

FLOAT_MAX = 3.4028234e38  # what the device's fp32 holds


class SGD(Optimizer):
    """Stochastic gradient descent on the device: torch.optim.SGD with dampening 0, without
    Nesterov.

    Gradients are taken from `.grad` of the parameters, so they may be clipped or accumulated
    before `step`. Learning rate schedulers and parameter groups work; weight and bias of one layer
    must have the same hyperparameters. A new optimizer starts without momentum.

    Parameters
    ----------
    params : iterable
        Parameters of one compiled model, or groups of them.
    lr, momentum, weight_decay : float
        Not negative.

    Raises TypeError for hyperparameters that are not numbers, ValueError if they are out of range.
    """

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        _check(defaults)
        super().__init__(params, defaults)
        owners = set()
        for group in self.param_groups:
            _check(group)
            for p in group["params"]:
                if not isinstance(p, DeviceParameter):
                    raise TypeError("gradgate.optim.SGD takes parameters of a compiled model")
                owners.add(p.owner)
        if len(owners) != 1:
            raise ValueError("all parameters must be of one compiled model")
        self.model = owners.pop()
        assert isinstance(self.model, CompiledModel)
        hyper = self.hyperparameters(self.model)
        self.model.check_groups(hyper)
        self.model.load_momenta({p: m for p, m in self.model.momenta().items() if p not in hyper})

    def hyperparameters(self, model):
        """{parameter: (weight decay, momentum, learning rate)} of all groups.

        Raises ValueError if the optimizer is not of `model`, TypeError or ValueError for bad
        values.
        """
        if model is not self.model:
            raise ValueError("the optimizer has parameters of another model")
        found = {}
        for group in self.param_groups:
            _check(group)
            values = tuple(float(group[name]) for name in ("weight_decay", "momentum", "lr"))
            found |= dict.fromkeys(group["params"], values)
        return found

    def step(self, closure=None):
        """Update all parameters that have a gradient; returns the loss of `closure`, if given."""
        loss = closure() if closure is not None else None
        self.model.apply_gradients(self.hyperparameters(self.model))
        return loss

    def state_dict(self):
        """As torch.optim.SGD: momentum_buffer of each parameter."""
        momenta = self.model.momenta()
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {"momentum_buffer": momenta[p]}
        state = super().state_dict()
        self.state.clear()
        return state

    def load_state_dict(self, state_dict):
        """Set hyperparameters, and the momentum on the device."""
        super().load_state_dict(state_dict)
        self.model.load_momenta({p: s.get("momentum_buffer") for p, s in self.state.items()})
        self.state.clear()


def _check(group):
    for name in ("lr", "momentum", "weight_decay"):
        value = group[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number, not {value!r}")
        if not 0 <= value <= FLOAT_MAX:
            raise ValueError(f"{name} must be finite and at least 0, not {value!r}")
