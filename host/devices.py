"""Devices by name."""

import inspect

from gradgate.hw.config import Config

from .boards import Board, board
from .errors import GradgateError

__all__ = ["device"]


def device(name, board="ulx3s-85f", **options):
    """A device to compile networks for.

    Parameters
    ----------
    name : str
        "model": executes programs bit-exactly, without a clock. "rtl": simulates the gateware
        cycle by cycle; the first use of a configuration compiles it.
    board : str, Board or Config
        What the device is made of: the name of a board or the path of a board file (see
        boards.py), a Board, or a bare Config (64 MiB of memory).
    options :
        Passed to the backend, in place of what the board says: `memory_size` and `timing`; for
        "rtl" also `seed`.

    Raises GradgateError for an unknown name, TypeError for an option that the backend does not
    have.
    """
    config, arguments = _resolve(board)
    if name == "model":
        from gradgate.sim.model import ModelDevice as backend
    elif name == "rtl":
        from gradgate.sim.rtl import RTLDevice as backend
    else:
        raise GradgateError(f"no device {name!r}; there are 'model' and 'rtl'")
    known = set(inspect.signature(backend).parameters) - {"config"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise TypeError(
            f"device {name!r} has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    return backend(config, **arguments | options)


def _resolve(what):
    """(Config, arguments of the backend) of a board in any of its spellings."""
    if isinstance(what, str):
        what = board(what)
    if isinstance(what, Config):
        return what, {"memory_size": 64 << 20}
    if not isinstance(what, Board):
        raise TypeError(f"board must be a name, a Board or a Config, not {what!r}")
    return what.config, {"memory_size": what.memory_size, "timing": what.timing}
