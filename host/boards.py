"""Board profiles: what a device is made of and what its memory can do.

A board of one's own is a TOML file whose path takes the place of the name: `board("mine.toml")`.
Its keys are the parameters of Board, with those of Config in the table [config] and those of
MemoryTiming in the table [timing]. What has a default there may be left out.

    name = "mine"
    description = "two banks of SDRAM on a board of mine"
    memory_size = 0x4000000  # bytes
    clock_hz = 75e6

    [config]
    tm = 8
    tn = 16
    fmt = "bf16"
    beat_bits = 64
    a_depth = 1024
    b_depth = 2048
    acc_depth = 1024
    max_burst = 64
    read_ports = 1
    write_ports = 1
    core = "units"
    addr_bits = 26

    [timing]
    latency = 12
    beat_cycles = 2.0
    shared = true
    stall = 0.0
    outstanding = 8
    row_bytes = 2048
    row_cycles = 8
    refresh_interval = 585
    refresh_cycles = 12
"""

import importlib
import pkgutil

import gradgate.hw.boards
from gradgate.hw.boards.profile import Board, MemoryTiming

from .errors import GradgateError

__all__ = ["MemoryTiming", "Board", "BOARDS", "board", "module"]


def _modules():
    """The files of hw/boards that are boards, by the names of these."""
    folder = gradgate.hw.boards
    files = [
        importlib.import_module(f"{folder.__name__}.{info.name}")
        for info in pkgutil.iter_modules(folder.__path__)
    ]
    return {file.BOARD.name: file for file in files if hasattr(file, "BOARD")}


_MODULES = _modules()
BOARDS = {name: file.BOARD for name, file in _MODULES.items()}


def board(name):
    """The profile of that name, or in the file of that path if it ends in `.toml`.

    Raises GradgateError for a name that there is not, listing those there are, and for a file that
    is not a profile, with the key at fault and what it must be.
    """
    if name.endswith(".toml"):
        from .boardfile import read

        return read(name)
    try:
        return BOARDS[name]
    except KeyError:
        raise GradgateError(
            f"no board {name!r}; there are {', '.join(sorted(BOARDS))}, and files ending in .toml"
        ) from None


def module(name):
    """The file of hw/boards with the board of that name, as a module.

    Raises GradgateError for a name that there is not, listing those there are.
    """
    try:
        return _MODULES[name]
    except KeyError:
        raise GradgateError(f"no board {name!r}; there are {', '.join(sorted(BOARDS))}") from None
