"""`gradgate bench`: bits compared, cycles reported, with a device whose clock is made up."""

import json
import subprocess
import sys
import types

import gradgate
import pytest
import torch
from gradgate import bench
from gradgate.cli import main
from gradgate.sim.model import ModelDevice
from torch import nn

from tests.host.synthetic import Clocked, forecast


@pytest.fixture
def rtl(monkeypatch):
    """`rtl` devices are Clocked ones; returns the options of the devices that were made."""
    real, made = gradgate.device, []

    def device(name, board, **options):
        made.append((name, options))
        if name != "rtl":
            return real(name, board=board, **options)
        return Clocked(board.config, board.memory_size, board.timing, **options)

    monkeypatch.setattr(gradgate, "device", device)
    return made


@pytest.fixture(autouse=True)
def timeline(monkeypatch):
    forecast(monkeypatch, late=5)


@pytest.fixture
def net(monkeypatch):
    """Name of a small network: odd, not square, two layers with weights and a pooling."""
    own = types.ModuleType("own")
    own.small = lambda: (nn.Sequential(
        nn.Conv2d(2, 3, (3, 2), padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(3 * 2 * 4, 5)), (2, 5, 7))
    monkeypatch.setitem(sys.modules, "own", own)
    return "own:small"


MACS = {"0": 3 * 5 * 8 * 2 * 6, "4": 24 * 5}


def run(tmp_path, *argv):
    out = tmp_path / "bench.json"
    status = main(["bench", *argv, "--board", "tiny", "--json", str(out)])
    return status, json.loads(out.read_text()) if out.exists() else None


def test_a_step_that_has_the_bits_of_the_model(net, rtl, tmp_path, capsys):
    trace = tmp_path / "trace.json"
    status, found = run(tmp_path, net, "--batch", "3", "--momentum", "0.5", "--trace", str(trace))
    assert status == 0 and found["different"] == [] and found["extrapolated"] is False
    assert (found["net"], found["board"], found["batch"]) == (net, "tiny", 3)
    assert found["command"] == f"gradgate bench {net} --board tiny --batch 3 --momentum 0.5"
    assert [name for name, _ in rtl] == ["model", "rtl"] and list(rtl[1][1]) == ["progress"]

    rows = found["passes"]
    macs = {(layer, kind): 3 * n for layer, n in MACS.items()
            for kind in ("forward", "dX", "dW") if (layer, kind) != ("0", "dX")}
    assert {(r["layer"], r["pass"]): r["macs"] for r in rows if r["macs"]} == macs
    assert found["total"]["macs"] == sum(macs.values())
    for key in ("rtl_cycles", "predicted_cycles", "bytes"):
        assert found["total"][key] == sum(r[key] for r in rows)
    # both programs end with their last instruction; the forecast is five cycles late in each
    assert found["total"]["predicted_cycles"] == found["total"]["rtl_cycles"] + 10
    assert all(r["units"]["POST"]["starved"] == 7 * r["units"]["POST"]["instructions"]
               for r in rows)
    events = json.loads(trace.read_text())["traceEvents"]
    names = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    assert names == ["measured (rtl)", "predicted"]
    count = sum(r["instructions"] for r in rows)
    assert sum(e["ph"] == "X" for e in events) == 2 * count
    assert "equal the model's bit for bit" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "bench.json")]) == 0


def test_one_wrong_bit_fails(net, rtl, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Clocked, "wrong", 1)
    status, found = run(tmp_path, net, "--batch", "2")
    assert status == 1
    assert set(found["different"]) >= {"output", "0.weight", "4.weight"}
    out = " ".join(capsys.readouterr().out.split())
    assert "not the bits of the model: output, 0.weight" in out


def test_without_rtl_nothing_runs(net, rtl, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ModelDevice, "run", None)
    status, found = run(tmp_path, net, "--batch", "5", "--no-rtl")
    assert status == 0 and found["extrapolated"] is True and found["different"] is None
    assert [name for name, _ in rtl] == ["model"]
    total = found["total"]
    assert total["rtl_cycles"] is None and all(r["rtl_cycles"] is None for r in found["passes"])
    assert total["utilisation"] == total["macs"] / (total["predicted_cycles"] * 2 * 4)
    assert total["seconds"] == total["predicted_cycles"] / 50e6
    assert "nothing was compared" in capsys.readouterr().out


def test_momentum_is_in_the_predicted_program(net, rtl, tmp_path):
    _, without = run(tmp_path, net, "--batch", "2", "--no-rtl")
    _, with_it = run(tmp_path, net, "--batch", "2", "--no-rtl", "--momentum", "0.9")
    _, measured = run(tmp_path, net, "--batch", "2", "--momentum", "0.9")
    assert with_it["total"]["bytes"] > without["total"]["bytes"]
    assert with_it["total"]["bytes"] == measured["total"]["bytes"]


def test_seed_and_batch_decide(net, rtl):
    def values(seed, momentum=0.0):
        torch.manual_seed(seed)
        module, shape = gradgate.nets.net(net)
        with gradgate.device("model", board="tiny") as device:
            step = bench.Step(module, shape, device, 2, momentum, seed)
            step.run()
            return step.values()

    first = values(0)
    assert first == values(0) and first["output"] != values(1)["output"]
    assert list(first) == ["output", "0.weight", "0.bias", "4.weight", "4.bias"]
    with_momentum = values(0, 0.5)
    assert list(with_momentum)[5:] == [f"momentum of {name}" for name in list(first)[1:]]
    assert with_momentum["0.weight"] == first["0.weight"]  # of the first step


@pytest.mark.parametrize("argv, message", [
    (["digits", "--batch", "0"], "--batch must be at least 1, not 0"),
    (["digits", "--momentum", "-1"], "--momentum must be at least 0, not -1.0"),
    (["digits", "--momentum", "nan"], "--momentum must be at least 0, not nan"),
    (["lenet"], "no network 'lenet'; there are digits, digits-small, 1x"),
    (["vgg16", "--no-rtl"], "are needed, the device has 4.00 MiB"),
])
def test_bad_use_names_the_culprit(argv, message, tmp_path, capsys):
    assert run(tmp_path, *argv) == (1, None)
    assert message in capsys.readouterr().err


def test_commit_of_the_checkout(monkeypatch, tmp_path):
    def git(*argv):
        name = ["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", "-C", tmp_path, *name, *argv], check=True,
                              capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr(bench, "__file__", str(tmp_path / "bench.py"))
    (tmp_path / "bench.py").write_text("")
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    assert bench.commit() == "unknown"  # a checkout, but not of this file
    git("add", "bench.py")
    git("commit", "-q", "-m", "second")
    assert bench.commit() == git("rev-parse", "--short", "HEAD")
    (tmp_path / "bench.py").write_text("changed")
    assert bench.commit() == git("rev-parse", "--short", "HEAD") + "-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench.commit() == "unknown"
