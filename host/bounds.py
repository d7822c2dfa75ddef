"""Lower bounds of a pass: by arithmetic, by memory bandwidth, by communication.

docs/model.md derives them.
"""

from dataclasses import dataclass
from math import prod, sqrt

__all__ = ["Bounds", "bounds", "on_chip_words"]


@dataclass(frozen=True)
class Bounds:
    """What no schedule can undercut.

    Parameters
    ----------
    compute_cycles : int
        Every multiplier busy in every cycle.
    dram_cycles : float
        Every operand read once, every result written once, at the peak bandwidth of memory.
    bytes : float
        Least traffic with this much memory on chip (see `on_chip_words`), of a pass that finds
        nothing there but what is said to be.
    """

    compute_cycles: int
    dram_cycles: float
    bytes: float


def on_chip_words(config):
    """Partial sums (fp32) that tile buffers and accumulators could hold if they held nothing
    else."""
    tiles = (config.a_depth + config.b_depth) * config.tn * config.elem_bytes
    return (tiles + 2 * config.acc_depth * config.tm * 4) // 4


def bounds(window, kind, config, timing, fused=True, held=False):
    """Bounds of one pass of a convolution.

    Parameters
    ----------
    window : Window
    kind : str
        "forward", "dX" or "dW".
    fused : bool
        dW: the gradient becomes a new weight at once (reads and writes the master) instead of being
        stored.
    held : bool
        The weights are on the chip when the pass begins.
    """
    w = window
    taps = prod(w.kernel)
    macs = w.images * prod(w.out) * w.m * w.n * taps
    out, source = (w.images * prod(size) * n for size, n in ((w.drained, w.m), (w.size, w.n)))
    touched = min(source, w.images * w.n * prod(w.out) * taps)  # strides may leave pixels out
    e = config.elem_bytes
    weights = w.m * w.n * taps
    loaded = 0 if held else weights
    if kind == "forward":
        read, written = (touched + loaded) * e, out * e
    elif kind == "dX":
        read, written = (out + loaded) * e, source * e
    else:
        read, written = (out + touched) * e, weights * 4
        if fused:
            read += weights * 4
    reuse = taps / prod(w.stride)
    words = on_chip_words(config)
    # at odd edges an output has less than its share of inputs
    edge = min(1.0, prod(w.size) / (prod(w.out) * prod(w.stride)))
    streamed = 2 * macs / sqrt(max(1.0, reuse) * words) * sqrt(edge) * e
    # beginning and end of the argument: what fits on chip may count twice
    least = max(read, streamed - 2 * 4 * words - (weights - loaded) * e) + written
    if timing.shared:
        moved = read + written
    else:
        moved = max(read / config.read_ports, written / config.write_ports)
    beats = moved / config.beat_bytes
    return Bounds(-(-macs // config.macs), beats * float(timing.beat_cycles), least)
