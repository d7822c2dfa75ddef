"""Parameters whose values live on a device."""

import numpy as np
import torch
from torch import nn

__all__ = ["DeviceParameter", "array_of", "plain"]

_T = torch.Tensor
_QUIET = {  # neither read nor change values
    *(
        getattr(_T, name).__get__
        for name in (
            "grad",
            "requires_grad",
            "shape",
            "dtype",
            "device",
            "is_leaf",
            "grad_fn",
            "layout",
            "is_sparse",
            "is_meta",
            "ndim",
            "_version",
        )
    ),
    _T.grad.__set__,
    _T.grad.__delete__,
    _T.requires_grad.__set__,
    _T.requires_grad_,
    _T.size,
    _T.dim,
    _T.numel,
    _T.is_floating_point,
    _T.is_complex,
    _T.is_contiguous,
}
plain = torch._C.DisableTorchFunctionSubclass  # inside, parameters are ordinary tensors


class DeviceParameter(nn.Parameter):
    """A parameter whose truth is on the device.

    Any look at its values fetches them first if the device has changed them. Values written in
    place are noticed before the next pass that uses them.
    """

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function not in _QUIET:
            for value in (*args, *kwargs.values()):
                for item in value if isinstance(value, list | tuple) else (value,):
                    if isinstance(item, DeviceParameter) and hasattr(item, "owner"):
                        item.owner.fetch()
                        item.touched = True
        with plain():
            return function(*args, **kwargs)

    def __reduce_ex__(self, protocol):
        return nn.Parameter(self.detach().clone(), self.requires_grad).__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        return nn.Parameter(self.detach().clone(), self.requires_grad)


def array_of(parameter):
    """The values in the host's memory, as an array that shares it."""
    with plain():
        return np.ascontiguousarray(parameter.detach().numpy())
