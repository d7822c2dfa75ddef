"""Outlines of passes order candidates as their instructions do."""

import numpy as np
import pytest
from gradgate.sketch import extrapolated
from gradgate.trial import trial

from tests.host.spaces import BOARD, DEPTHS, WINDOWS, cases, space


@cases
def test_a_sketch_is_close_to_a_trial(kind, name):
    one, sketched, tried = space(kind, name), [], []
    found = one.found()
    for candidate in found[:len(found) // 2:max(1, len(found) // 20)]:
        sketched.append(one.sketch(candidate) - candidate.beside)
        tried.append(trial(kind, WINDOWS[name], candidate, BOARD.config, BOARD.timing, DEPTHS))
    ratios = np.array(sketched) / tried
    assert np.std(ratios) < 0.06 and 0.85 < np.mean(ratios) < 1.1
    assert tried[int(np.argmin(sketched))] < 1.05 * min(tried)


def test_the_last_half_goes_on():
    class Candidate:
        array, bound = 500.0, 0.0

    # 1 cycle per cycle of work at first, then 2; two passes of 500
    done = [(100.0, 100.0), (200.0, 200.0), (300.0, 400.0), (400.0, 600.0)]
    assert extrapolated(done, Candidate) == pytest.approx((600 + 600 * 2) / 2)
    Candidate.bound = 1200.0
    assert extrapolated(done, Candidate) == 1200.0
