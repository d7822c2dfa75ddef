"""Board profiles from TOML files; host/boards.py documents the format."""

import tomllib
from dataclasses import MISSING, fields

from gradgate.hw.config import Config

from .boards import Board, MemoryTiming
from .errors import GradgateError

__all__ = ["read"]

_TABLES = {"config": Config, "timing": MemoryTiming}


def read(path):
    """The Board that the file at `path` describes.

    Raises GradgateError, with file and key, for a file that cannot be read or is not TOML, and for
    keys that are unknown, missing, or of a wrong type or value.
    """
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise GradgateError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GradgateError(f"{path}: not a TOML file: {error}") from error
    for name, kind in _TABLES.items():
        if name in values:
            if not isinstance(values[name], dict):
                raise GradgateError(f"{path}: {name} must be a table: begin it with [{name}]")
            values[name] = _make(path, f"{name}.", kind, values[name])
    return _make(path, "", Board, values)


def _make(path, prefix, kind, values):
    """`kind(**values)`; errors name the file, and the key after `prefix`."""
    known = {field.name: field for field in fields(kind)}
    for name in values:
        if name not in known:
            raise GradgateError(
                f"{path}: unknown key {prefix}{name}; remove it, or use one of {', '.join(known)}"
            )
    for name, field in known.items():
        if name not in values and field.default is MISSING:
            what = f"the table [{name}]" if name in _TABLES else f"the key {prefix}{name}"
            raise GradgateError(f"{path}: {what} is missing: add it")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:  # the message begins with the key
        raise GradgateError(f"{path}: {prefix}{error}") from error
