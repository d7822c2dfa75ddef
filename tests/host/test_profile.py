"""Cycles by layer, pass and unit, from records."""


import gradgate
import numpy as np
import pytest
import torch
from gradgate.boards import board
from gradgate.device import UNITS
from gradgate.graph import trace
from gradgate.hw.config import Config
from gradgate.nets import net
from gradgate.profile import clipped_starts, pass_macs, pass_times
from gradgate.sim.model import ModelDevice
from torch import empty, nn

from tests.host.synthetic import (
    Clocked,
    clocked,
    forecast,
    program_of,
    random_program,
    random_records,
    records_of,
)

CONFIG = Config(tm=2, tn=8, beat_bits=32)
A, B, C = ("conv", "forward"), ("conv", "update"), ("fc", "dW")


def test_a_pass_ends_with_its_last_compute():
    program = program_of(
        ("LOAD_A", A), ("COMPUTE", A), ("COMPUTE", A), ("POST", A), ("POST", B),
        ("LOAD_A", C), ("COMPUTE", C), ("POST", C))
    records = records_of(
        LOAD_A=[(3, 20, 6, 0), (10, 70, 21, 4)],  # the second overlaps the first for ten cycles
        COMPUTE=[(20, 50, 30, 17), (45, 81, 25, 1), (81, 95, 9, 0)],
        POST=[(82, 90, 5, 60), (90, 93, 1, 0), (96, 110, 10, 3)])
    macs = {A: 1000, C: 77}
    passes = pass_times(program, CONFIG, macs, records, 123)

    assert [(p.layer, p.kind) for p in passes] == [A, B, C]
    assert [p.cycles for p in passes] == [81, 0, 42]  # B is hidden, C ends with the program
    assert [p.macs for p in passes] == [1000, 0, 77]
    assert passes[0].utilisation(CONFIG) == 1000 / (81 * 2 * 8)
    assert passes[0].utilisation(board("icebreaker").config) == 1000 / (81 * 4)  # one row of two
    assert passes[1].utilisation(CONFIG) is None
    load, compute = passes[0].units["LOAD_A"], passes[0].units["COMPUTE"]
    assert (load.instructions, load.busy, load.active, load.blocked) == (1, 17, 6, 11)
    assert (compute.instructions, compute.busy, compute.active, compute.starved) == (2, 61, 55, 18)
    assert passes[2].units["LOAD_A"].busy == 50 and passes[2].units["LOAD_A"].starved == 4
    assert passes[1].units["POST"].busy == 3 and passes[1].units["COMPUTE"].instructions == 0
    assert all(p.units["LOAD_B"].busy == 0 for p in passes)


def test_a_compute_that_ends_before_one_of_an_earlier_pass_hides_its_pass():
    program = program_of(("COMPUTE", A), ("COMPUTE", B), ("POST", C), ("COMPUTE", C))
    records = records_of(COMPUTE=[(0, 60, 1, 0), (5, 40, 1, 0), (60, 61, 1, 0)],
                         POST=[(1, 2, 1, 0)])
    assert [p.cycles for p in pass_times(program, CONFIG, {}, records, 64)] == [60, 0, 4]


@pytest.mark.parametrize("seed", range(20))
def test_against_counting_cycle_by_cycle(seed):
    rng = np.random.default_rng(seed)
    program = random_program(rng)
    records, cycles = random_records(rng, program, overlap=1 + seed % 3)
    passes = pass_times(program, CONFIG, {}, records, cycles)
    assert sum(p.cycles for p in passes) == cycles

    by_label = {(p.layer, p.kind): p for p in passes}
    last = dict.fromkeys(by_label, 0)
    for name in UNITS:
        labels = [label for (unit, _), label
                  in zip(program.instructions, program.labels, strict=True) if unit.name == name]
        owner = [None] * cycles  # whose instruction is executing, the earliest counts
        for label, record in reversed(list(zip(labels, records[name], strict=True))):
            owner[int(record["start"]):int(record["done"])] = (
                [label] * int(record["done"] - record["start"]))
            if name == "COMPUTE":
                last[label] = max(last[label], int(record["done"]))
        for label, one in by_label.items():
            own = [r for r, of in zip(records[name], labels, strict=True) if of == label]
            unit = one.units[name]
            assert unit.instructions == len(own)
            assert unit.busy == owner.count(label)
            assert unit.active == sum(int(r["active"]) for r in own)
            assert unit.starved == sum(int(r["starved"]) for r in own)
            assert unit.blocked == max(0, unit.busy - unit.active)

    end = 0
    for label, one in list(by_label.items())[:-1]:
        end, before = max(end, last[label]), end
        assert one.cycles == end - before


def test_clipped_starts_never_overlap():
    own = records_of(POST=[(0, 9, 0, 0), (2, 5, 0, 0), (4, 12, 0, 0), (20, 21, 0, 0)])["POST"]
    assert clipped_starts(own).tolist() == [0, 5, 9, 20]


def test_without_records_there_are_counts_but_no_cycles():
    passes = pass_times(program_of(("LOAD_A", A), ("POST", A), ("COMPUTE", C)), CONFIG, {A: 5})
    assert [(p.cycles, p.units, p.utilisation(CONFIG)) for p in passes] == [(None, {}, None)] * 2
    assert [(p.macs, p.instructions) for p in passes] == [(5, 2), (0, 1)]
    # a load of 30 beats and two instructions in, 36 beats out; then one instruction
    assert [(p.read_bytes, p.write_bytes) for p in passes] == [(30 * 4 + 128, 36 * 4), (64, 0)]
    assert [p.array_cycles for p in passes] == [0, 2 * 3 * 35]


def test_records_of_another_program_are_refused():
    program = program_of(("COMPUTE", A), ("COMPUTE", A))
    with pytest.raises(ValueError, match="1 records of 2 instructions of COMPUTE"):
        pass_times(program, CONFIG, {}, records_of(COMPUTE=[(0, 1, 1, 0)]), 9)


def test_macs_of_a_step_are_what_the_network_defines():
    module, shape = net("lenet10")
    network = trace(module, empty(1, *shape))
    macs = pass_macs(network, 3)
    assert 2 * sum(macs.values()) == 3 * 25169664  # EF-Train's count
    assert macs["conv2", "dX"] == macs["conv2", "dW"] == macs["conv2", "forward"] == 3 * 2359296
    assert ("conv1", "dX") not in macs and "pool1" not in {layer for layer, _ in macs}
    # pooling comes first: the first layer with weights is the one that needs no dX
    pooled = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(20, 7), nn.Linear(7, 3))
    assert pass_macs(trace(pooled, empty(1, 5, 4, 4)), 2) == {
        ("2", "forward"): 280, ("2", "dW"): 280,
        ("3", "forward"): 42, ("3", "dX"): 42, ("3", "dW"): 42}


def trained(device):
    """A model that has done a training step of three images, and one inference."""
    module = nn.Sequential(nn.Conv2d(2, 3, (3, 2)), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 8, 5))
    x = torch.ones(3, 2, 4, 5)
    model = gradgate.compile(module, (x,), device)
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.1)
    model.train_step(x, torch.tensor([0, 4, 1]), optimizer=optimizer)
    with torch.no_grad():
        model(x[:1])
    return model


@pytest.mark.parametrize("kind", ["measured", "predicted"])
def test_profile_of_a_model(kind, monkeypatch):
    forecast(monkeypatch, late=3)
    device = {"measured": Clocked, "predicted": ModelDevice}[kind](CONFIG, 1 << 20)
    profile = trained(device).profile()
    assert profile.measured == (kind == "measured")
    assert list(profile.passes) == ["forward", "backward", "inference"]
    for name, passes in profile.passes.items():
        late = 0 if profile.measured else 3
        _, cycles = clocked(profile[name].instructions, late)
        assert sum(p.cycles for p in passes) == cycles
        for unit in UNITS:
            assert sum(p.units[unit].instructions for p in passes) == (
                profile[name].instructions[unit])
    macs = 3 * 3 * 8 * 2 * 6, 3 * 24 * 5
    assert [(p.layer, p.kind, p.macs) for p in profile.passes["backward"] if p.macs] == [
        ("3", "dX", macs[1]), ("3", "dW", macs[1]), ("0", "dW", macs[0])]
    assert [p.macs for p in profile.passes["inference"]] == [m // 3 for m in macs]
    text = str(profile)
    assert f"last runs by layer and pass, {kind}" in text
    assert [line.split()[:2] for line in text.splitlines()[-2:]] == [["0", "forward"],
                                                                     ["3", "forward"]]


def test_profile_stays_as_it_is(monkeypatch):
    forecast(monkeypatch, late=3)
    device = ModelDevice(CONFIG, 1 << 20)
    model = trained(device)
    profile = model.profile()
    before = profile["inference"].read_bytes
    with torch.no_grad():
        model(torch.ones(5, 2, 4, 5))
    assert profile["inference"].read_bytes == before < model.profile()["inference"].read_bytes
    trained(device)  # another network takes the device
    assert profile.passes["inference"][0].macs == 3 * 8 * 2 * 6
