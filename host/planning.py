"""A training step on paper: scheduled, compiled and predicted for a board, without a device."""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from gradgate.hw.isa import Unit

from .bounds import bounds
from .graph import trace
from .nests import nest, stored_bytes
from .prediction import predict
from .profile import pass_macs, pass_times
from .runtime import Runtime
from .summary import summarise

__all__ = ["Plan", "PlannedPass", "plan", "scheduled"]


@dataclass
class PlannedPass:
    """One pass of one layer.

    Parameters
    ----------
    time : PassTime
        As predicted.
    array_cycles : int
        Cycles of the array alone (summary.Usage).
    nest : Nest or None
        None for a pass that the array has no part in.
    bounds : Bounds or None
        For passes of layers with weights.
    loads : dict
        "a", "b" -> (LOAD instructions, bytes they read, times that their operand is read).
    """

    time: object
    array_cycles: int
    nest: object = None
    bounds: object = None
    loads: dict | None = None


@dataclass
class Plan:
    """`passes`, a list of PlannedPass; `memory`, all (name, bytes) in device memory; `cycles` of
    the step, predicted."""

    passes: list
    memory: list
    cycles: int


def scheduled(network):
    """All (layer name, pass) that need a tile, in the order in which they are compiled: of the
    forward program, then of the backward one."""
    layers = network.layers
    found = [(layer.name, "forward") for layer in layers]
    for i, layer in reversed(list(enumerate(layers))):
        if layer.op != "relu" and any(below.op == "conv" for below in layers[:i]):
            found.append((layer.name, "dX"))
        if layer.op == "conv":
            found.append((layer.name, "dW"))
    return found


def plan(module, shape, board, batch, momentum=False, notify=lambda text: None):
    """Plan a fused training step.

    Parameters
    ----------
    module : torch.nn.Module
    shape : tuple of int
        Of one input.
    board : Board
    batch : int
        Images.
    momentum : bool
        Whether the updates use momentum.
    notify : function
        Called with the name of each pass of `scheduled` before it is scheduled, and with "forward"
        and "backward" before these programs are predicted.

    Returns a Plan. Raises UnsupportedError for what the device cannot run, and for a layer of which
    no tile fits the buffers; OutOfMemoryError for what does not fit the memory.
    """
    config, timing = board.config, board.timing
    network = trace(module, torch.zeros((1, *shape)))
    device = SimpleNamespace(
        config=config, timing=timing, memory_size=board.memory_size, resident=None
    )
    runtime = Runtime(network, device)
    programs, memory = runtime.step_programs(batch, momentum, notify)

    macs, found, cycles = pass_macs(network, batch), [], 0
    for name, program in zip(("forward", "backward"), programs, strict=True):
        notify(name)
        run = predict(program, config, timing)
        cycles += run.cycles
        loads, usage = _loads(program, config), summarise(program, config)
        for time in pass_times(program, config, macs, run.records, run.cycles):
            label = time.layer, time.kind
            one = PlannedPass(time, usage[label].array_cycles)
            if label in program.tiles:
                cut = program.tiles[label]
                window = cut.window
                one.nest = nest(time.kind, window, cut.tile, config, *cut.select, held=cut.held)
                stored = dict(zip("ab", stored_bytes(time.kind, window, config), strict=True))
                one.loads = {
                    side: (count, size, size / stored[side])
                    for side, (count, size) in loads.get(label, {}).items()
                }
                if not window.ident:
                    one.bounds = bounds(window, time.kind, config, timing, held=bool(cut.held))
            found.append(one)
    return Plan(found, memory, cycles)


def _loads(program, config):
    """{label: {"a", "b": [LOAD instructions, bytes]}} of a Program."""
    found = {}
    for (unit, f), label in zip(program.instructions, program.labels, strict=True):
        if unit in (Unit.LOAD_A, Unit.LOAD_B):
            side = "a" if unit == Unit.LOAD_A else "b"
            entry = found.setdefault(label, {}).setdefault(side, [0, 0])
            beats = f["d_len"] * f["d_n1"] * f["d_n2"] * f["d_n3"] * (2 if f.get("unpool") else 1)
            entry[0] += 1
            entry[1] += beats * config.beat_bytes
    return found
