"""Outputs and gradients of the model device against float64 autograd.

The reference takes the device's own choices at ReLU and maximum pooling, so the bounds hold in
every case; choices that differ from those of float64 are counted, and must be near-ties.
"""

import gradgate
import pytest
import torch
from gradgate.hw.config import Config
from gradgate.passes import backward_program
from gradgate.sim.model import ModelDevice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.host.nets import CONFIGS, config_id, networks, representable
from tests.host.reference import judge

BOUND = {"fp32": 1e-5, "bf16": 2e-2}
MEMORY = 8 << 20

Conv, Linear, Max, Avg = nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d
CASES = {
    "odd": ((2, 5, 7, 9), [Conv(5, 11, 3)]),
    "many blocks": ((3, 20, 9, 6), [Conv(20, 35, 3, padding=1)]),
    "stride 2 x 3": ((2, 3, 12, 9), [Conv(3, 11, (5, 3), (2, 3), (2, 1)), nn.ReLU()]),
    "stride 4, rows left over": ((2, 6, 14, 11), [Conv(6, 5, 3, 4, 1)]),
    "kernel below stride": ((2, 9, 10, 13), [Conv(9, 9, (1, 2), (3, 4))]),
    "kernel 11": ((1, 3, 23, 15), [Conv(3, 7, 11, 4, 2, bias=False)]),
    "kernel 11, many channels": ((1, 18, 12, 11), [Conv(18, 3, 11, padding=4)]),
    "kernel 1 x 7": ((2, 4, 5, 9), [Conv(4, 6, (1, 7), padding="same"), nn.ReLU()]),
    "gray": ((3, 1, 8, 8), [Conv(1, 16, 3, padding=1), nn.ReLU(), Max(2)]),
    "one pixel": ((4, 21, 1, 1), [Conv(21, 10, 1), nn.ReLU(), Conv(10, 30, 1)]),
    "kernel larger than map": ((2, 3, 2, 3), [Conv(3, 4, 5, padding=2)]),
    "linear": ((9, 37), [Linear(37, 10), nn.ReLU(), Linear(10, 19, bias=False)]),
    "flatten first": ((3, 3, 5, 4), [nn.Flatten(), Linear(60, 7)]),
    "overlapping pool": ((2, 5, 13, 10), [Conv(5, 9, 3, padding=1), nn.ReLU(), Max(3, 2, 1)]),
    "pool leaves rows": ((2, 5, 11, 14), [Conv(5, 9, 3), Max((2, 3), (3, 4)), nn.ReLU()]),
    "3x3 pool": ((2, 5, 13, 14), [Conv(5, 9, 3, padding=1), nn.ReLU(), Max(3)]),
    "pool after strides": ((2, 3, 25, 22), [Conv(3, 10, (5, 4), (2, 3), 2), Max(2), nn.ReLU(),
                                            Conv(10, 4, 2)]),
    "pool with gaps after kernel 7": ((1, 4, 17, 15), [Conv(4, 5, 7, padding=3), nn.ReLU(),
                                                       Max((3, 2), (3, 4)), Conv(5, 12, 3)]),
    "pool of many blocks": ((3, 20, 9, 12), [Conv(20, 35, 3), Max((1, 2), (2, 2)), nn.ReLU(),
                                             Conv(35, 21, 2)]),
    "pool to one pixel": ((3, 5, 6, 8), [Conv(5, 11, 3), Max((4, 5)), nn.Flatten(),
                                         Linear(11, 4)]),
    "pool of one pixel": ((4, 7, 1, 1), [Conv(7, 5, 1), Max(1), nn.ReLU(), Conv(5, 3, 1)]),
    "pool takes one of many": ((2, 3, 9, 8), [Conv(3, 4, 3), Max(1, (2, 3)), nn.ReLU()]),
    "pools at the limit of fusing": ((1, 3, 32, 37), [Conv(3, 6, 3, padding=1),
                                                      Max((11, 2), (15, 2)), Conv(6, 5, 1),
                                                      Max((1, 2), (1, 16))]),
    "pool on input": ((2, 5, 7, 6), [Max(2, 1), nn.ReLU(), Conv(5, 4, 2)]),
    "two pools": ((2, 3, 12, 12), [Conv(3, 8, 3), nn.ReLU(), Max(2), Max(2), nn.Flatten(),
                                   Linear(32, 5)]),
    "averages": ((2, 5, 12, 9), [Avg((3, 2), padding=1), Conv(5, 9, 3), nn.ReLU(), Avg(2, 1),
                                 nn.AdaptiveAvgPool2d(1), nn.Flatten(), Linear(9, 4)]),
    "ReLU on input": ((2, 4, 6, 5), [nn.ReLU(), Conv(4, 9, 3), nn.ReLU()]),
    "LeNet": ((3, 1, 16, 12), [Conv(1, 6, 5, padding=2), nn.ReLU(), Max(2), Conv(6, 16, 3),
                               nn.ReLU(), Max(2), nn.Flatten(), Linear(96, 24), nn.ReLU(),
                               Linear(24, 10)]),
}
CUT = {
    "fused pool": ((2, 3, 9, 11), [Conv(3, 3, 3, padding=1), nn.ReLU(), Max(2), Conv(3, 2, 2)]),
    "fused pool with gaps": ((1, 5, 14, 19), [Conv(5, 3, (2, 3), (1, 2)), Max((2, 3), (5, 4)),
                                              nn.ReLU()]),
}
CASES |= CUT


def compiled(layers, shape, config, seed):
    torch.manual_seed(seed)
    net = nn.Sequential(*layers)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(representable(torch.empty_like(p).uniform_(-1, 1), config.fmt)
                    if p.dim() == 1 else representable(nn.init.kaiming_normal_(p), config.fmt))
    x = representable(torch.randn(shape), config.fmt)
    device = ModelDevice(config, MEMORY, check=True)
    return gradgate.compile(net, (x,), device), x


def check(model, x, config, **options):
    with torch.no_grad():
        shape = (len(x), *model.runtime.network.output_shape)
    found = judge(model, x, representable(torch.randn(shape), config.fmt), **options)
    bad = {name: error for name, error in found.errors.items() if not error <= BOUND[config.fmt]}
    assert not bad, f"{bad}, with {found.flips} flips"
    assert found.gap <= BOUND[config.fmt], "a choice that is not a near-tie differs"
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("config", CONFIGS, ids=config_id)
def test_layers(config, name):
    shape, layers = CASES[name]
    model, x = compiled(layers, shape, config, seed=1)
    found = check(model, x, config)
    assert found.flips <= (0.02 if config.fmt == "bf16" else 0.001) * found.choices


SMALLEST = Config(tm=2, tn=4, beat_bits=32, a_depth=16, b_depth=16, acc_depth=16)
SPLIT = {
    "pool": ((2, 3, 3, 19), [Conv(3, 3, 1), nn.ReLU(), Max((1, 11), (1, 2), (0, 5))]),
    "rows": ((1, 2, 13, 4), [Conv(2, 3, 1), Max((11, 1), 1, (5, 0))]),
    "convolution": ((2, 5, 6, 13), [Conv(5, 3, (3, 11), (2, 3), (1, 4)), nn.ReLU()]),
    "average": ((1, 3, 13, 17), [Avg((12, 9), (1, 3)), Conv(3, 5, 1)]),
    "linear": ((3, 7, 3, 3), [nn.Flatten(), Linear(63, 9), nn.ReLU(), Linear(9, 3)]),
} | CUT


@pytest.mark.parametrize("name", SPLIT)
def test_taps_in_pieces(name):
    """Buffers so small that windows are worked off tap by tap."""
    shape, layers = SPLIT[name]
    model, x = compiled(layers, shape, SMALLEST, seed=2)
    check(model, x, SMALLEST)


@pytest.mark.parametrize("name", CUT)
def test_tiles_cut_pooling_windows(name):
    """The cases do what they are for: loads begin and end within a window, and beyond the map."""
    shape, layers = CUT[name]
    config = Config(tm=2, tn=4, beat_bits=32, a_depth=64, b_depth=64, acc_depth=16)
    model, x = compiled(layers, shape, config, seed=2)
    check(model, x, config)
    plan = model.runtime.plan(len(x), train=True, input_gradient=True)
    count = len(model.runtime.steps)
    program = backward_program(plan.tensors, [(True, True)] * count, [False] * count)
    loads = [f for _, f in program.instructions if f.get("unpool")]
    assert any(f["x1"] for f in loads) and any(f["x0"] for f in loads)
    assert any(f["n0"] * f["u0"] > f["x0"] + f["a1"] for f in loads)
    assert any(f["n1"] > f["hi1"] for f in loads) and any(f["lo1"] for f in loads)


@pytest.mark.parametrize("config", CONFIGS, ids=config_id)
@settings(max_examples=30, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(drawn=networks(), seed=st.integers(0, 1000))
def test_random_networks(config, drawn, seed):
    net, shape = drawn
    model, x = compiled(list(net), shape, config, seed)
    check(model, x, config, cancelling=True)


def test_judge_notices_errors():
    """The comparison fails when a gradient in device memory is off by one part in a thousand."""
    config = CONFIGS[1]
    model, x = compiled([Conv(5, 11, 3)], (2, 5, 7, 9), config, seed=1)
    read = model.runtime.read_gradient
    model.runtime.read_gradient = lambda *a: tuple(v * (1 + 1e-3) for v in read(*a))
    with pytest.raises(AssertionError, match="weight"):
        check(model, x, config)
