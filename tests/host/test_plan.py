"""`gradgate plan` and planning: what they say agrees with the programs that would run."""

import json
from dataclasses import replace

import gradgate
import pytest
import torch
from gradgate import fit, nets, planning
from gradgate.boards import board
from gradgate.cli import main
from gradgate.errors import UnsupportedError
from gradgate.timeline import predict
from torch import nn


def plan(tmp_path, *words):
    out = tmp_path / "plan.json"
    assert main(["plan", *words, "--json", str(out)]) == 0
    return json.loads(out.read_text())


def test_cycles_are_those_of_the_programs(tmp_path):
    found = plan(tmp_path, "lenet10", "--board", "zcu102", "--batch", "3")
    net, shape = nets.net("lenet10")
    with gradgate.device("model", board="zcu102") as device:
        model = gradgate.compile(net, (torch.zeros(1, *shape),), device)
        programs, _ = model.runtime.step_programs(3, False)
        cycles = sum(predict(p, device.config, device.timing).cycles for p in programs)
    assert found["total"]["predicted_cycles"] == cycles
    assert found["total"]["predicted_cycles"] == sum(p["predicted_cycles"] for p in found["passes"])
    macs = 3 * (3 * 4489856 - 884736)
    assert found["total"]["macs"] == macs
    assert found["total"]["utilisation"] == pytest.approx(macs / cycles / 256)


def test_no_pass_undercuts_its_bounds(tmp_path):
    for name, where in (("lenet10", "zcu102"), ("digits", "ulx3s-85f")):
        found = plan(tmp_path, name, "--board", where, "--batch", "5")
        seen = 0
        for one in found["passes"]:
            if one["bounds"] is not None and one["bounds"]["bytes"]:
                assert one["bytes"] >= one["bounds"]["bytes"], one
                seen += 1
        assert seen >= 8
        total = found["total"]
        assert total["predicted_cycles"] >= total["bounds"]["compute_cycles"]


def test_loops_and_memory_are_shown(tmp_path, capsys):
    plan(tmp_path, "digits", "--board", "ulx3s-85f", "--batch", "4", "--loops")
    said = capsys.readouterr().out
    assert all(word in said for word in ("forward", "dW", "on the chip", "in device memory"))


def test_what_does_not_fit_is_an_error(capsys):
    assert main(["plan", "vgg16", "--board", "ulx3s-85f", "--batch", "1"]) == 1
    assert "are needed, the device has 32.00 MiB" in capsys.readouterr().err
    # the tensors fit, but the programs do not
    assert main(["plan", "digits-small", "--board", "icebreaker"]) == 1
    said = capsys.readouterr().err
    assert "backward program" in said and "the device has 128.00 KiB" in said
    assert "take 27.36 KiB with any batch" in said
    assert main(["plan", "1x", "--board", "icebreaker"]) == 1
    assert "a smaller network, or a board with more memory" in capsys.readouterr().err
    assert main(["plan", "digits-small", "--board", "icebreaker", "--batch", "8"]) == 0
    assert main(["plan", "digits", "--memory", "5000"]) == 1
    assert "1 to 4096 MiB" in capsys.readouterr().err


def test_the_best_builds_are_shown(tmp_path, capsys, monkeypatch):
    """The board's own, with a star, among them."""
    own = board("ulx3s-85f").config
    searched = []

    def found(module, shape, profile, batch, momentum, notify):
        notify("8x16", 0, 2)
        searched.append((profile.memory_size >> 20, batch, momentum))
        need = fit.resources(own)
        return [fit.Candidate(replace(own, tm=4), need, 1234, 0.5),
                fit.Candidate(own, need, 5678, 0.25)]

    monkeypatch.setattr("gradgate.commands.plan.fit", found)
    best = plan(tmp_path, "digits", "--batch", "3", "--momentum", "--memory", "7", "--fit")
    assert searched == [(7, 3, True)]
    assert [one["cycles"] for one in best["candidates"]] == [1234, 5678]
    assert best["candidates"][0]["config"]["tm"] == 4
    said = capsys.readouterr().out
    assert "4x16 bf16 " in said and "8x16 bf16*" in said and "1,234" in said


def test_passes_are_asked_for_in_the_order_announced():
    module, shape = nets.net("lenet10")
    told = []
    found = planning.plan(module, shape, board("zcu102"), 2, notify=told.append)
    nested = {(one.time.layer, one.time.kind) for one in found.passes if one.nest is not None}
    announced = planning.scheduled(planning.trace(module, torch.zeros(1, *shape)))
    assert told == [*(f"{layer} {kind}" for layer, kind in announced), "forward", "backward"]
    assert len(announced) == len(nested) and {*announced} == nested


def test_a_layer_that_no_tile_fits_is_named():
    where = board("tiny")
    small = replace(where.config, a_depth=16, b_depth=16, acc_depth=16)
    # a window of the pooling has more pixels than a region has accumulators
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.MaxPool2d(5))
    with pytest.raises(UnsupportedError, match=r"^0 forward: .* needs a build with a larger"):
        planning.plan(module, (4, 11, 11), replace(where, config=small), 1)
