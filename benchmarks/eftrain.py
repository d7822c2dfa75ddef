"""The table against EF-Train (Tang et al., ACM TODAES 27(5), 2022), from what is in this folder.

python benchmarks/eftrain.py         the table, in Markdown, from benchmarks/*_zcu102_b*.json, and
                                     the passes that the model misses
python benchmarks/eftrain.py --run   measure everything anew first: about an hour on one core

Utilisation is useful multiply-accumulates / (cycles x 256) over the whole training step: forward,
backward, update, poolings and all transfers. EF-Train's is its GFLOPS over the peak of its 256
multipliers at 100 MHz, 51.2 GFLOPS. Rows without measured cycles are extrapolated: predicted by the
model that the rows with measured cycles validate.

The worst convolution is that of all passes of convolutions but those of first layers: layers that
see the few channels of an image, fewer than the array has lanes.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from gradgate.nets import net as network
from torch import nn

HERE = Path(__file__).parent
MEASURED = [("vgg16", 1), ("vgg16-block5", 2), ("alexnet", 2), ("alexnet-fc", 64), ("1x", 16),
            ("1x", 1), ("lenet10", 16), ("lenet10", 1), ("pointwise", 8), ("strided", 4)]
PREDICTED = [("vgg16", 16), ("alexnet", 128), ("1x", 128), ("lenet10", 128)]
PAPER = {"vgg16": 0.918, "alexnet": 0.674, "1x": 0.550, "lenet10": 0.302}
PEAK = 51.2


def path(net, batch):
    return HERE / f"{net}_zcu102_b{batch}.json"


def measure():
    for (net, batch), rtl in ([(case, True) for case in MEASURED]
                              + [(case, False) for case in PREDICTED]):
        command = ["gradgate", "bench", net, "--board", "zcu102", "--batch", str(batch),
                   "--json", path(net, batch)]
        subprocess.run(command if rtl else [*command, "--no-rtl"], check=True)


def load(net, batch):
    """The result of one row; exits if there is none."""
    try:
        return json.loads(path(net, batch).read_text())
    except FileNotFoundError:
        sys.exit(f"no result {path(net, batch)}: `python benchmarks/eftrain.py --run` makes it")


def compared(net, lanes):
    """Names of the convolutions of a network that have at least `lanes` input channels."""
    with torch.device("meta"):  # shapes will do
        module, _ = network(net)
    return {name for name, layer in module.named_modules()
            if isinstance(layer, nn.Conv2d) and layer.in_channels >= lanes}


def row(net, batch):
    found = load(net, batch)
    total, passes = found["total"], found["passes"]
    measured = total["rtl_cycles"] is not None
    cycles = total["rtl_cycles"] if measured else total["predicted_cycles"]
    layers = compared(net, found["array"]["tn"])
    worst = min(((p["utilisation"], f"{p['layer']} {p['pass']}") for p in passes
                 if p["macs"] and p["layer"] in layers), default=None)
    error = f"{total['predicted_cycles'] / total['rtl_cycles'] - 1:+.2%}" if measured else "-"
    paper = PAPER.get(net)
    return (net, batch, "RTL" if measured else "extrapolated", f"{cycles:,}",
            f"{total['utilisation']:.1%}", f"{PEAK * total['utilisation']:.2f}",
            f"{paper:.1%}" if paper else "", error,
            f"{worst[0]:.1%} ({worst[1]})" if worst else "-", found["commit"])


def errors(net, batch):
    """(passes compared, [(name, cycles, error in cycles)] of those that the model misses by more
    than 1 %, or 50 cycles if they are shorter than 5,000)."""
    compared, missed = 0, []
    for p in load(net, batch)["passes"]:
        cycles, error = p["rtl_cycles"], p["predicted_cycles"] - p["rtl_cycles"]
        compared += 1
        if abs(error) > (0.01 * cycles if cycles >= 5000 else 50):
            missed.append((f"{net} b{batch} {p['layer']} {p['pass']}", cycles, error))
    return compared, missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="measure first")
    if parser.parse_args().run:
        measure()
    head = ("net", "batch", "cycles are", "cycles", "utilisation", "GFLOPS at 100 MHz", "EF-Train",
            "model's error", "worst convolution but first", "commit")
    rows = [row(*case) for case in MEASURED + PREDICTED]
    for cells in (head, ["---"] * len(head), *rows):
        print("|", " | ".join(str(cell) for cell in cells), "|")
    found = [errors(*case) for case in MEASURED]
    missed = [one for _, some in found for one in some]
    every = sum(count for count, _ in found)
    print(f"\nOf {every} passes {every - len(missed)} are within 1 % (50 cycles below 5,000) "
          "of the prediction. Not these:")
    for name, cycles, error in missed:
        print(f"  {name}: {cycles:,} cycles, {error:+,}")


if __name__ == "__main__":
    main()
