"""`gradgate build`: the bitstream of a board, with open tools."""

import re
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .. import build
from ..errors import GradgateError
from .options import add_bitstreams

__all__ = ["HELP", "DESCRIPTION", "DEVICE", "arguments", "run"]

HELP = "make the bitstream of a board"
DEVICE = None
DESCRIPTION = """\
Synthesise the design of a board (Yosys), place and route it with several seeds (nextpnr), and keep
the fastest: bitstream and report.json go to a folder named after the board. The same sources and
packages give the same bitstream. Exit status 1 if no seed reaches the clock of the board."""


def arguments(parser):
    """Add the options of this command."""
    parser.add_argument(
        "board", metavar="BOARD", help=f"what to build: {', '.join(build.buildable())}"
    )
    parser.add_argument(
        "--seeds",
        default="1-4",
        metavar="LIST",
        help="seeds of place and route, as 7 or 1-4 or 1,5,9 (default: %(default)s)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=60,
        metavar="N",
        help="give a seed up after so many minutes, as routing may never end; 0: never "
        "(default: %(default)s)",
    )
    add_bitstreams(parser)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build"),
        metavar="DIR",
        help="where the programs work, in a folder per board (default: %(default)s)",
    )


def seeds(text):
    """The seeds that --seeds means, in order; raises GradgateError if it means none."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise GradgateError(f"--seeds must be like 7 or 1-4 or 1,5,9, not {text!r}")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return list(dict.fromkeys(found))


def run(args, console):
    """Build; returns (report, exit status)."""
    wanted = seeds(args.seeds)
    if not 0 <= args.minutes < 1e6:
        raise GradgateError(f"--minutes must be 0 or more, not {args.minutes:g}")
    with _Bar(console, len(wanted) + 3) as bar:
        bar.step("elaboration")
        plan = build.plan(args.board)
        report = build.build(
            plan,
            wanted,
            args.work / args.board,
            args.out / args.board,
            minutes=args.minutes,
            step=bar.step,
            line=bar.line,
        )
    console.print(table(report))
    console.print(f"wrote {args.out / args.board / report['bitstream']['file']}")
    return report, 0


def table(report):
    """What a report says, for people."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    for cell, used in report["used"].items():
        there = report["available"][cell]
        shown.add_row(cell, f"{used:,} of {there:,}", f"{used / there:.0%}")
    shown.add_row(
        "clock",
        f"{report['fmax_mhz']:g} MHz, {report['target_mhz']:g} needed",
        f"seed {report['seed']}",
    )
    return shown


class _Bar:
    """Steps done, what is under way, and what the program that does it says last."""

    def __init__(self, console, steps):
        self.console, self.steps, self.done = console, steps, -1
        self.progress = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[last]}", style="dim", markup=False),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.progress.add_task("", total=steps, last="")

    def step(self, what):
        """`what` begins."""
        self.done += 1
        self.progress.update(self.task, completed=self.done, description=what, last="")
        if not self.console.is_terminal:
            self.console.print(what)

    def line(self, text):
        """The program under way has printed `text`."""
        if text.startswith("Info: "):
            self.progress.update(self.task, last=text[6:].strip()[:60])

    def __enter__(self):
        self.progress.start()
        return self

    def __exit__(self, *exc):
        self.progress.stop()
