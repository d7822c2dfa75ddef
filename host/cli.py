"""The `gradgate` command line."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from .boards import BOARDS
from .commands import bench, boards, build, flash, plan, report, selftest, train
from .errors import GradgateError

__all__ = ["main"]

DESCRIPTION = """\
Train convolutional networks on an FPGA, or on its exact simulation.

Backends (--device): `model` executes the device's program bit for bit without a clock; `rtl`
simulates the gateware cycle by cycle; `serial://PORT` is a board at a serial port. All give the
same weights to the last bit."""


def _device(parser, command):
    parser.add_argument(
        "--device",
        default=command.DEVICE,
        metavar="NAME",
        help="backend: model, rtl or serial://PORT (default: %(default)s)",
    )


def _board(parser, command):
    parser.add_argument(
        "--board",
        default="ulx3s-85f",
        metavar="NAME",
        help=f"board profile (array size, format, memory): {', '.join(BOARDS)}, or a board file "
        "NAME.toml (default: %(default)s)",
    )


def _json(parser, command):
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the result as one JSON object to FILE"
    )


ALL = (_device, _board, _json)
COMMANDS = (  # name, module, options shared with other commands
    ("train", train, ALL),
    ("plan", plan, ALL),
    ("selftest", selftest, ALL),
    ("bench", bench, (_board, _json)),
    ("report", report, ()),
    ("boards", boards, (_json,)),
    ("build", build, (_json,)),
    ("flash", flash, (_json,)),
)


def _dumps(value):
    """JSON with one line for each element of what is at the top: readable, and good to compare."""
    lines = []
    for name, item in value.items():
        head = f"  {json.dumps(name)}: "
        if isinstance(item, dict) and item:
            inner = [f"    {json.dumps(key)}: {json.dumps(part)}" for key, part in item.items()]
            lines.append(head + "{\n" + ",\n".join(inner) + "\n  }")
        elif isinstance(item, list) and item:
            inner = [f"    {json.dumps(part)}" for part in item]
            lines.append(head + "[\n" + ",\n".join(inner) + "\n  ]")
        else:
            lines.append(head + json.dumps(item))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def build_parser():
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="gradgate",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command, shared in COMMANDS:
        sub = commands.add_parser(
            name,
            help=command.HELP,
            description=command.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for add in shared:
            add(sub, command)
        command.arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(argv=None):
    """Run one command; returns the exit status: 0 success, 1 failure."""
    args = build_parser().parse_args(argv)
    console = Console(quiet=getattr(args, "quiet", False))
    try:
        path = getattr(args, "json", None)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        result, status = args.run(args, console)
        if path:
            path.write_text(_dumps(result))
    except (GradgateError, OSError) as error:
        print(f"gradgate {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"gradgate {args.command}: interrupted", file=sys.stderr)
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
