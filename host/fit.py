"""The build that makes a training step fastest on a board: array and depths of its buffers.

Arrays that the chip has room for are tried in the order of a lower bound of their cycles, as long
as that is below what has been found. Buffers compete for memory blocks; for each array the search
goes from their most even division to neighbouring ones as long as these are faster.
"""

from dataclasses import dataclass, replace
from itertools import product
from math import log2, prod
from types import SimpleNamespace

import torch
from gradgate.hw.config import Config

from .bounds import bounds
from .errors import GradgateError, OutOfMemoryError, UnsupportedError
from .graph import trace
from .passes import Tensors, steps_of
from .planning import plan
from .profile import pass_macs
from .resources import CHIPS, LIMITS, Resources, resources, shortages

__all__ = ["Candidate", "divisions", "fit", "least_cycles"]

SHALLOWEST = 64
DEPTHS = tuple(1 << k for k in range(SHALLOWEST.bit_length() - 1, 16))
SHOWN = 6
NEAR = 2  # doublings and halvings of depths from one build to a neighbouring one


@dataclass(frozen=True)
class Candidate:
    """A build, what it needs, and what the step takes with it, as predicted."""

    config: Config
    resources: Resources
    cycles: int
    utilisation: float


def divisions(config, chip):
    """All builds with the array of `config` that fit and of which no buffer can be deeper; the one
    with the most even depths first."""
    found = []
    for a, b, acc in product(DEPTHS, repeat=3):
        one = replace(config, a_depth=a, b_depth=b, acc_depth=acc)
        if not shortages(resources(one, chip.technology), chip, LIMITS):
            found.append(one)
    depths = {_depths(one) for one in found}
    deepest = [
        one
        for one in found
        if not any(
            tuple(d << (i == k) for k, d in enumerate(_depths(one))) in depths for i in range(3)
        )
    ]
    return sorted(deepest, key=lambda one: (-min(_depths(one)), -sum(_depths(one)), _depths(one)))


def _depths(config):
    return config.a_depth, config.b_depth, config.acc_depth


def _distance(one, other):
    """How many doublings and halvings of depths lead from one build to another."""
    return sum(abs(log2(x / y)) for x, y in zip(_depths(one), _depths(other), strict=True))


def least_cycles(network, config, timing, batch):
    """Cycles that no schedule of a training step undercuts: the array takes channels, or pixels, by
    rows and lanes, and no memory is faster than its bandwidth."""
    tm, tn = config.tm, config.tn
    steps = steps_of(network, config)
    tensors = Tensors(network, steps, SimpleNamespace(config=config), batch, True, False)
    weighted = [i for i, step in enumerate(steps) if step.weights is not None]
    compute = memory = 0
    for i in weighted:
        w = tensors.windows(i)
        pixels, taps = w.images * prod(w.out), prod(w.kernel)
        sweeps = taps * -(-w.n // tn)
        if w.packed:
            sweeps = w.kernel[0] * -(-w.kernel[1] // w.packed)
        array = {
            "forward": pixels * -(-w.m // tm) * sweeps,
            "dX": w.images * _reached(w, 0) * _reached(w, 1) * -(-w.n // tm) * -(-w.m // tn),
            "dW": -(-pixels // tn) * -(-w.m // tm) * w.n * taps,
        }
        for kind, cycles in array.items():
            if kind != "dX" or i != weighted[0]:
                compute += cycles
                memory += bounds(w, kind, config, timing).dram_cycles
    return max(compute, memory)


def _reached(w, axis):
    """Pairs of an input row (axis 0) or column (1) and a tap of its phase of the stride."""
    stride, taps = w.stride[axis], w.kernel[axis]
    first = (x + w.padding[axis] for x in range(w.size[axis]))
    return sum(len(range(at % stride, taps, stride)) for at in first)


def _arrays(board, chip):
    """Arrays of which some build fits, as {(tm, tn): divisions}."""
    config, found = board.config, {}
    least = config.beat_bits // config.elem_bits
    shapes = product((2, 4, 8, 16, 32, 64), repeat=2)
    for tm, tn in [(config.tm, config.tn)] if config.core == "micro" else shapes:
        if max(least, 2) <= tm <= tn and tn >= 4:
            builds = divisions(replace(config, tm=tm, tn=tn), chip)
            if builds:
                found[tm, tn] = builds
    return found


def fit(module, shape, board, batch, momentum=False, notify=lambda text, done, total: None):
    """The best builds for a training step.

    Parameters
    ----------
    module, shape, batch, momentum
        As for gradgate.planning.plan.
    board : Board
        Its build gives the operand format, beat, burst and ports, which stay as they are.
    notify : function
        Called before each build that is planned, with its array and depths, and how many of how
        many arrays are done.

    Returns a list of Candidate, the fastest first: the best builds found, and the board's own.
    Raises GradgateError if the chip is not known or has no room for any array; UnsupportedError or
    OutOfMemoryError, the last one met, if none can run the network.
    """
    chip = CHIPS.get(board.name)
    if chip is None:
        raise GradgateError(f"no resources known of {board.name}; there are {', '.join(CHIPS)}")
    arrays = _arrays(board, chip)
    if not arrays:
        raise GradgateError(_too_small(board, chip))
    network = trace(module, torch.zeros((1, *shape)))
    found, failure, done = {}, None, 0

    def cycles(config):
        """Predicted cycles, infinite if the network cannot run."""
        nonlocal failure
        if config not in found:
            notify(f"{config.tm}x{config.tn}, {'/'.join(map(str, _depths(config)))}", done, total)
            try:
                profile = replace(board, config=config)
                found[config] = plan(module, shape, profile, batch, momentum).cycles
            except (UnsupportedError, OutOfMemoryError) as error:
                found[config], failure = float("inf"), error
        return found[config]

    least = {
        array: least_cycles(network, builds[0], board.timing, batch)
        for array, builds in arrays.items()
    }
    total = len(arrays)
    for done, array in enumerate(sorted(arrays, key=least.get)):  # noqa: B007  (`cycles` tells it)
        if least[array] >= min(found.values(), default=float("inf")):
            break
        here, better = arrays[array][0], True
        while better:
            near = [one for one in arrays[array] if _distance(one, here) <= NEAR]
            best = min(near, key=cycles)
            better = cycles(best) < cycles(here)
            here = best
    cycles(board.config)
    ranked = sorted((one for one in found if found[one] < float("inf")), key=found.get)
    if not ranked:
        raise failure
    shown = ranked[:SHOWN]
    if board.config in ranked[SHOWN:]:
        shown.append(board.config)
    macs = batch * _macs(network)
    return [
        Candidate(
            one,
            resources(one, chip.technology),
            found[one],
            macs / (found[one] * one.macs),
        )
        for one in shown
    ]


def _macs(network):
    """Multiply-accumulates of one image in a training step."""
    return sum(pass_macs(network, 1).values())


def _too_small(board, chip):
    """What keeps the smallest array off the chip."""
    config = board.config
    tm = max(2, config.beat_bits // config.elem_bits)
    least = replace(
        config,
        tm=tm,
        tn=max(4, tm),
        a_depth=SHALLOWEST,
        b_depth=SHALLOWEST,
        acc_depth=SHALLOWEST,
    )
    lacking = shortages(resources(least, chip.technology), chip, LIMITS)
    return f"{board.name} has no room for an array of {least.tm}x{least.tn}: {'; '.join(lacking)}"
