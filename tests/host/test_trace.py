"""Timelines in short form, and trace files."""

import gzip
import json

import numpy as np
import pytest
from gradgate.device import UNITS
from gradgate.trace import Run, segments, write_trace

from tests.host.synthetic import program_of, random_program, random_records, records_of

A, B = ("conv", "forward"), ("conv", "dW")


def random_runs(seed, count=2, **options):
    rng = np.random.default_rng(seed)
    programs = [random_program(rng, **options) for _ in range(count)]
    return [Run(program, *random_records(rng, program)) for program in programs]


def test_segments_are_the_instructions_when_there_is_room():
    first = Run(program_of(("POST", A), ("POST", A), ("POST", B)),
                records_of(POST=[(2, 9, 5, 0), (6, 15, 4, 0), (15, 16, 1, 0)]), 20)
    second = Run(program_of(("LOAD_A", A), ("POST", A)),
                 records_of(LOAD_A=[(0, 3, 2, 0)], POST=[(1, 4, 1, 0)]), 7)
    found = segments([first, second])
    assert found["POST"] == {"start": [2, 9, 15, 21], "end": [9, 15, 16, 24], "pass": [0, 0, 1, 2],
                             "busy": [7, 6, 1, 3], "active": [5, 4, 1, 1]}
    assert found["LOAD_A"]["start"] == [20] and found["LOAD_A"]["pass"] == [2]
    assert found["COMPUTE"] == {name: [] for name in ("start", "end", "pass", "busy", "active")}


@pytest.mark.parametrize("limit", [1, 7, 12, 30, 100])
def test_few_segments_hold_as_much_as_many(limit):
    runs = random_runs(limit, passes=3, length=30)
    many, few = segments(runs, 10**9), segments(runs, limit)
    passes = sum(len(set(run.program.labels)) for run in runs)
    for name in UNITS:
        length = len(few[name]["start"])
        # one segment per pass at least
        assert length <= max(limit, len(set(many[name]["pass"]))) and length <= 6 * 30
        for what in ("busy", "active"):
            per_pass = [np.zeros(passes, int) for _ in range(2)]
            for sums, one in zip(per_pass, (many[name], few[name]), strict=True):
                np.add.at(sums, one["pass"], one[what])
            assert per_pass[0].tolist() == per_pass[1].tolist()
        starts, ends = (np.array(few[name][side]) for side in ("start", "end"))
        assert (starts[1:] >= ends[:-1]).all() and (ends - starts >= few[name]["busy"]).all()
        if len(many[name]["start"]) > limit >= passes:
            assert length >= limit - 20  # no coarser than it must be; equal gaps go together


def test_the_shortest_gaps_are_merged_first():
    run = Run(program_of(*[("POST", A)] * 4),
              records_of(POST=[(0, 5, 1, 0), (8, 9, 1, 0), (10, 12, 1, 0), (30, 31, 1, 0)]), 40)
    assert segments([run], 3)["POST"]["start"] == [0, 8, 30]
    assert segments([run], 2)["POST"]["end"] == [12, 31]
    assert segments([run], 1)["POST"] == {"start": [0], "end": [31], "pass": [0], "busy": [9],
                                          "active": [4]}


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_a_trace_has_every_instruction_once(name, tmp_path):
    sides = {"measured": random_runs(1), "predicted": random_runs(2)}
    path = tmp_path / name
    write_trace(path, sides, 50e6, "a title")
    data = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
    trace = json.loads(data)
    assert trace["otherData"] == {"title": "a title", "clock_hz": 50e6,
                                  "timestamps": "cycles / clock_hz * 1e6"}
    events = trace["traceEvents"]
    assert [e["args"]["name"] for e in events if e["name"] == "process_name"] == list(sides)
    for process, runs in enumerate(sides.values(), 1):
        tracks = [e["args"]["name"] for e in events
                  if e["pid"] == process and e["name"] == "thread_name"]
        assert tracks == list(UNITS)
        for track, unit in enumerate(UNITS):
            own = [e for e in events if e["ph"] == "X" and (e["pid"], e["tid"]) == (process, track)]
            wanted, base = [], 0
            for run in runs:
                labels = [label for (u, _), label in
                          zip(run.program.instructions, run.program.labels, strict=True)
                          if u.name == unit]
                wanted += [(" ".join(label), base + int(r["done"]), *map(int, r))
                           for label, r in zip(labels, run.records[unit], strict=True)]
                base += run.cycles
            keys = [f"cycles {what}" for what in ("start", "done", "active", "starved")]
            found = [(e["name"], round((e["ts"] + e["dur"]) * 50), *(e["args"][k] for k in keys))
                     for e in own]
            assert found == wanted
            # events of a track must not overlap
            ends = [e["ts"] + e["dur"] for e in own]
            assert all(e["ts"] >= end - 1e-6 for e, end in zip(own[1:], ends, strict=False))
    field = next(e["args"]["d_n3"] for e in events if e["ph"] == "X" and e["tid"] == 0)
    assert field == 5


def test_counters_add_up_to_the_active_cycles(tmp_path):
    (run,) = random_runs(3, count=1, length=60)
    write_trace(tmp_path / "t.json", {"measured": [run]}, 1e6, "")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    points = [e for e in events if e["ph"] == "C"]
    assert len(points) == run.cycles // 50
    width = run.cycles / len(points)
    for unit in UNITS:
        total = sum(int(a) for a in run.records[unit]["active"])
        assert sum(p["args"][unit] * width for p in points) == pytest.approx(total, rel=1e-2)
