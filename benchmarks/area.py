"""Area and timing of every block and of whole devices, beside what gradgate.resources estimates.

python benchmarks/area.py            synthesise all, write benchmarks/area.json and docs/area.md
python benchmarks/area.py --table    write docs/area.md from benchmarks/area.json

Blocks and devices that are alike are synthesised once: results are kept in build/area by a hash of
all that they depend on, and a run that was interrupted goes on where it was. About an hour on one
core without them; --only BUILD for a part, which the other results in area.json stay beside.
"""

import argparse
import json
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from amaranth.hdl import UnusedElaboratable
from area_blocks import details, parts, whole
from area_page import document, technology
from area_synthesis import measure
from gradgate import boards, tools
from gradgate.bench import commit
from gradgate.errors import GradgateError
from gradgate.hw.config import Config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).resolve().parents[1]
RESULTS, TABLE = ROOT / "benchmarks/area.json", ROOT / "docs/area.md"
CACHE = ROOT / "build/area"
TIMED = "8x8 bf16"  # whose blocks are also placed and routed, but for
UNTIMED = ("POST",)  # which takes half an hour; its larger blocks are

CONFIGS = {  # array and format: build
    "2x4 bf16": Config(tm=2, tn=4, beat_bits=32, a_depth=256, b_depth=256, acc_depth=128,
                       addr_bits=25),
    "4x8 bf16": Config(tm=4, tn=8, beat_bits=64, a_depth=512, b_depth=1024, acc_depth=512,
                       addr_bits=25),
    "8x8 bf16": Config(acc_depth=2048, tn=8, addr_bits=25),
    "8x16 bf16": boards.board("ulx3s-85f").config,
    "4x4 fp32": Config(tm=4, tn=4, fmt="fp32", beat_bits=64, a_depth=512, b_depth=512,
                       acc_depth=256, addr_bits=25),
    "4x8 fp32": Config(tm=4, tn=8, fmt="fp32", beat_bits=128, a_depth=512, b_depth=1024,
                       acc_depth=512, read_ports=3, write_ports=2),
    "2x4 bf16, small core": boards.board("icebreaker").config,
}


def synthesise(names, jobs, console):
    """{build: {"whole": row, "parts": [row, ..], "details": [row, ..]}}; a row has what `measure`
    returns, the block's name and count."""
    found, todo = {}, []
    for name in names:
        blocks = {"parts": parts(CONFIGS[name]), "details": details(CONFIGS[name]),
                  "whole": [whole(CONFIGS[name])]}
        found[name] = {kind: [{"name": block.name, "count": block.count} for block in some]
                       for kind, some in blocks.items()}
        for kind, some in blocks.items():
            for row, block in zip(found[name][kind], some, strict=True):
                todo.append((name, row, block, "whole" if kind == "whole" else "area"))
                if name == TIMED and kind != "whole" and not (block.without or block.pins) \
                        and block.name not in UNTIMED:
                    todo.append((name, row, block, "speed"))
    # what takes longest at the end
    todo.sort(key=lambda one: (("area", "whole", "speed").index(one[3]),
                               CONFIGS[one[0]].tm * CONFIGS[one[0]].tn))

    def one(name, row, block, mapping):
        made = measure(block, technology(CONFIGS[name]), CACHE, mapping=mapping)
        row |= {"fast_luts": made["luts"], "mhz": made["mhz"]} if mapping == "speed" else made
        return f"{name}: {block.name}"

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task("synthesis", total=len(todo))
        try:
            for future in as_completed([pool.submit(one, *each) for each in todo]):
                progress.update(task, advance=1, description=future.result())
        except GradgateError:
            pool.shutdown(cancel_futures=True)
            raise
    return {name: kinds | {"whole": kinds["whole"][0]} for name, kinds in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true",
                        help="synthesise nothing, write the page from the results there are")
    parser.add_argument("--only", nargs="+", metavar="BUILD", choices=CONFIGS, default=CONFIGS,
                        help=f"some of {', '.join(CONFIGS)}")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once (1)")
    args = parser.parse_args()
    # submodules of what is left out of a block
    warnings.simplefilter("ignore", UnusedElaboratable)
    result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"builds": {}}
    if not args.table:
        try:
            found = synthesise(args.only, args.jobs, Console())
        except GradgateError as wrong:
            sys.exit(str(wrong))
        made = {name: {"commit": commit(), "config": asdict(CONFIGS[name])} | found[name]
                for name in found}
        kept = result["builds"] | made
        result = {"versions": tools.versions(),
                  "builds": {name: kept[name] for name in CONFIGS if name in kept}}
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    TABLE.write_text(document(result))


if __name__ == "__main__":
    main()
