"""What can go wrong, as exceptions that name the culprit."""

__all__ = [
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


class GradgateError(Exception):
    """Base of all exceptions of this package."""


class UnsupportedError(GradgateError, ValueError):
    """The network has modules that the device cannot run; the message lists all of them."""


class OutOfMemoryError(GradgateError, MemoryError):
    """The network does not fit the board's memory; the message says what takes how much."""


class DeviceError(GradgateError, RuntimeError):
    """The device stopped with an error."""


class DeviceTimeout(DeviceError):
    """The program made no progress; the message holds units, instructions and tokens."""


class BusError(DeviceError):
    """The memory answered an access with an error."""


class ProgramError(DeviceError):
    """The program is not valid: unknown unit, token overflow, tokens left at the end."""


class NumericError(DeviceError, ArithmeticError):
    """A number overflowed, or an infinity or NaN was read."""


class LinkError(DeviceError):
    """The device does not answer, or the port is gone; the message says what was under way."""


class DeviceReset(LinkError):
    """The device has been reset or configured anew: what was in its memory may be gone."""
