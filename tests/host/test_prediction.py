"""Each core is predicted by its own formulas."""

from dataclasses import replace

import torch
from gradgate import micro, timeline
from gradgate.boards import board
from gradgate.nets import net
from gradgate.planning import plan
from gradgate.prediction import predict


def test_of_both_cores(monkeypatch):
    called = []
    for module in (micro, timeline):
        monkeypatch.setattr(module, "predict", lambda *_, m=module: called.append(m))
    tiny = board("tiny")
    predict(None, tiny.config, tiny.timing)
    predict(None, replace(tiny.config, core="micro"), tiny.timing)
    assert called == [timeline, micro]


def test_plan_of_the_small_core():
    """What `gradgate plan` prints of it: one instruction after the other takes its time."""
    torch.manual_seed(0)
    module, shape = net("digits-small")
    tiny = board("tiny")
    small = replace(tiny, config=replace(tiny.config, core="micro"))
    assert plan(module, shape, small, 2).cycles > 10 * plan(module, shape, tiny, 2).cycles
