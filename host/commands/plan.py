"""`gradgate plan`: what a training step will do, before anything runs."""

import gradgate
import torch
from rich.table import Table

from ..boards import board
from ..data import digits
from ..errors import GradgateError
from ..nets import digits_cnn
from ..summary import Usage, summarise

__all__ = ["HELP", "DESCRIPTION", "DEVICE", "arguments", "run"]

HELP = "show tiles, cycles and bytes per layer and pass, and the memory map"
DEVICE = "model"
DESCRIPTION = """\
Compile the digits network for a board and show what one training step does per layer and pass:
instructions, multiply-accumulates, cycles that the array alone needs and its utilisation in them,
bytes read and written; then where everything lies in device memory. Nothing is run, so the backend
(--device) makes no difference."""


def arguments(parser):
    """Add the options of this command."""
    parser.add_argument(
        "--batch", type=int, default=48, help="images per step (default: %(default)s)"
    )


def _macs(layer, name, first):
    if name == "update" or (name == "dX" and first):
        return 0
    return layer.macs


def run(args, console):
    """Compile and report; returns (result for --json, exit status)."""
    if args.batch < 1:
        raise GradgateError(f"--batch must be at least 1, not {args.batch}")
    profile = board(args.board)
    config = profile.config
    torch.manual_seed(0)
    with gradgate.device("model", board=args.board) as device:
        example = digits()[0][0][:1]
        model = gradgate.compile(digits_cnn(), example_inputs=(example,), device=device)
        programs, memory = model.runtime.step_programs(args.batch)
    layers = {layer.name: layer for layer in model.runtime.network.layers}
    first = next(iter(layers))
    rows, total = [], Usage()
    for program in programs:
        for (name, kind), usage in summarise(program, config).items():
            macs = args.batch * _macs(layers[name], kind, name == first)
            rows.append({"layer": name, "pass": kind, "macs": macs, **vars(usage)})
            total += usage
    macs = sum(row["macs"] for row in rows)
    rows.append({"layer": "total", "pass": "", "macs": macs, **vars(total)})
    for row in rows:
        cycles = row["array_cycles"] * config.tm * config.tn
        row["array_utilisation"] = row["macs"] / cycles if cycles else None

    console.print(f"{profile.description}; batch {args.batch}")
    table = Table(
        "layer", "pass", "instructions", "MACs", "array cycles", "utilisation", "read", "written"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        if row["layer"] == "total":
            table.add_section()
        use = row["array_utilisation"]
        table.add_row(
            row["layer"],
            row["pass"],
            f"{row['instructions']:,}",
            f"{row['macs']:,}",
            f"{row['array_cycles']:,}",
            "" if use is None else f"{use:.1%}",
            f"{row['read_bytes']:,}",
            f"{row['write_bytes']:,}",
        )
    console.print(table)
    places = Table("in device memory", "bytes")
    places.columns[1].justify = "right"
    for name, size in memory:
        places.add_row(name, f"{size:,}")
    used = sum(size for _, size in memory)
    places.add_section()
    places.add_row(f"total, of {profile.memory_size:,}", f"{used:,}")
    console.print(places)
    return {
        "board": args.board,
        "batch": args.batch,
        "passes": rows[:-1],
        "total": rows[-1],
        "memory": dict(memory),
    }, 0
