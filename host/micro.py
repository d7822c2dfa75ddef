"""When every instruction of a program starts and ends on the small core, by closed formulas.

It executes them one after the other, so times add up: an instruction costs what its loops cost, per
time round. The numbers count the words of microcode in a loop (hw/micro/code_*.py), two or three
cycles each, with what they wait for arithmetic and for memory of latency `LATENCY`; each access
that is waited for takes longer by what another memory has more.
"""

import numpy as np
from gradgate.hw.isa import BYTES, LAYOUTS, Unit

from .device import RECORD, UNITS
from .timeline import Prediction

__all__ = ["LATENCY", "predict", "cycles"]

LATENCY = 3  # that of the memory on the chip
FETCH = 110  # cycles from the end of an instruction to the start of the next, without tokens
CHOOSE = (0, 3, 6, 9)  # more of them, by unit
WAIT, TOKEN = 12, 5  # more if it waits for tokens, and for each
BEGIN, END = 4, 132  # from the start to the first fetch; from the last instruction to the end
SIGNAL = 2  # for each token given

_ABSENT = {unit: dict.fromkeys(layout, 0) for unit, layout in LAYOUTS.items()}


def predict(program, config, timing):
    """Prediction for a Program on a device with a small core; other parameters as of
    `timeline.predict`."""
    late = timing.latency - LATENCY
    words = BYTES // config.beat_bytes
    records = {unit: [] for unit in UNITS}
    now = BEGIN
    for unit, fields in program.instructions:
        f = _ABSENT[unit] | fields
        waits, signals = (bin(f[name]).count("1") for name in ("wait", "signal"))
        start = now + FETCH + CHOOSE[unit] + bool(waits) * WAIT + waits * TOKEN + words * late
        busy, accesses = cycles(unit, f)
        now = start + busy + signals * SIGNAL + accesses * late
        records[UNITS[unit]].append((round(start), round(now), 0, 0))
    return Prediction(round(now + END + words * late),
                      {unit: np.array(rows, RECORD) for unit, rows in records.items()})  # fmt: skip


def cycles(unit, fields):
    """(cycles, accesses that are waited for) of an instruction, tokens apart; with all fields."""
    if unit in (Unit.LOAD_A, Unit.LOAD_B):
        return (_unpool if fields["unpool"] else _copy)(fields)
    if unit == Unit.COMPUTE:
        return (_gradient if fields["dw"] else _convolution)(fields), 0
    return _post(fields)


def _inside(low, high, count):
    return max(0, min(high, count) - low)


def _load(f, rows, runs):
    """What LOADs have in common, and of their beats those that are read."""
    valid = _inside(f["lo1"], f["hi1"], f["n1"]) * _inside(f["lo0"], f["hi0"], f["n0"])
    blocks = f["nb"] * f["n2"]
    return 84 + 11 * f["nb"] + 27 * blocks + 23 * rows + 18 * runs, blocks * valid * f["spp"]


def _copy(f):
    blocks = f["nb"] * f["n2"]
    rows, pixels = blocks * f["n1"], blocks * f["n1"] * f["n0"]
    fixed, beats = _load(f, rows, f["d_n1"] * f["d_n2"] * f["d_n3"])
    skews = rows * (f["n0"] // max(1, f["sd0"])) + blocks * (f["n1"] // max(1, f["sd1"]))
    padding = pixels * f["spp"] - beats
    return fixed + 17.5 * pixels + 14 * beats + 8.5 * padding + 4 * skews, beats


def _unpool(f):
    blocks = f["nb"] * f["n2"]
    windows = blocks * f["n1"] * f["n0"]
    fixed, beats = _load(f, blocks * f["n1"], f["d_n1"] * f["d_n2"] * f["d_n3"])
    rows = sum(
        0 <= (i * f["u1"] + j - f["x1"]) * f["a1"] < f["a2"]
        for i in range(f["n1"])
        for j in range(f["u1"])
    )
    columns = sum(
        0 <= i * f["u0"] + j - f["x0"] < f["a1"] for i in range(f["n0"]) for j in range(f["v0"])
    )
    slots = blocks * f["spp"]
    positions = slots * rows * columns
    outside = slots * rows * f["n0"] * f["v0"] - positions
    rest = slots * rows * f["n0"] * (f["u0"] - f["v0"])
    return (
        fixed
        + (14 + 5 * f["u0"]) * windows
        + (20.5 + 14 * f["u1"]) * windows * f["spp"]
        + 21.5 * beats
        + 17.5 * slots * f["n0"] * rows
        + 28 * positions
        + 12 * outside
        + 18 * rest
    ), 2 * beats


def _convolution(f):
    sweeps = f["ng"] * f["t1"] * f["t0"]
    runs = f["q2"] * f["q1"]
    run = (3 if f["sel"] else 2) * f["q0"] + 2  # of the array; the words beside it take 9
    return (
        105
        + 6 * runs
        + 3 * f["q2"]
        + 10 * f["ng"]
        + 11 * f["ng"] * f["t1"]
        + 23 * f["a_pix"]
        + sweeps
        * (
            86
            + 15 * f["a_pix"]
            + 20 * f["ident"]
            + 12 * f["q2"]
            + (runs - 1) * max(9, run)
            + max(0, run - 20)
        )
    )


def _gradient(f):
    chunks = -(-f["np"] // 4)
    groups, taps = f["ng"], f["t1"] * f["t0"]
    skews = f["t1"] * (f["t0"] // max(1, f["sd0"])) + f["t1"] // max(1, f["sd1"])
    walk = 4 / max(1, f["q0"]) + 4 / max(1, f["q0"] * f["q1"])
    return (
        72
        + 5 * f["lanes_last"]
        + 5 * f["t1"]
        + chunks
        * (
            112
            + 7 * f["ones"]
            + 7.5 * walk
            + groups * (25 + 15 * f["t1"] + 14.5 * taps + 4 * skews)
        )
    )


def _post(f):
    wide = bool(f["out_fp32"] or f["sgd"])
    steps = any(f[name] for name in ("scale", "bias", "opd_add", "relu", "mask", "sgd"))
    operand = any(f[name] for name in ("opd_add", "mask", "sgd"))
    window = f["pool"] * (35 * f["w1"] * f["w0"] + 19 * f["w1"] + 27)
    pixel = (
        145
        + window
        - 23 * wide
        + 36 * steps
        + (20 + 14 * wide) * operand
        + 12 * (f["scale"] + f["bias"] + f["tags"])
        + 3 * f["opd_add"]
        + 4 * (f["relu"] + f["src_mem"])
        + 3 * f["mask"]
        + 15 * f["sgd"]
        + 56 * f["mom"]
    )
    pixels = f["p2"] * f["p1"] * f["p0"]
    # a write goes on beside what follows, but for the second of two
    streams = operand + 2 * f["mom"]
    accesses = pixels * (streams * (1 + wide) + f["src_mem"] * (1 + f["src_fp32"])) + 2 * f["bias"]
    half = 560 * (f["tags"] and wide)
    fixed = 72 + 15 * f["bias"] + half + 8 * f["p2"] * (1 + f["p1"]) + 17 * f["o_n1"] * f["o_n2"]
    return fixed + pixel * pixels, accesses
