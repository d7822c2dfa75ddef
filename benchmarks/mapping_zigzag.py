"""The best mapping that ZigZag (pip package zigzag-dse) finds for a forward pass on our array.

What its model has: the array of Tm output by Tn input channels, a stationary weight and its
successor per multiplier, tile buffers and accumulators of our sizes and widths, and a DRAM with
three read streams and one write stream of a beat per cycle, all of its own making. What it lacks:
DRAM latency, bursts, rows and refresh, the fetch of instructions, the pipelines' depth, pooling,
and the limit that partial sums stay on chip. It begins to compute when what its first tiles need
has been loaded, and unloads what the last ones leave when it is done. A dW pass it cannot express:
our lanes are neighbouring pixels across row ends, its are iterations of loops.
"""

import logging
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

__all__ = ["Latency", "available", "latency"]

LOOPS = 6  # factors that the loops are split into at most; there are at least as many as loops


@dataclass
class Latency:
    """Cycles: `compute` includes stalls, `total` also the first loads and the last stores."""

    compute: float
    total: float


def available():
    """Whether zigzag-dse is installed."""
    return find_spec("zigzag") is not None


def _memory(bits, operands, dimensions, *ports, **more):
    """Energies and areas are required, but of no influence here."""
    return {"size": bits, "r_cost": 1.0, "w_cost": 1.0, "area": 0, "latency": 1,
            "operands": operands, "served_dimensions": dimensions, "ports": [
                {"name": name, "type": "read" if name.startswith("r_") else "write",
                 "bandwidth_min": width, "bandwidth_max": width, "allocation": list(streams)}
                for name, width, *streams in ports], **more}


def _accelerator(config):
    """The machine in ZigZag's words: I1 is the feature map, I2 the weights, O the sums; `fh` comes
    from and `th` goes to the memory above, `fl` and `tl` below."""
    word = config.elem_bits
    lanes, rows, beat = config.tn * word, config.tm * 32, config.beat_bits
    both = ["D1", "D2"]
    return {
        "name": "gradgate",
        "memories": {  # from the array outwards
            "stationary": _memory(2 * word, ["I2"], [], ("r_port_1", word, "I2, tl"),
                                  ("w_port_1", word, "I2, fh"), force_double_buffering=True),
            "a": _memory(config.a_depth * lanes, ["I2"], both, ("r_port_1", lanes, "I2, tl"),
                         ("w_port_1", beat, "I2, fh")),
            "b": _memory(config.b_depth * lanes, ["I1"], both, ("r_port_1", lanes, "I1, tl"),
                         ("w_port_1", beat, "I1, fh")),
            "sums": _memory(2 * config.acc_depth * rows, ["O"], both,
                            ("r_port_1", rows, "O, tl"), ("r_port_2", beat, "O, th"),
                            ("w_port_1", rows, "O, fl"), ("w_port_2", beat, "O, fh")),
            "dram": _memory(1 << 36, ["I1", "I2", "O"], both, ("r_port_1", beat, "I2, tl"),
                            ("r_port_2", beat, "I1, tl"), ("r_port_3", beat, "O, tl", "O, th"),
                            ("w_port_1", beat, "O, fl", "O, fh", "I1, fh", "I2, fh")),
        },
        "operational_array": {"unit_energy": 1.0, "unit_area": 1.0, "dimensions": both,
                              "sizes": [config.tm, config.tn]},
    }


def _workload(w, config):
    """Window `w` as a layer; batch, output and input channels are B, K, C."""
    names = {"B": w.images, "K": w.m, "C": w.n, "OY": w.out[0], "OX": w.out[1],
             "FY": w.kernel[0], "FX": w.kernel[1]}
    bits = config.elem_bits
    return [{
        "id": 0, "name": "layer", "operator_type": "Conv",
        "equation": "O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]",
        "dimension_relations": [f"i{x}={s}*o{x}+1*f{x}"
                                for x, s in zip("yx", w.stride, strict=True)],
        "loop_dims": list(names), "loop_sizes": list(names.values()),
        "pr_loop_dims": ["IY", "IX"], "pr_loop_sizes": list(w.size),
        "padding": [[p, p] for p in w.padding],
        "operand_precision": {"W": bits, "I": bits, "O": 32, "O_final": bits},
        "operand_source": {},
    }]


def latency(w, config):
    """Latency of the best mapping that its LOMA engine finds for the forward pass of Window `w`,
    without the pooling that follows."""
    import yaml  # comes with zigzag-dse
    from zigzag.api import get_hardware_performance_zigzag

    mapping = [{"name": "default", "memory_operand_links": {"O": "O", "W": "I2", "I": "I1"},
                "spatial_mapping": {"D1": [f"K, {config.tm}"], "D2": [f"C, {config.tn}"]}}]
    with tempfile.TemporaryDirectory() as folder:
        def file(name, data):
            path = Path(folder, f"{name}.yaml")
            path.write_text(yaml.safe_dump(data, sort_keys=False))
            return str(path)

        logging.disable(logging.WARNING)
        try:
            _, total, found = get_hardware_performance_zigzag(
                file("workload", _workload(w, config)), file("machine", _accelerator(config)),
                file("mapping", mapping), opt="latency", lpf_limit=LOOPS, dump_folder=folder,
                loma_show_progress_bar=False)
        finally:
            logging.disable(logging.NOTSET)
    return Latency(found[0][0].latency_total0, total)
