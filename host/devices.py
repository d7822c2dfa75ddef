"""Devices by name."""

import inspect
from urllib.parse import parse_qsl

from gradgate.hw.config import Config

from .boards import Board, board
from .errors import GradgateError

__all__ = ["device"]

_SERIAL = "serial://"


def device(name, board="ulx3s-85f", **options):
    """A device to compile networks for.

    Parameters
    ----------
    name : str
        "model": executes programs bit-exactly, without a clock. "rtl": simulates the gateware
        cycle by cycle; the first use of a configuration compiles it. "serial://PORT": a board, for
        example "serial:///dev/ttyUSB0?board=ulx3s-85f&baud=3000000"; PORT is a serial port or any
        URL that pyserial opens, `board` takes the place of the argument, without `baud` the usual
        ones are tried, and `patience=SECONDS` is for a board that answers later than one would
        think, such as a simulated one.
    board : str, Board or Config
        What the device is made of: the name of a board or the path of a board file (see
        boards.py), a Board, or (not for a serial port) a bare Config (64 MiB of memory).
    options :
        Passed to the backend, in place of what the board says: `memory_size` and `timing`; for
        "rtl" also `seed`. For a serial port `timing` and `progress`, see SerialDevice.

    Raises GradgateError for an unknown name, TypeError for an option that the backend does not
    have.
    """
    if name.startswith(_SERIAL):
        return _serial(name, board, options)
    config, arguments = _resolve(board)
    if name == "model":
        from gradgate.sim.model import ModelDevice as backend
    elif name == "rtl":
        from gradgate.sim.rtl import RTLDevice as backend
    else:
        raise GradgateError(f"no device {name!r}; there are 'model' and 'rtl', and 'serial://PORT'")
    _check_options(name, options, set(inspect.signature(backend).parameters) - {"config"})
    return backend(config, **arguments | options)


def _check_options(name, options, known):
    unknown = sorted(set(options) - known)
    if unknown:
        raise TypeError(
            f"device {name!r} has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )


def _serial(name, board_, options):
    """The device behind a URL `serial://PORT?board=NAME&baud=N&patience=SECONDS`."""
    from .serial_device import SerialDevice

    port, _, query = name.removeprefix(_SERIAL).partition("?")
    try:
        parts = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError as error:
        raise GradgateError(f"{name}: {error}") from error
    line = {}
    for key, kind in (("baud", int), ("patience", float)):
        if key in parts:
            try:
                line[key] = kind(value := parts.pop(key))
            except ValueError as error:
                raise GradgateError(f"{name}: {key}={value} is not a number") from error
    what = parts.pop("board", board_)
    wrong = any(not 0 < number < float("inf") for number in line.values())
    if parts or not port or wrong:
        raise GradgateError(
            f"{name} is not a port: it must be like serial:///dev/ttyUSB0?board=NAME, and may have "
            "baud=N and patience=SECONDS, both more than 0"
        )
    _check_options(name, options, {"timing", "progress"})
    return SerialDevice(board(what) if isinstance(what, str) else what, port, **line, **options)


def _resolve(what):
    """(Config, arguments of the backend) of a board in any of its spellings."""
    if isinstance(what, str):
        what = board(what)
    if isinstance(what, Config):
        return what, {"memory_size": min(64 << 20, 1 << what.addr_bits)}
    if not isinstance(what, Board):
        raise TypeError(f"board must be a name, a Board or a Config, not {what!r}")
    return what.config, {"memory_size": what.memory_size, "timing": what.timing}
