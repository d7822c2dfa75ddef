"""`gradgate plan`: what a training step will do, before anything runs."""

from dataclasses import asdict

import torch
from rich.box import SIMPLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from ..fit import fit
from ..graph import trace
from ..planning import plan, scheduled
from ..resources import CHIPS, LIMITS, NAMES, resources, shortages
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

WIDTH = 116  # of the widest table

HELP = "predict a training step: loops, cycles and bytes per layer and pass, memory, resources"
DEVICE = "model"
DESCRIPTION = f"""\
Schedule and compile a network for a board and predict one fused training step (forward, backward,
SGD). Nothing is run, so the backend (--device) makes no difference. Per layer and pass:

  cycles, used         predicted, and the share of all multipliers that does useful work in them
  compute, DRAM        bounds in cycles: every multiplier busy all the time; every operand read once
                       and every result written once at the memory's peak bandwidth
  bytes, least, ratio  to and from memory, and the least that this much memory on chip allows
  A, B, acc            use of the tile buffers, words of a tile x tiles that fit, and of a region of
                       accumulators

then where everything lies in device memory, and what the gateware needs of the chip: multipliers
and memory blocks are counted, LUTs estimated.

With --fit: other shapes of the array and depths of the buffers that the board's chip has room for
(LUTs up to {LIMITS["luts"]:.0%}, memory blocks up to {LIMITS["blocks"]:.0%}), the fastest first.

{NETWORKS}"""


def arguments(parser):
    """Add the options of this command."""
    add_net(parser, "plan")
    add_batch(parser)
    parser.add_argument(
        "--momentum",
        action="store_true",
        help="plan updates that use momentum: more memory traffic",
    )
    add_memory(parser)
    parser.add_argument(
        "--loops",
        action="store_true",
        help="also show the loop nest of each pass, and where each operand lives in each loop",
    )
    parser.add_argument(
        "--fit",
        action="store_true",
        help="instead search the array and the buffers that make this step fastest on the board",
    )


def run(args, console):
    """Plan and report; returns (result for --json, exit status)."""
    check_counts(args, "batch")
    profile = board_of(args)
    # numbers cut short say nothing: rather lines that a narrow terminal wraps
    console.width = max(console.width, WIDTH)
    module, shape = net_of(args)
    console.print(f"{args.net}, batch {args.batch}; {profile.description}")
    head = {"net": args.net, "board": args.board, "batch": args.batch, "momentum": args.momentum}
    if args.fit:
        return head | _fit(args, console, profile, module, shape), 0
    network = trace(module, torch.zeros((1, *shape)))
    with _bar(console) as bar:
        task = bar.add_task("", total=len(scheduled(network)) + 2)

        def notify(text):
            bar.update(task, description=text, advance=1)

        found = plan(module, shape, profile, args.batch, args.momentum, notify)
    rows, total = _rows(found, profile)
    _print(console, rows, total, found, profile)
    if args.loops:
        for one in found.passes:
            if one.nest is not None:
                _print_nest(console, one)
    _print_memory(console, found.memory, profile.memory_size)
    return head | {
        "clock_hz": profile.clock_hz,
        "passes": rows,
        "total": total,
        "memory": dict(found.memory),
        "resources": _resources(console, profile),
    }, 0


def _bar(console):
    return Progress(
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def _rows(found, profile):
    """One dict per pass, and their total."""
    config, rows = profile.config, []
    for one in found.passes:
        time, limit = one.time, one.bounds
        size = time.read_bytes + time.write_bytes
        row = {
            "layer": time.layer,
            "pass": time.kind,
            "macs": time.macs,
            "predicted_cycles": time.cycles,
            "utilisation": time.utilisation(config),
            "bytes": size,
            "read_bytes": time.read_bytes,
            "write_bytes": time.write_bytes,
            "instructions": time.instructions,
            "array_cycles": one.array_cycles,
            "bounds": None,
            "loads": None,
            "nest": None,
        }
        if limit is not None:
            row["bounds"] = asdict(limit) | {"ratio": size / limit.bytes}
        if one.nest is not None:
            row["nest"] = one.nest.as_dict()
            names = ("instructions", "bytes", "times")
            row["loads"] = {
                side: dict(zip(names, values, strict=True)) for side, values in one.loads.items()
            }
        rows.append(row)
    total = {
        key: sum(row[key] for row in rows)
        for key in (
            "macs",
            "predicted_cycles",
            "bytes",
            "read_bytes",
            "write_bytes",
            "instructions",
            "array_cycles",
        )
    }
    total["utilisation"] = total["macs"] / (total["predicted_cycles"] * config.macs)
    total["seconds"] = total["predicted_cycles"] / profile.clock_hz
    bounded = [row for row in rows if row["bounds"]]
    total["bounds"] = {
        key: sum(row["bounds"][key] for row in bounded)
        for key in ("compute_cycles", "dram_cycles", "bytes")
    }
    least = total["bounds"]["bytes"]
    total["bounds"]["ratio"] = sum(row["bytes"] for row in bounded) / least if least else None
    return rows, total


def _share(value):
    return f"{value:.1%}" if value else "-"


def _tiles(buffer):
    return "-" if buffer is None else f"{buffer.words:,}x{buffer.slots}"


def _print(console, rows, total, found, profile):
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 0, 0, 1))
    for name in ("layer", "pass"):
        table.add_column(name)
    columns = ("MACs", "cycles", "used", "compute", "DRAM", "bytes", "least", "ratio")
    for name in (*columns, "A", "B", "acc"):
        table.add_column(name, justify="right", no_wrap=True)

    def cells(row):
        limit = row["bounds"]
        bounds = ["-"] * 4
        if limit is not None and limit["bytes"]:
            bounds = [short(limit[key]) for key in ("compute_cycles", "dram_cycles", "bytes")]
            bounds.append(f"{limit['ratio']:.2f}")
        return (
            short(row["macs"]) if row["macs"] else "-",
            f"{row['predicted_cycles']:,}",
            _share(row["utilisation"]),
            *bounds[:2],
            short(row["bytes"]),
            *bounds[2:],
        )

    for row, one in zip(rows, found.passes, strict=True):
        use = ("-", "-", "-")
        if one.nest is not None:
            use = _tiles(one.nest.a), _tiles(one.nest.b), f"{one.nest.accumulators:,}"
        table.add_row(row["layer"], row["pass"], *cells(row), *use)
    table.add_section()
    config = profile.config
    depths = (f"{depth:,}" for depth in (config.a_depth, config.b_depth, config.acc_depth))
    table.add_row("total", "", *cells(total), *depths)
    console.print(table)
    console.print(
        f"{total['seconds'] * 1e3:,.2f} ms at {profile.clock_hz / 1e6:g} MHz; in the last line, "
        "bounds and their ratio are of the passes that have them, A, B, acc what there is"
    )


def _print_nest(console, one):
    """The loops of one pass, where each operand lives, and the use of what is on chip."""
    nest = one.nest
    names = ("" if nest.a is None else nest.a.operand, nest.b.operand, nest.results)
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column(f"{one.time.layer} {one.time.kind}", no_wrap=True, min_width=36)
    for name in names:
        table.add_column(name, no_wrap=True)
    for depth, loop in enumerate(nest.loops):
        table.add_row(f"{'  ' * depth}{loop.count:,} x {loop.what}", *loop.levels)
    table.add_section()

    cells = []
    for side, buffer in (("a", nest.a), ("b", nest.b)):
        count, size, times = one.loads.get(side, (0, 0, 0.0))
        cells.append(
            ("", "")
            if buffer is None
            else (
                f"{count:,} of {buffer.words:,} words, {buffer.slots} fit",
                f"{short(size)} bytes, {times:.2f} times",
            )
        )
    table.add_row("tiles loaded; accumulators", *(c[0] for c in cells), f"{nest.accumulators:,}")
    table.add_row("read in all; everything so often", *(c[1] for c in cells), "")
    console.print(table)


def _print_memory(console, memory, size):
    places = Table("in device memory", "bytes", box=SIMPLE, pad_edge=False)
    places.columns[1].justify = "right"
    for name, bytes_ in memory:
        places.add_row(name, f"{bytes_:,}")
    places.add_section()
    places.add_row(f"total, of {size:,}", f"{sum(bytes_ for _, bytes_ in memory):,}")
    console.print(places)


def _resources(console, profile):
    """Print what the build needs of the board's chip; returns it as a dict."""
    chip = CHIPS.get(profile.name)
    technology = chip.technology if chip else "ecp5"
    need = resources(profile.config, technology)
    table = Table(f"on the chip ({technology})", box=SIMPLE, pad_edge=False)
    for name in ("needed", "there"):
        table.add_column(name, justify="right")
    for name, text in NAMES.items():
        have = getattr(chip, name) if chip else None
        table.add_row(text, f"{getattr(need, name):,}", "-" if have is None else f"{have:,}")
    console.print(table)
    lacking = shortages(need, chip) if chip else []
    for text in lacking:
        console.print(f"[red]does not fit[/] {text}")
    return {
        "technology": technology,
        "needed": asdict(need),
        "available": asdict(chip) if chip else None,
        "shortages": lacking,
    }


def _fit(args, console, profile, module, shape):
    """Search, and print the best builds; returns them as a dict."""
    with _bar(console) as bar:
        task = bar.add_task("fit", total=None)

        def notify(text, done, total):
            bar.update(task, description=text, completed=done, total=total)

        found = fit(module, shape, profile, args.batch, args.momentum, notify)
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("array", no_wrap=True)
    for name in ("A", "B", "acc", "cycles", "used", "multipliers", "blocks", "LUTs"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        config, need = one.config, one.resources
        table.add_row(
            f"{config.tm}x{config.tn} {config.fmt}" + ("*" if config == profile.config else ""),
            f"{config.a_depth:,}",
            f"{config.b_depth:,}",
            f"{config.acc_depth:,}",
            f"{one.cycles:,}",
            f"{one.utilisation:.1%}",
            f"{need.multipliers:,}",
            f"{need.blocks:,}",
            f"{need.luts:,}",
        )
    table.add_section()
    chip = CHIPS[profile.name]
    have = (f"{n:,}" for n in (chip.multipliers, chip.blocks, chip.luts))
    table.add_row("there are", "", "", "", "", "", *have)
    console.print(table)
    console.print("* the build of the board's profile")
    return {"candidates": [asdict(one) for one in found]}
