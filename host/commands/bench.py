"""`gradgate bench`: one training step, cycle by cycle, against the prediction and the model."""

import time
from pathlib import Path

import gradgate
from rich.box import SIMPLE
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..bench import Step, commit, result
from ..errors import GradgateError
from ..trace import write_trace
from .options import (
    NETWORKS,
    add_batch,
    add_memory,
    add_net,
    board_of,
    check_counts,
    net_of,
    short,
)

__all__ = ["HELP", "DESCRIPTION", "DEVICE", "arguments", "run"]

HELP = "measure a training step on the simulated gateware, per layer and pass"
DEVICE = None
DESCRIPTION = f"""\
Run one fused training step (forward, backward, SGD) of a network with random weights and data on
the backends `rtl` and `model`, and compare output and all weights bit for bit. Report per layer and
pass: multiply-accumulates, cycles on `rtl`, predicted cycles and their error, utilisation
(multiply-accumulates / (cycles x multipliers)), bytes to and from memory. Exit status 1 if a bit
differs.

{NETWORKS}"""


def arguments(parser):
    """Add the options of this command."""
    add_net(parser, "train")
    add_batch(parser, 4, "few, as each one is simulated cycle by cycle")
    parser.add_argument(
        "--momentum",
        type=float,
        default=0.0,
        help="momentum of SGD; 0 means none, and no memory traffic for it (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights and data (default: %(default)s)"
    )
    add_memory(parser)
    parser.add_argument(
        "--no-rtl",
        dest="rtl",
        action="store_false",
        help="run nothing, only predict: seconds instead of hours for large networks",
    )
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="also write a timeline of all instructions for ui.perfetto.dev; FILE.json, or "
        "FILE.json.gz for a small one; times are microseconds at the board's clock",
    )


def run(args, console):
    """Measure; returns (result for --json, exit status)."""
    check_counts(args, "batch")
    if not 0 <= args.momentum < float("inf"):
        raise GradgateError(f"--momentum must be at least 0, not {args.momentum}")
    profile = board_of(args)
    module, shape = net_of(args, args.seed)
    at = commit()  # of what runs, whatever happens meanwhile

    def step(device):
        return Step(module, shape, device, args.batch, args.momentum, args.seed)

    console.print(f"{args.net}, batch {args.batch}; {profile.description}")
    measured, different, spent = None, None, None
    with gradgate.device("model", board=profile) as device:
        ours = step(device)
        if args.rtl:
            started = time.perf_counter()
            programs = [run.program for run in ours.run()]
            values = ours.values()
            console.print(f"model: {time.perf_counter() - started:.1f} s")
        else:
            programs, _ = ours.model.runtime.step_programs(args.batch, momentum=args.momentum > 0)
        forecast = ours.predicted(programs)
    if args.rtl:
        expected = [f.cycles for f in forecast] if forecast else [None] * len(programs)
        with (
            _Bar(console, expected) as bar,
            gradgate.device("rtl", board=profile, progress=bar.advance) as device,
        ):
            theirs = step(device)
            started = time.perf_counter()
            measured = theirs.run()
            spent = time.perf_counter() - started
            different = [name for name, data in theirs.values().items() if data != values[name]]

    found = result(args.net, profile, ours, measured, forecast, programs, at)
    found["command"] = _command(args)
    found["seed"] = args.seed
    found["memory_size"] = profile.memory_size
    found["different"] = different
    found["rtl_seconds"] = spent
    if args.trace:
        sides = {"measured (rtl)": measured, "predicted": forecast}
        title = f"{args.net}, batch {args.batch}, {args.board}"
        write_trace(args.trace, {k: v for k, v in sides.items() if v}, profile.clock_hz, title)
    _print(console, found)
    return found, bool(different)


class _Bar:
    """Progress of the programs on `rtl`, one after the other.

    Parameters
    ----------
    console : Console
    expected : list
        Predicted cycles of each program, or None.
    """

    def __init__(self, console, expected):
        self.expected, self.number, self.last = expected, 0, 0
        self.progress = Progress(
            TextColumn("rtl: {task.completed:,.0f} cycles"),
            BarColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.progress.add_task("", total=None if None in expected else sum(expected))

    def advance(self, cycles):
        """`cycles` of the present program have passed."""
        if cycles < self.last:
            self.number += 1
        self.last = cycles
        before = sum(c or 0 for c in self.expected[: self.number])
        self.progress.update(self.task, completed=before + cycles)

    def __enter__(self):
        self.progress.start()
        return self

    def __exit__(self, *exc):
        self.progress.stop()


def _command(args):
    """The command line with all that determines the result."""
    words = ["gradgate", "bench", args.net, "--board", args.board, "--batch", str(args.batch)]
    if args.momentum:
        words += ["--momentum", str(args.momentum)]
    if args.seed:
        words += ["--seed", str(args.seed)]
    if args.memory:
        words += ["--memory", str(args.memory)]
    return " ".join(words + ([] if args.rtl else ["--no-rtl"]))


def _print(console, found):
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 0, 0, 1))
    for name in ("layer", "pass"):
        table.add_column(name)
    for name in ("MACs", "rtl cycles", "predicted", "error", "used", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)

    def show(layer, kind, row):
        error, use = row["error"], row["utilisation"]
        table.add_row(
            layer,
            kind,
            short(row["macs"]),
            *(
                "-" if cycles is None else f"{cycles:,}"
                for cycles in (row["rtl_cycles"], row["predicted_cycles"])
            ),
            "-" if error is None else f"{error:+.1%}",
            "-" if use is None else f"{use:.1%}",
            short(row["bytes"]),
        )

    for row in found["passes"]:
        show(row["layer"], row["pass"], row)
    table.add_section()
    total = found["total"]
    show("total", "", total)
    console.print(table)
    if total["seconds"]:
        images = found["batch"] / total["seconds"]
        console.print(
            f"{total['seconds'] * 1e3:,.2f} ms at {found['clock_hz'] / 1e6:g} MHz, "
            f"{images:,.1f} images/s, {2e-9 * total['macs'] / total['seconds']:,.2f} GFLOP/s"
        )
    different = found["different"]
    if different is None:
        console.print("not run: nothing was compared")
    elif different:
        console.print(f"[red]FAILED[/] not the bits of the model: {', '.join(different)}")
    else:
        console.print("[green]ok[/]    output and weights equal the model's bit for bit")
