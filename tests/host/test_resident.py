"""Weights that stay in buffer A: read where forward has left them, and only if they are there."""

from dataclasses import replace

import gradgate
import pytest
import torch
import torch.nn.functional as F
from gradgate.hw.config import Config
from gradgate.hw.isa import Unit
from gradgate.resident import SHARE
from gradgate.sim.model import ModelDevice
from torch import nn

CONFIG = Config(tm=4, tn=8, fmt="fp32", beat_bits=64, a_depth=512, b_depth=256, acc_depth=128)
NET = (nn.Conv2d(3, 7, 3, padding=1), nn.ReLU(), nn.Conv2d(7, 11, (2, 3), (2, 1)), nn.ReLU(),
       nn.Flatten(), nn.Linear(11 * 3 * 3, 10), nn.ReLU(), nn.Linear(10, 5))


def compiled(config=CONFIG):
    torch.manual_seed(0)
    return gradgate.compile(nn.Sequential(*NET), (torch.zeros(1, 3, 6, 5),),
                            ModelDevice(config, 4 << 20, check=True))


def gradients(model, loss):
    """Gradients of all weights, and the layers whose dX loaded weights."""
    model.zero_grad()
    loss.backward(retain_graph=True)
    program = model.runtime.ran["backward"][0]
    loading = {layer for (unit, _), (layer, kind) in
               zip(program.instructions, program.labels, strict=True)
               if unit == Unit.LOAD_A and kind == "dX"}
    return {name: p.grad.clone() for name, p in model.named_parameters()}, loading


def test_the_last_layers_stay_while_there_is_room():
    for depth, stay in ((16, []), (128, [7]), (512, [2, 5, 7])):
        model = compiled(replace(CONFIG, a_depth=depth))
        tensors = model.runtime.plan(2, train=True).tensors
        layers = {i: step.layer.name for i, step in enumerate(tensors.steps)}
        assert [int(layers[i]) for i in tensors.residents] == stay
        held = sum(r.words for r in tensors.residents.values())
        assert held <= SHARE * depth
        assert not model.runtime.plan(2, train=False).tensors.residents


@pytest.mark.parametrize("tm, tn", [(4, 8), (2, 16), (8, 8)])
def test_gradients_are_the_same_without(tm, tn):
    model = compiled(replace(CONFIG, tm=tm, tn=tn, a_depth=1024))
    x, y = torch.randn(3, 3, 6, 5), torch.randn(3, 5)
    loss = F.mse_loss(model(x), y)
    got, loading = gradients(model, loss)
    assert not loading & {"5", "7"}
    # not right after forward any more
    wanted, loading = gradients(model, loss)
    assert loading >= {"5", "7"}
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_weights_that_changed_are_loaded_again():
    model = compiled()
    x, y = torch.randn(2, 3, 6, 5), torch.randn(2, 5)

    def step(scale):
        """Parameters after a step in whose loss the weights are scaled."""
        optimizer = gradgate.optim.SGD(model.parameters(), lr=0.1)

        def loss(output, y):
            with torch.no_grad():
                model.get_submodule("7").weight.mul_(scale)
                model.push()
            return F.mse_loss(output, y)

        model.train_step(x, y, loss, optimizer=optimizer)
        return model.runtime.ran["backward"][0]

    loaded = [any(unit == Unit.LOAD_A and label == ("7", "dX") for (unit, _), label in
                  zip(program.instructions, program.labels, strict=True))
              for program in (step(1.0), step(2.0))]
    assert loaded[1]
