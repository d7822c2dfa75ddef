"""Who spent the time: cycles of a program by layer, pass and unit.

A program's instructions carry labels (layer, pass), `Program.labels`; a *pass* is all that has the
same label. Records say when each instruction began and ended: a dict unit name -> structured array
with the fields `start`, `done`, `active`, `starved` (cycles since the program began), the k-th
record of the unit's k-th instruction in program order. The device `rtl` measures them
(`Counters.records`), `gradgate.timeline.predict` computes them; in what follows it makes no
difference which.

Cycles of a pass: the array decides. From when a COMPUTE is done, and all before it are, to when the
next one is, time belongs to the pass of the next one; before the first COMPUTE to its pass, after
the last one to the last pass of the program. So a pass without COMPUTE takes no time, it is hidden
behind others, and the passes add up to the program's cycles.

Per pass and unit, in cycles:

* busy: executing instructions of the pass. Where instructions of a unit overlap, the cycle belongs
  to the earlier one, so none counts twice;
* active: useful work (docs/architecture.md, section 2);
* blocked: busy - active, at least 0: memory, another unit's data, or filling and draining;
* starved: waiting for tokens, with an instruction of the pass at hand.

Instructions of a pass also run while other passes are being waited for, so a unit's busy cycles may
be more than the cycles of the pass.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .device import UNITS, Counters
from .prediction import predict
from .summary import pass_order, summarise

__all__ = [
    "PassTime",
    "Profile",
    "UnitTime",
    "clipped_starts",
    "numbers_of_passes",
    "pass_macs",
    "pass_times",
]


@dataclass
class UnitTime:
    """What one unit did for one pass: instructions, and cycles of each kind."""

    instructions: int = 0
    busy: int = 0
    active: int = 0
    starved: int = 0

    @property
    def blocked(self):
        return max(0, self.busy - self.active)


@dataclass
class PassTime:
    """One pass of one layer: `kind` is "forward", "dX", "dW" or "update".

    `cycles` and `units` (unit name -> UnitTime) are None and empty without records. `macs` are the
    multiply-accumulates that the network defines, bytes what goes to and from memory, instructions
    included. `array_cycles` is what the array alone would need (summary.Usage).
    """

    layer: str
    kind: str
    macs: int
    read_bytes: int
    write_bytes: int
    array_cycles: int
    instructions: int
    cycles: int | None = None
    units: dict = field(default_factory=dict)

    def utilisation(self, config):
        """Share of the multipliers that did useful work in the cycles of the pass; None if it has
        no cycles."""
        return self.macs / (self.cycles * config.macs) if self.cycles else None


def pass_macs(network, images):
    """{(layer, pass): multiply-accumulates} of a training step as the network defines them.

    Forward, dX (none for the first layer with weights) and dW of a layer have the same number;
    poolings and updates are not in the dict.
    """
    layers = [layer for layer in network.layers if layer.macs]
    return {
        (layer.name, kind): images * layer.macs
        for layer in layers
        for kind in ("forward", "dX", "dW")
        if kind != "dX" or layer is not layers[0]
    }


def clipped_starts(records):
    """Start of each record (int64), but not before all earlier ones of the array are done."""
    done = records["done"].astype(np.int64)
    starts = records["start"].astype(np.int64)
    np.maximum(starts[1:], np.maximum.accumulate(done)[:-1], out=starts[1:])
    return np.minimum(starts, done)


def pass_times(program, config, macs, records=None, cycles=None):
    """The passes of a program, a list of PassTime in the order of the program.

    Parameters
    ----------
    program : Program
    config : Config
    macs : dict
        From `pass_macs`.
    records : dict or None
        Unit name -> array, see above.
    cycles : int or None
        Of the whole program; needed with `records`.

    Raises ValueError if there is not one record per instruction.
    """
    passes = [
        PassTime(
            *label,
            macs.get(label, 0),
            usage.read_bytes,
            usage.write_bytes,
            usage.array_cycles,
            usage.instructions,
        )
        for label, usage in summarise(program, config).items()
    ]
    if records is None:
        return passes
    took = np.zeros(len(passes), np.int64)
    for name, numbers in numbers_of_passes(program).items():
        own = records[name]
        if len(own) != len(numbers):
            raise ValueError(f"{len(own)} records of {len(numbers)} instructions of {name}")

        def total(values, numbers=numbers):
            sums = np.zeros(len(passes), np.int64)
            np.add.at(sums, numbers, values)
            return sums.tolist()

        columns = (
            total(np.ones(len(own), np.int64)),
            total(own["done"].astype(np.int64) - clipped_starts(own)),
            total(own["active"].astype(np.int64)),
            total(own["starved"].astype(np.int64)),
        )
        for one, *values in zip(passes, *columns, strict=True):
            one.units[name] = UnitTime(*values)
        if name == "COMPUTE":
            ends = np.maximum.accumulate(own["done"].astype(np.int64))
            np.add.at(took, numbers, np.diff(ends, prepend=0))
    took[-1:] += cycles - took.sum()
    for one, own in zip(passes, took.tolist(), strict=True):
        one.cycles = own
    return passes


def numbers_of_passes(program):
    """{unit name: array with the number of the pass of each of its instructions}."""
    order = {label: number for number, label in enumerate(pass_order(program))}
    found = {name: [] for name in UNITS}
    for (unit, _), label in zip(program.instructions, program.labels, strict=True):
        found[unit.name].append(order[label])
    return {name: np.array(numbers, np.intp) for name, numbers in found.items()}


class Profile(dict):
    """What a network's programs have cost so far: Counters of all runs per pass, "forward" (in
    training), "backward" (with the update in a fused step), "update" and "inference". It stays as
    it is when the device goes on.

    Parameters
    ----------
    runtime : Runtime
    """

    def __init__(self, runtime):
        super().__init__({name: sum_ + Counters() for name, sum_ in runtime.counters.items()})
        self._runtime, self._ran = runtime, dict(runtime.ran)

    @property
    def total(self):
        """The sum over all passes."""
        return sum(self.values(), Counters())

    @property
    def measured(self):
        """Whether the device has a clock, so that `passes` are not predicted."""
        return any(counters.records is not None for _, _, counters in self._ran.values())

    @cached_property
    def passes(self):
        """{name: list of PassTime} of the last run of each program: from what was measured, or
        predicted on a device without a clock."""
        config, timing = self._runtime.config, self._runtime.timing
        found = {}
        for name, (program, images, counters) in self._ran.items():
            run = counters if self.measured else predict(program, config, timing)
            macs = pass_macs(self._runtime.network, images)
            found[name] = pass_times(program, config, macs, run.records, run.cycles)
        return found

    def __str__(self):
        """Tables: cycles and bytes of all runs; then the last run of each program, by layer."""
        lines = [("pass", "cycles", *(f"{unit} active" for unit in UNITS), "read B", "written B")]
        for name, c in [*self.items(), ("total", self.total)]:
            cycles = "-" if c.cycles is None else f"{c.cycles:,}"
            active = (f"{c.active[unit]:,}" for unit in UNITS)
            lines.append((name, cycles, *active, f"{c.read_bytes:,}", f"{c.write_bytes:,}"))
        text = _columns(lines, 10, 16)
        rows = [one for passes in self.passes.values() for one in passes]
        if not rows:
            return text
        kind = "measured" if self.measured else "predicted"
        return f"{text}\n\nlast runs by layer and pass, {kind}\n{self._by_layer(rows)}"

    def _by_layer(self, rows):
        kinds = ("active", "starved", "blocked")
        lines = [
            ("", "", "", *(unit if kind == "starved" else "" for unit in UNITS for kind in kinds)),
            ("layer and pass", "cycles", "used", *(kind for _ in UNITS for kind in kinds)),
        ]
        for one in rows:
            use = one.utilisation(self._runtime.config)
            cells = (getattr(one.units[unit], kind) for unit in UNITS for kind in kinds)
            used = "-" if use is None else f"{use:.1%}"
            label = f"{one.layer} {one.kind}"
            lines.append((label, f"{one.cycles:,}", used, *(f"{cell:,}" for cell in cells)))
        return _columns(lines, 2 + max(len(first) for first, *_ in lines), 12)


def _columns(lines, first, width):
    """Lines of cells as text: the first cell to the left, all others to the right."""
    return "\n".join(
        f"{head:<{first}}" + "".join(f"{cell:>{width}}" for cell in rest) for head, *rest in lines
    )
