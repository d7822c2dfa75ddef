"""Gradients that wait in the accumulators: emitted once each, when there is time, and none lost."""

import gradgate
import pytest
import torch
import torch.nn.functional as F
from gradgate import passes
from gradgate.background import STARTED, WORTH, Background
from gradgate.boards import MemoryTiming
from gradgate.buffers import Lowering
from gradgate.hw.config import Config
from gradgate.hw.isa import Unit
from gradgate.scheduler import scheduler
from gradgate.sim.model import ModelDevice
from gradgate.timeline import predict
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

CONFIG = Config(tm=4, tn=8, fmt="fp32", beat_bits=64, a_depth=256, b_depth=256, acc_depth=128)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=6), st.integers(1, 7), st.data())
def test_every_result_is_taken_out_once(sizes, each, data):
    waiting, taken = Background(200), []
    if not waiting.room(sizes):
        return
    places = []
    for number, size in enumerate(sizes):
        region, first = waiting.reserve(size)
        places.append((region, first, first + size))
        waiting.add(region, size, each, lambda at, count, n=number: taken.append((n, at, count)))
    for i, (region, first, end) in enumerate(places):
        assert waiting.free(region) <= first and end <= 200
        assert not any(r == region and a < end and first < b for r, a, b in places[:i])
    for _ in range(data.draw(st.integers(0, 20))):
        region, cycles = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 600))
        before = len(taken)
        waiting.offer(region, cycles)
        new = taken[before:]
        assert all(places[n][0] == region for n, _, _ in new)
        assert sum(count * each + STARTED for _, _, count in new) <= max(0, cycles)
        assert all(count >= min(WORTH, sizes[n] - at) for n, at, count in new)
    waiting.finish()
    assert not waiting.waiting and waiting.free(0) == waiting.free(1) == 200
    for number, size in enumerate(sizes):
        pieces = sorted((at, count) for n, at, count in taken if n == number)
        ends = [at + count for at, count in pieces]
        assert [at for at, _ in pieces] == [0, *ends[:-1]] and ends[-1] == size


def test_room():
    assert Background(100).room([75, 75]) and not Background(100).room([76])
    waiting = Background(100)
    waiting.add(waiting.reserve(3)[0], 3, 1, print)
    assert not waiting.room([1])


def trained(net, x, y, momentum=0.0):
    """(parameters after two steps, the last backward Program)."""
    model = gradgate.compile(net, (x,), ModelDevice(CONFIG, 4 << 20, check=True))
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
    for _ in range(2):
        model.train_step(x, y, F.mse_loss, optimizer=optimizer)
    state = {name: p.clone() for name, p in model.state_dict().items()}
    return state, model.runtime.ran["backward"][0]


def updates(program, layer):
    """Places of the POSTs of a layer's update, and of the last COMPUTE of its gradient."""
    posts, computes = [], []
    pairs = zip(program.instructions, program.labels, strict=True)
    for place, ((unit, _), label) in enumerate(pairs):
        if label == (layer, "dW"):
            (posts if unit == Unit.POST else computes if unit == Unit.COMPUTE else []).append(place)
    return posts, computes[-1]


@pytest.mark.parametrize("features, momentum", [(28, 0.0), (28, 0.9), (13, 0.0)])
def test_an_update_waits_for_convolutions_and_stays_the_same(monkeypatch, features, momentum):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, features, 3),
                        nn.ReLU(), nn.MaxPool2d(5), nn.Flatten(), nn.Linear(features, 9))
    x, y = torch.randn(3, 3, 7, 7), torch.randn(3, 9)
    monkeypatch.setattr(passes, "PAUSES", (0,))
    got, program = trained(net, x, y, momentum)
    posts, last = updates(program, "6")
    # convolutions compute before the update is complete
    between = [label for (unit, _), label in zip(program.instructions, program.labels, strict=True)
               if unit == Unit.COMPUTE][-1]
    assert between != ("6", "dW")
    assert posts[-1] > last
    late = [label for (unit, _), label in zip(program.instructions[last:posts[-1]],
                                              program.labels[last:posts[-1]], strict=True)
            if unit == Unit.COMPUTE and label[0] != "6"]
    assert late and (features < 28 or len(posts) > 2)

    monkeypatch.setattr(passes, "PAUSES", (None,))
    wanted, program = trained(net, x, y, momentum)
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_a_region_that_is_needed_is_emptied_first():
    lw, taken = Lowering(scheduler(CONFIG, MemoryTiming()), pause=0), []
    for size in (40, 70):
        number, _, _ = lw.put_off(size)
        lw.background.add(number, size, 4, lambda first, count: taken.append(count))
    for size in (128 - 70, 128 - 70):
        lw.region(size)
        assert not taken
    lw.region(128 - 40)
    lw.region(128 - 40)
    assert sorted(taken) == [40, 70]


def test_whether_it_waits_and_how_long_is_tried_out():
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 60, 3), nn.ReLU(),
                        nn.MaxPool2d(5), nn.Flatten(), nn.Linear(60, 9))
    device = ModelDevice(CONFIG, 4 << 20)
    model = gradgate.compile(net, (torch.zeros(1, 3, 7, 7),), device)
    tensors = model.runtime.plan(2, train=True).tensors
    train = [(step.weights is not None,) * 2 for step in model.runtime.steps]

    def cycles(pauses):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(passes, "PAUSES", pauses)
            program = passes.backward_program(tensors, train, [False] * len(train))
        return predict(program, CONFIG, device.timing).cycles

    alone = [cycles((pause,)) for pause in (0, 60, None)]
    assert len(set(alone)) > 1 and cycles((0, 60, None)) == min(alone)
