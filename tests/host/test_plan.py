"""`gradgate plan`: what it says agrees with the programs that would run."""

import json

import gradgate
import pytest
import torch
from gradgate import nets
from gradgate.cli import main
from gradgate.timeline import predict


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
    assert main(["plan", "digits", "--memory", "5000"]) == 1
    assert "1 to 4096 MiB" in capsys.readouterr().err
