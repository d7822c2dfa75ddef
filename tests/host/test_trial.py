"""A trial of a beginning tells how long all of the pass takes."""

import gradgate.trial
import pytest
from gradgate.hw.isa import Unit
from gradgate.trial import trial

from tests.host.spaces import BOARD, COSTS, DEPTHS, WINDOWS, cases, program, space


def whole(kind, name, candidate, monkeypatch):
    monkeypatch.setattr(gradgate.trial, "ENOUGH", 1 << 30)
    return trial(kind, WINDOWS[name], candidate, BOARD.config, BOARD.timing, DEPTHS)


@cases
def test_a_beginning_is_enough(kind, name, monkeypatch):
    best = space(kind, name).found()[0]
    monkeypatch.setattr(gradgate.trial, "ENOUGH", 150)
    some = trial(kind, WINDOWS[name], best, BOARD.config, BOARD.timing, DEPTHS)
    assert some == pytest.approx(whole(kind, name, best, monkeypatch), rel=0.1)


@cases
def test_work_of_the_array(kind, name):
    """`Candidate.array`, with which a trial extrapolates, is what the instructions add up to."""
    for one in space(kind, name).found()[::60]:
        instructions = program(kind, name, one.tile).instructions
        sweeps = [COSTS.machine.sweeps(f) for unit, f in instructions if unit == Unit.COMPUTE]
        work = sum(s.count * s.period + max(s.fill - 1 - s.period, 0) for s in sweeps)
        # phases of a stride differ by what taps they have, chunks of dW by the bias
        rough = 0.3 if name == "strided" else 0.04 if kind == "gradient" else 0
        assert work == pytest.approx(one.array, rel=rough), one.tile
