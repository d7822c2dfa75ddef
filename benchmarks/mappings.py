"""Is any mapping better than the scheduler's? Passes of some layers, checked in up to three ways.

    python benchmarks/mappings.py [--layer NAME ...] [--json benchmarks/mappings.json]

1. The array's own bound: no mapping is faster than an array that is never idle. Where the
   scheduler's choice is less than 2 % above, nothing is left to try.
2. Otherwise every mapping of benchmarks/mapping_space.py is tried out, by the prediction of the
   whole timeline, unless a lower bound of its own shows that it is not 2 %
   faster than the scheduler's choice.
3. Forward: the best mapping of zigzag-dse by its own model, if the package is installed
   (`pip install 'gradgate[zigzag]'`). Two passes in a row hide half of one's loading and unloading,
   as the predictions
   have it.

The exit status is 1 if some mapping is faster by more than 2 %.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import mapping_zigzag as zigzag
from gradgate.bench import commit
from gradgate.boards import board
from gradgate.scheduler import scheduler
from gradgate.sketch import TIMES
from gradgate.tiling import Window
from mapping_space import Space
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

BOARD = "zcu102"
TOLERANCE = 0.02
PASSES = {"forward": "forward", "dX": "backward", "dW": "gradient"}


def _conv(n, m, size, kernel, images=2, pool=False, packed=0):
    """Window of a convolution with stride 1 that keeps the size of the map."""
    return Window(images, n, m, (size, size), (size, size), (kernel, kernel), (1, 1),
                  (kernel // 2, kernel // 2), pool=((2, 2), (2, 2)) if pool else None,
                  packed=packed)


LAYERS = {
    "vgg16 conv2": _conv(64, 64, 224, 3, pool=True),
    "vgg16 conv6": _conv(256, 256, 56, 3),
    "vgg16 conv11": _conv(512, 512, 14, 3),
    "alexnet conv2": _conv(96, 256, 27, 5),
    "alexnet conv4": _conv(384, 384, 13, 3),
    "1x1, 64 on 14x14": _conv(64, 64, 14, 1),
    "1x conv5": _conv(32, 64, 8, 3),
    "1x conv1": _conv(3, 16, 32, 3, packed=4),
}


def passes(w):
    """The passes that are checked: of a network's first layer only forward, for it has no dX, and
    its dW more mappings than can be tried out."""
    return ["forward"] if w.packed else list(PASSES)


@dataclass
class Check:
    """One pass. `cycles`: the scheduler's choice; `array_bound`: no mapping takes fewer; `mappings`
    that there are and `tried` of them (None: the bound suffices); `better`: the best mapping, if it
    is faster by more than the tolerance, and its cycles; `zigzag_*`: see mapping_zigzag."""

    layer: str
    kind: str
    images: int
    cycles: float
    tile: str
    array_bound: int
    mappings: int | None = None
    tried: int | None = None
    better: str | None = None
    better_cycles: float | None = None
    zigzag_compute: float | None = None
    zigzag_total: float | None = None

    @property
    def zigzag_cycles(self):
        """As two passes in a row, half of loading and unloading hidden."""
        if self.zigzag_total is None:
            return None
        return self.zigzag_compute + (self.zigzag_total - self.zigzag_compute) / TIMES

    @property
    def passed(self):
        limit = self.cycles / (1 + TOLERANCE)
        return self.better is None and (self.zigzag_cycles is None or self.zigzag_cycles >= limit)


def describe(tile):
    """A Tile in words."""
    chunk = tile.chunks[0]
    order = "tiles outside" if tile.pixels_outer else "blocks outside"
    return (f"{tile.images}x{tile.rows}x{tile.cols}, {len(tile.chunks)} chunks of "
            f"{chunk.channels}x{chunk.rows}x{chunk.cols}, {tile.sets} blocks, {order}")


def check(layer, kind, w, device, progress):
    """The Check of one pass, ZigZag left out."""
    config, timing = device.config, device.timing
    name = PASSES[kind]
    tile = getattr(scheduler(config, timing), name)(w)
    space = Space(name, w, config, timing)
    cycles = space.cycles(tile)
    found = Check(layer, kind, w.images, cycles, describe(tile), space.least())
    limit = cycles / (1 + TOLERANCE)
    if found.array_bound >= limit:
        return found
    ranked = sorted(((space.bound(tile), number, tile)
                     for number, tile in enumerate(space.tiles())))
    found.mappings, found.tried = len(ranked), 0
    ranked = [(bound, tile) for bound, _, tile in ranked if bound < limit]
    task = progress.add_task(f"{layer} {kind}", total=len(ranked))
    for bound, tile in ranked:
        if bound >= limit:  # of the best so far
            break
        took = space.cycles(tile)
        found.tried += 1
        progress.advance(task)
        if took < limit:
            limit = found.better_cycles = took
            found.better = describe(tile)
    progress.remove_task(task)
    return found


def table(checks):
    """The checks as a rich Table."""
    shown = Table("layer", "pass")
    for head in ("cycles", "array bound", "mappings", "tried", "best is faster by", "ZigZag"):
        shown.add_column(head, justify="right")
    for one in checks:
        if one.better:
            gain = f"{one.cycles / one.better_cycles - 1:.1%}"
        else:
            gain = f"< {min(TOLERANCE, one.cycles / one.array_bound - 1):.2%}"
        shown.add_row(one.layer, one.kind, f"{one.cycles:,.0f}", f"{one.array_bound:,}",
                      *("-" if x is None else f"{x:,}" for x in (one.mappings, one.tried)), gain,
                      "-" if one.zigzag_cycles is None else f"{one.zigzag_cycles:,.0f}")
    return shown


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layer", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--json", type=Path, help="write the results there")
    args = parser.parse_args()
    device, console, checks = board(BOARD), Console(width=120), []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())
    start, version = time.process_time(), commit()
    with Progress(*columns, console=console) as progress:
        todo = [(layer, kind) for layer in args.layer for kind in passes(LAYERS[layer])]
        total = progress.add_task("passes", total=len(todo))
        for layer, kind in todo:
            one = check(layer, kind, LAYERS[layer], device, progress)
            if kind == "forward" and zigzag.available() and not LAYERS[layer].packed:
                its = zigzag.latency(LAYERS[layer], device.config)
                one.zigzag_compute, one.zigzag_total = its.compute, its.total
            checks.append(one)
            progress.advance(total)
    console.print(table(checks))
    for one in checks:
        if one.better:
            console.print(f"{one.layer} {one.kind}: {one.better_cycles:,.0f} with {one.better}, "
                          f"{one.cycles:,.0f} with {one.tile}")
    if args.json:
        result = {"board": BOARD, "commit": version, "tolerance": TOLERANCE,
                  "cpu_seconds": round(time.process_time() - start),
                  "checks": [vars(one) | {"zigzag_cycles": one.zigzag_cycles, "passed": one.passed}
                             for one in checks]}
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(not all(one.passed for one in checks))


if __name__ == "__main__":
    main()
