"""The command line: results as JSON, resuming, and errors that say what is wrong."""

import json

import gradgate
import pytest
import torch
from gradgate.cli import main


def run(tmp_path, *argv):
    """Run a command with --json; returns (exit status, the object it wrote)."""
    out = tmp_path / "result.json"
    status = main([*argv, "--json", str(out)])
    return status, json.loads(out.read_text()) if out.exists() else None


@pytest.mark.parametrize("command", [[], ["train"], ["plan"], ["selftest"]], ids=str)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("--device", "--board", "--json") if command else ("train", "plan", "selftest"):
        assert option in text


@pytest.mark.timeout(300)
def test_train_writes_result_checkpoint_and_picture(tmp_path):
    status, result = run(tmp_path, "train", "--device", "model", "--epochs", "1", "--quiet",
                         "--out", str(tmp_path / "run"))
    assert status == 0
    assert result["backend"] == "model" and result["parameters"] == 12010
    # one epoch of this network learns most digits; guessing gets a tenth
    assert 0.8 < result["test_accuracy"] <= 1
    # forward and dW of both convolutions and the linear layer, dX of all but the first
    forward = 8 * 8 * 16 * 9 + 4 * 4 * 64 * 16 * 9 + 256 * 10
    assert result["train_macs"] == 1437 * (3 * forward - 8 * 8 * 16 * 9)
    assert result["cycles"] is None and result["wall_s"] > 0
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert len(state["losses"]) == 30 and state["epoch"] == 1


@pytest.mark.timeout(300)
def test_a_resumed_run_gives_the_same_bits(tmp_path, monkeypatch):
    def train(out, *more):
        return main(["train", "--device", "model", "--epochs", "2", "--batch", "479", "--quiet",
                     "--out", str(tmp_path / out), *more])

    assert train("whole") == 0
    # stop the second run after its first epoch
    from gradgate.commands import train as command
    save = command.Run.save

    def save_and_stop(self, path):
        save(self, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(command.Run, "save", save_and_stop)
    assert train("part") == 130
    monkeypatch.setattr(command.Run, "save", save)
    assert train("part", "--resume", str(tmp_path / "part" / "checkpoint.pt")) == 0

    whole, part = (torch.load(tmp_path / d / "checkpoint.pt", weights_only=True)
                   for d in ("whole", "part"))
    assert whole["losses"] == part["losses"]
    for name, value in whole["net"].items():
        assert torch.equal(value, part["net"][name]), name
    assert whole["counters"] == part["counters"]


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path, capsys):
    def train(*more):
        return main(["train", "--device", "model", "--epochs", "1", "--batch", "1437", "--quiet",
                     "--out", str(tmp_path), *more])

    path = tmp_path / "checkpoint.pt"
    assert train() == 0
    assert train("--seed", "1", "--resume", str(path)) == 1
    assert "was made with --seed 0; resume with the same" in capsys.readouterr().err
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(path.read_bytes()[:-1000])
    assert train("--resume", str(damaged)) == 1
    assert "damaged.pt is not a complete checkpoint" in capsys.readouterr().err
    assert train("--resume", str(tmp_path / "none.pt")) == 1
    assert "none.pt" in capsys.readouterr().err


@pytest.mark.parametrize("argv, message", [
    (["train", "--device", "fpga"], "no device 'fpga'; there are 'model' and 'rtl'"),
    (["train", "--device", "model", "--batch", "0"], "--batch must be at least 1, not 0"),
    (["plan", "--batch", "-1"], "--batch must be at least 1, not -1"),
    (["plan", "--board", "tiny", "--batch", "100000"], "are needed, the device has 4.00 MiB"),
])
def test_bad_use_names_the_culprit(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 1
    assert message in capsys.readouterr().err


def test_plan_adds_up(tmp_path):
    status, plan = run(tmp_path, "plan", "--board", "tiny", "--batch", "5")
    assert status == 0
    for key in ("macs", "instructions", "array_cycles", "read_bytes", "write_bytes"):
        assert plan["total"][key] == sum(row[key] for row in plan["passes"])
    assert plan["total"]["macs"] == 5 * (3 * 159232 - 9216)
    # no pass needs fewer cycles than its multiply-accumulates on all multipliers
    assert all(row["macs"] <= row["array_cycles"] * 2 * 4 for row in plan["passes"])


@pytest.mark.parametrize("backend", ["model", "rtl"])
@pytest.mark.timeout(900)
def test_selftest_passes(backend, tmp_path):
    status, result = run(tmp_path, "selftest", "--device", backend, "--board", "tiny")
    assert status == 0 and result["passed"] and len(result["checks"]) == 9


def test_selftest_fails_on_a_wrong_device(tmp_path, monkeypatch):
    from gradgate.sim.model import ModelDevice

    class Faulty(ModelDevice):
        """Forgets the last bit of every word it is asked for, once it has run a program."""

        ran = False

        def run(self, *args, **kwargs):
            self.ran = True
            return super().run(*args, **kwargs)

        def read(self, address, size):
            data = super().read(address, size)
            return bytes(b ^ (self.ran and i % 4 == 0) for i, b in enumerate(data))

    real = gradgate.device
    monkeypatch.setattr(gradgate, "device", lambda name, board: (
        Faulty(gradgate.board(board).config, gradgate.board(board).memory_size)
        if name == "faulty" else real(name, board=board)))
    status, result = run(tmp_path, "selftest", "--device", "faulty", "--board", "tiny")
    assert status == 1 and not result["passed"]
    assert not result["checks"]["forward"]
