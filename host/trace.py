"""Timelines: what each unit did when, in short form, and as a trace file to look at."""

import gzip
import json
from dataclasses import dataclass

import numpy as np

from .device import UNITS
from .profile import clipped_starts, numbers_of_passes

__all__ = ["Run", "SEGMENTS_MAX", "segments", "write_trace"]

SEGMENTS_MAX = 2000
WINDOWS = 2000  # points of a counter in a trace file


@dataclass
class Run:
    """A program as it ran, or is predicted to: records per unit as in host/profile.py, and the
    cycles of the whole."""

    program: object
    records: dict
    cycles: int


def segments(runs, limit=SEGMENTS_MAX):
    """What each unit was busy with, in short form.

    Parameters
    ----------
    runs : list of Run
        One after the other.
    limit : int
        Segments per unit at most; instructions of one pass are merged across gaps, the shortest
        ones first, until there are so few.

    Returns {unit name: {"start": [...], "end": [...], "pass": [...], "busy": [...],
    "active": [...]}}: cycles since the beginning, the number of the pass (counted through all runs,
    in their order), and how many of the segment's cycles the unit was busy and active.
    """
    columns = {name: [] for name in UNITS}
    base, number = 0, 0
    for run in runs:
        numbers = numbers_of_passes(run.program)
        for name in UNITS:
            own = run.records[name]
            start, done = clipped_starts(own), own["done"].astype(np.int64)
            columns[name].append(
                np.stack(
                    [
                        start + base,
                        done + base,
                        numbers[name] + number,
                        done - start,
                        own["active"].astype(np.int64),
                    ]
                )
            )
        base += run.cycles
        number += len(dict.fromkeys(run.program.labels))
    return {name: _merged(np.concatenate(parts, axis=1), limit) for name, parts in columns.items()}


def _merged(columns, limit):
    start, end, passes, busy, active = columns
    if not len(start):
        return {name: [] for name in ("start", "end", "pass", "busy", "active")}
    gap = start[1:] - np.maximum.accumulate(end)[:-1]
    other = passes[1:] != passes[:-1]
    within = np.sort(gap[~other])
    room = limit - 1 - np.count_nonzero(other)
    # the longest gaps stay, as many as there is room for
    if room >= len(within):
        border = -1
    else:
        border = within[len(within) - 1 - room] if room > 0 else gap.max()
    first = np.concatenate([[0], np.flatnonzero(other | (gap > border)) + 1])
    last = np.append(first[1:], len(start)) - 1
    return {
        "start": start[first].tolist(),
        "end": np.maximum.accumulate(end)[last].tolist(),
        "pass": passes[first].tolist(),
        "busy": np.add.reduceat(busy, first).tolist(),
        "active": np.add.reduceat(active, first).tolist(),
    }


def write_trace(path, sides, clock_hz, title):
    """Write timelines in the trace event format, for ui.perfetto.dev or chrome://tracing.

    Each side is a process, each unit a track with one event per instruction, named by layer and
    pass; its arguments are the fields of the instruction and the cycles of its record. Where
    instructions of a unit overlap, the later one is drawn from the end of the earlier one. Counters
    show each unit's share of active cycles over time. Timestamps are microseconds of the board's
    clock: cycles / `clock_hz` * 10^6.

    Parameters
    ----------
    path : Path
        The suffix .gz chooses a compressed file.
    sides : dict
        Name, such as "measured" -> list of Run, one after the other.
    clock_hz : float
    title : str
    """
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt") as file:
        about = {"title": title, "clock_hz": clock_hz, "timestamps": "cycles / clock_hz * 1e6"}
        file.write(f'{{"displayTimeUnit": "ns", "otherData": {json.dumps(about)}, "traceEvents": [')
        separator = "\n"
        for process, (name, runs) in enumerate(sides.items(), 1):
            for event in _events(process, name, runs, 1e6 / clock_hz):
                file.write(separator + json.dumps(event, separators=(",", ":")))
                separator = ",\n"
        file.write("\n]}\n")


def _events(process, name, runs, scale):
    """The events of one side; `scale` is microseconds per cycle."""
    yield {"ph": "M", "pid": process, "name": "process_name", "args": {"name": name}}
    for track, unit in enumerate(UNITS):
        for kind, value in (("name", {"name": unit}), ("sort_index", {"sort_index": track})):
            yield {"ph": "M", "pid": process, "tid": track, "name": f"thread_{kind}", "args": value}
    base = 0
    for run in runs:
        yield from _instructions(process, run, base, scale)
        yield from _shares(process, run, base, scale)
        base += run.cycles


def _instructions(process, run, base, scale):
    starts = {unit: clipped_starts(own) for unit, own in run.records.items()}
    heads = dict.fromkeys(UNITS, 0)
    for (unit, fields), label in zip(run.program.instructions, run.program.labels, strict=True):
        k = heads[unit.name]
        heads[unit.name] += 1
        record = run.records[unit.name][k]
        start, done = int(starts[unit.name][k]), int(record["done"])
        counts = {f"cycles {what}": int(record[what]) for what in record.dtype.names}
        yield {
            "ph": "X",
            "pid": process,
            "tid": int(unit),
            "ts": round((base + start) * scale, 4),
            "dur": round((done - start) * scale, 4),
            "name": " ".join(map(str, label)),
            "args": counts | {key: value for key, value in fields.items() if value},
        }


def _shares(process, run, base, scale):
    """Counter events: share of active cycles per unit, in equal windows."""
    edges = np.linspace(0, run.cycles, min(WINDOWS, max(1, run.cycles // 50)) + 1)
    shares = {}
    for unit, own in run.records.items():
        # active cycles are spread evenly over the busy time of their instruction
        times = np.stack([clipped_starts(own), own["done"].astype(np.int64)], 1).ravel()
        total = np.cumsum(own["active"].astype(np.int64))
        counts = np.stack([total - own["active"].astype(np.int64), total], 1).ravel()
        so_far = np.interp(edges, times, counts) if len(times) else np.zeros(len(edges))
        shares[unit] = np.diff(so_far) / np.diff(edges)
    for i, edge in enumerate(edges[:-1]):
        values = {unit: round(float(share[i]), 4) for unit, share in shares.items()}
        ts = round((base + edge) * scale, 4)
        yield {"ph": "C", "pid": process, "ts": ts, "name": "active", "args": values}
