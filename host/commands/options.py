"""Options that several commands have, what they stand for, and numbers as all tables show them."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from ..boards import board
from ..errors import GradgateError
from ..nets import NETS, net

__all__ = [
    "BATCH",
    "NETWORKS",
    "add_batch",
    "add_bitstreams",
    "add_memory",
    "add_net",
    "board_of",
    "check_counts",
    "net_of",
    "short",
]

BATCH = 48  # trains the digits in 30 steps an epoch

NETWORKS = f"""\
Networks: {", ".join(NETS)}; or package.module:callable, a function without
parameters that returns (module, shape of one input)."""


def add_net(parser, verb):
    """NET, the network to `verb`; the command's description has NETWORKS."""
    parser.add_argument(
        "net",
        metavar="NET",
        nargs="?",
        default="digits",
        help=f"network to {verb}, see above (default: %(default)s)",
    )


def add_batch(parser, default=BATCH, reason=""):
    """--batch; a default of a command's own needs a reason, for the help text."""
    parser.add_argument(
        "--batch",
        type=int,
        default=default,
        help=f"images per step (default: %(default)s{reason and f', {reason}'})",
    )


def add_bitstreams(parser):
    """--out, the folder of the folders that `gradgate build` fills."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("bitstreams"),
        metavar="DIR",
        help="where the folders of boards with their bitstreams are (default: %(default)s)",
    )


def add_memory(parser):
    """--memory, for `board_of`."""
    parser.add_argument(
        "--memory",
        type=int,
        metavar="MIB",
        help="MiB of device memory, at most 4096, in place of what the board has: for networks "
        "that it cannot hold",
    )


def check_counts(args, *names):
    """Raises GradgateError if one of these options is less than 1."""
    for name in names:
        if getattr(args, name) < 1:
            raise GradgateError(f"--{name} must be at least 1, not {getattr(args, name)}")


def board_of(args):
    """The Board of --board, with the memory of --memory and addresses that reach all of it.

    Raises GradgateError if there is no such board, or a board with so much memory.
    """
    found = board(args.board)
    if args.memory is None:
        return found
    if not 1 <= args.memory <= 4096:
        raise GradgateError(f"--memory must be 1 to 4096 MiB, not {args.memory}")
    size = args.memory << 20
    bits = max(found.config.addr_bits, (size - 1).bit_length())
    return replace(found, memory_size=size, config=replace(found.config, addr_bits=bits))


def net_of(args, seed=0):
    """(module, shape of one input) of NET, which may lie in the working directory; the weights
    are random with `seed`. Raises GradgateError if there is no such network."""
    sys.path.insert(0, os.getcwd())
    torch.manual_seed(seed)
    return net(args.net)


def short(number):
    """A large number in three digits: 1769472 is 1.77M."""
    size = 0
    while number >= 999.5 and size < 3:
        number, size = number / 1000, size + 1
    return f"{number:.3g}{('', 'k', 'M', 'G')[size]}"
