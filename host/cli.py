"""The `gradgate` command line."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from .boards import BOARDS
from .commands import plan, selftest, train
from .errors import GradgateError

__all__ = ["main"]

DESCRIPTION = """\
Train convolutional networks on an FPGA, or on its exact simulation.

Backends (--device): `model` executes the device's program bit for bit without a clock; `rtl`
simulates the gateware cycle by cycle. Both give the same weights to the last bit."""


def _common(parser, command):
    parser.add_argument(
        "--device",
        default=command.DEVICE,
        metavar="NAME",
        help="backend: model or rtl (default: %(default)s)",
    )
    parser.add_argument(
        "--board",
        default="ulx3s-85f",
        choices=sorted(BOARDS),
        help="board profile: array size, format, memory (default: %(default)s)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the result as one JSON object to FILE"
    )


def build_parser():
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="gradgate",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in (("train", train), ("plan", plan), ("selftest", selftest)):
        sub = commands.add_parser(
            name,
            help=command.HELP,
            description=command.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _common(sub, command)
        command.arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(argv=None):
    """Run one command; returns the exit status: 0 success, 1 failure."""
    args = build_parser().parse_args(argv)
    console = Console(quiet=getattr(args, "quiet", False))
    try:
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
        result, status = args.run(args, console)
        if args.json:
            args.json.write_text(json.dumps(result, indent=2) + "\n")
    except (GradgateError, OSError) as error:
        print(f"gradgate {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"gradgate {args.command}: interrupted", file=sys.stderr)
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
