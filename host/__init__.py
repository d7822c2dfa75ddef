"""gradgate: train CNNs on an FPGA from PyTorch."""

from . import optim
from .boards import BOARDS, Board, board
from .compiled import CompiledModel, compile
from .device import Counters, Device
from .devices import device
from .errors import (
    BusError,
    DeviceError,
    DeviceReset,
    DeviceTimeout,
    GradgateError,
    LinkError,
    NumericError,
    OutOfMemoryError,
    ProgramError,
    UnsupportedError,
)

__all__ = [
    "compile",
    "device",
    "optim",
    "CompiledModel",
    "Device",
    "Counters",
    "Board",
    "BOARDS",
    "board",
    "GradgateError",
    "UnsupportedError",
    "OutOfMemoryError",
    "DeviceError",
    "DeviceTimeout",
    "BusError",
    "ProgramError",
    "NumericError",
    "LinkError",
    "DeviceReset",
]
