"""What no token orders: POST may read for an instruction before those before it have written."""

import gradgate
import pytest
import torch
from gradgate.hw.isa import Unit
from gradgate.passes import backward_program, forward_program, update_program
from gradgate.sim.model import ModelDevice
from torch import nn

from tests.host.nets import CONFIGS, config_id


def runs(f, base, beat_bytes):
    """Beats of a POST's streams that have the runs of its output."""
    return {base + i2 * f["o_s2"] + i1 * f["o_s1"] + i * beat_bytes
            for i2 in range(f["o_n2"]) for i1 in range(f["o_n1"]) for i in range(f["o_len"])}


def early(f, config):
    """Beats that a POST may read before the ones before it are complete: all but those of a memory
    source, and of `opd_add`."""
    found, beat = set(), config.beat_bytes
    if f.get("mask") or f.get("sgd"):
        found |= runs(f, f["opd_base"], beat)
    if f.get("mom"):
        found |= runs(f, f["aux_base"], beat)
    if f.get("bias"):
        found |= {f["imm2"] + i * beat for i in range(config.groups)}
    return found


def programs(model, images):
    """All kinds of programs of a network."""
    runtime = model.runtime
    runtime.reserve_gradients()
    tensors = runtime.plan(images, train=True, input_gradient=True).tensors
    inference = runtime.plan(images, train=False).tensors
    train = [(step.weights is not None,) * 2 for step in runtime.steps]
    momentum = [True] * len(train)
    yield forward_program(inference)
    yield forward_program(tensors)
    yield backward_program(tensors, train)
    yield backward_program(tensors, train, momentum)
    yield update_program(runtime.steps, runtime.scheduler, train, momentum)


@pytest.mark.parametrize("config", CONFIGS, ids=config_id)
def test_what_posts_write_is_not_read_early(config):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(10, 7, (2, 3)),
        nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(7 * 3 * 3, 9), nn.ReLU())
    x = torch.zeros(5, 3, 10, 12)
    model = gradgate.compile(net, (x,), ModelDevice(config, 4 << 20))
    for program in programs(model, len(x)):
        written, posts = set(), 0
        for unit, f in program.instructions:
            if unit == Unit.POST:
                posts += 1
                assert not early(f, config) & written
                written |= runs(f, f["out_base"], config.beat_bytes)
                if f.get("mom"):
                    written |= runs(f, f["aux_base"], config.beat_bytes)
        assert posts > 1
