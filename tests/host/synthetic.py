"""Programs and records made up, for tests of what only counts and draws."""

import types

import numpy as np
from gradgate import bench, profile
from gradgate.device import RECORD, UNITS
from gradgate.hw.isa import Unit
from gradgate.program import Program
from gradgate.sim.model import ModelDevice

__all__ = ["program_of", "records_of", "random_program", "random_records", "clocked", "Clocked",
           "forecast"]

PERIOD, LENGTH = 100, 130  # cycles between the starts of a unit's instructions; how long each takes
FIELDS = {
    Unit.LOAD_A: {"d_len": 3, "d_n1": 2, "d_n2": 1, "d_n3": 5},
    Unit.LOAD_B: {"d_len": 7, "d_n1": 1, "d_n2": 2, "d_n3": 1},
    Unit.COMPUTE: {"ng": 2, "t1": 3, "t0": 1, "q2": 1, "q1": 5, "q0": 7},
    Unit.POST: {"o_len": 6, "o_n1": 3, "o_n2": 2},
}


def program_of(*items):
    """A Program of (unit name, label) pairs."""
    program = Program()
    for name, label in items:
        program.label = label
        program.emit(Unit[name], **FIELDS[Unit[name]])
    return program


def records_of(**rows):
    """Records per unit from (start, done, active, starved) tuples; none for units left out."""
    return {name: np.array(rows.get(name, []), RECORD) for name in UNITS}


def random_program(rng, passes=5, length=20):
    """A Program of some passes of up to `length` instructions of any units."""
    return program_of(*[(str(rng.choice(UNITS)), (f"layer{i // 3}", ("forward", "dX", "dW")[i % 3]))
                        for i in range(passes) for _ in range(rng.integers(1, length))])


def random_records(rng, program, overlap=2):
    """(records, cycles): the units work by themselves, each in order of both start and done; up to
    `overlap` instructions of a unit at once."""
    records, last = {}, 0
    for name in UNITS:
        count = sum(unit.name == name for unit, _ in program.instructions)
        done = np.cumsum(rng.integers(1, 40, count))
        start = done - rng.integers(1, 40, count)
        start = np.maximum.accumulate(np.maximum(start, 0))
        start[overlap:] = np.maximum(start[overlap:], done[:len(done[overlap:])])
        own = records[name] = np.zeros(count, RECORD)
        own["start"], own["done"] = start, done
        own["active"] = rng.integers(0, np.diff(np.maximum.accumulate(done), prepend=0) + 1)
        own["starved"] = rng.integers(0, 30, count)
        last = max(last, *done, 0)
    return records, int(last) + int(rng.integers(0, 50))


def clocked(count, late=0):
    """(records, cycles) of a program with `count` instructions per unit."""
    records = {}
    for name in UNITS:
        own = records[name] = np.zeros(count[name], RECORD)
        own["start"] = PERIOD * np.arange(count[name])
        own["done"] = own["start"] + np.uint64(LENGTH + late)
        own["active"], own["starved"] = 60, 7
    return records, int(max(r["done"][-1] for r in records.values() if len(r))) + 11


class Clocked(ModelDevice):
    """The model, with records as if it had a clock; can get one bit of its output wrong."""

    wrong = 0

    def __init__(self, config, memory_size, timing=None, progress=None):
        super().__init__(config, memory_size, timing=timing)
        self.progress = progress or (lambda cycles: None)

    def run(self, address, **options):
        counters = super().run(address, **options)
        for cycles in (1000, 2000, 5000):
            self.progress(cycles)
        counters.records, counters.cycles = clocked(counters.instructions)
        return counters

    def read(self, address, size):
        data = bytearray(super().read(address, size))
        data[0] ^= self.wrong
        return bytes(data)


def forecast(monkeypatch, late):
    """Let gradgate.timeline predict a Clocked device, each instruction `late` cycles later."""

    def predict(program, config, timing):
        count = {name: sum(u.name == name for u, _ in program.instructions) for name in UNITS}
        records, cycles = clocked(count, late)
        return types.SimpleNamespace(records=records, cycles=cycles)

    for user in (bench, profile):
        monkeypatch.setattr(user, "predict", predict)
