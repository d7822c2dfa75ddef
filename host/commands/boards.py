"""`gradgate boards`: what there is, and what fits."""

from rich.box import SIMPLE
from rich.table import Table

from .. import boards, build
from ..resources import CHIPS, NAMES, resources, shortages
from .options import add_bitstreams

__all__ = ["HELP", "DESCRIPTION", "DEVICE", "arguments", "run"]

HELP = "list the boards: array, chip, memory, clock, bitstream"
DEVICE = None
DESCRIPTION = """\
List all boards: the array, the share of the chip's multipliers, memory blocks and LUTs that its
build takes (from the report of its bitstream where there is one, else estimated), memory, clock,
and the clock that its bitstream reaches; - where the board is for simulation only. docs/boards.md
says how to add one."""


def arguments(parser):
    """Add the options of this command."""
    add_bitstreams(parser)


def run(args, console):
    """List; returns (result for --json, exit status)."""
    result = {name: _row(name, profile, args.out) for name, profile in boards.BOARDS.items()}
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("board", "array"):
        table.add_column(name, no_wrap=True)
    for name in ("DSP", "RAM", "LUT", "memory", "clock"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bitstream")
    for name, row in result.items():
        needs = [
            f"{row['needs'][what] / row['chip'][what]:.0%}" if row["chip"] else "-"
            for what in ("multipliers", "blocks", "luts")
        ]
        table.add_row(
            name, row["array"], *needs, _size(row["memory_size"]),
            f"{row['clock_hz'] / 1e6:g} MHz", row["bitstream"],
        )  # fmt: skip
    console.print(table)
    for name, row in result.items():
        for shortage in row["shortages"]:
            console.print(f"{name} does not fit: {shortage}")
    return result, 0


def _row(name, profile, out):
    chip, config = CHIPS.get(name), profile.config
    report = build.report(out / name)
    need = resources(config, chip.technology) if chip else None
    row = {
        "array": f"{config.tm}x{config.tn} {config.fmt}",
        "chip": {key: getattr(chip, key) for key in NAMES} if chip else None,
        "needs": {key: getattr(need, key) for key in NAMES} if chip else None,
        "shortages": shortages(need, chip) if chip else [],
        "memory_size": profile.memory_size,
        "clock_hz": profile.clock_hz,
        "bitstream": f"none in {out}" if name in build.buildable() else "-",
    }
    if report:  # of the whole chip: where memory is on it, CHIPS has what that leaves
        names = {"multipliers": "DSP", "blocks": "block RAM", "luts": "LUT"}
        for key, of in (("needs", "used"), ("chip", "available")):
            row[key] = (row[key] or {}) | {what: report[of][tool] for what, tool in names.items()}
        row["shortages"] = []
        row["bitstream"] = f"{report['fmax_mhz']:g} MHz"
    return row


def _size(count):
    return f"{count >> 20:,} MB" if count >> 20 else f"{count >> 10:,} KB"
