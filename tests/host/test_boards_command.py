"""`gradgate boards`, `gradgate build`, `gradgate flash`: what they print, write, run and refuse."""

import hashlib
import json
import stat
from dataclasses import replace

import pytest
from gradgate import boards, build
from gradgate.cli import main
from gradgate.commands.build import seeds
from gradgate.errors import GradgateError
from gradgate.resources import CHIPS

REPORT = {
    "board": "ulx3s-85f", "target_mhz": 80.0, "fmax_mhz": 81.25, "seed": 3,
    "seeds": {"1": None, "3": 81.25},
    "used": {"LUT": 66_000, "FF": 35_000, "DSP": 152, "block RAM": 127},
    "available": {"LUT": 83_640, "FF": 83_640, "DSP": 156, "block RAM": 208},
    "bitstream": {"file": "ulx3s-85f.bit", "sha256": hashlib.sha256(b"bits").hexdigest()},
}


@pytest.fixture
def folder(tmp_path):
    """Where there is a bitstream."""
    folder = tmp_path / "ulx3s-85f"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(REPORT))
    (folder / "ulx3s-85f.bit").write_bytes(b"bits")
    return folder


@pytest.fixture
def loader(tmp_path, monkeypatch):
    """An openFPGALoader that writes down what it is given; a file `status` makes it fail."""
    tools = tmp_path / "tools"
    tools.mkdir()
    tool = tools / "openFPGALoader"
    tool.write_text(f'#!/bin/sh\necho "$@" > {tools}/given\nexit $(cat {tools}/status)\n')
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    (tools / "status").write_text("0")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    return tools


def test_boards(folder, tmp_path, capsys):
    assert main(["boards", "--out", str(folder.parent), "--json", str(tmp_path / "a.json")]) == 0
    printed = capsys.readouterr().out
    assert "81.25 MHz" in printed and "97%" in printed
    found = json.loads((tmp_path / "a.json").read_text())
    assert set(found) == set(boards.BOARDS)
    assert found["ulx3s-85f"]["needs"]["luts"] == 66_000
    assert found["tiny"]["bitstream"] == "-" and found["tiny"]["chip"] is None


def test_memory_on_the_chip(folder, tmp_path):
    """A report counts its blocks, so shares are of the whole chip."""
    folder.rename(tmp_path / "ecpix5-85f")
    assert main(["boards", "--out", str(tmp_path), "--json", str(tmp_path / "a.json")]) == 0
    found = json.loads((tmp_path / "a.json").read_text())["ecpix5-85f"]
    assert (found["needs"]["blocks"], found["chip"]["blocks"]) == (127, 208)


def test_boards_without_bitstreams(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["boards"]) == 0
    printed = capsys.readouterr().out
    assert "none in bitstreams" in printed and "does not fit" not in printed


def test_what_does_not_fit_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(CHIPS, "icebreaker", replace(CHIPS["icebreaker"], luts=4000))
    assert main(["boards", "--out", str(tmp_path)]) == 0
    assert "icebreaker does not fit: 4,809 LUTs, there are 4,000" in capsys.readouterr().out


def test_build(tmp_path, monkeypatch, capsys):
    def fake(plan, seeds, folder, out, *, minutes, step, line):
        assert (plan, seeds, minutes) == ("the plan", [1, 3], 9)
        assert (folder, out) == (tmp_path / "w" / "ulx3s-85f", tmp_path / "o" / "ulx3s-85f")
        step("synthesis")
        line("Info: [on its way]")
        return REPORT

    monkeypatch.setattr(build, "plan", lambda name: {"ulx3s-85f": "the plan"}[name])
    monkeypatch.setattr(build, "build", fake)
    assert main(["build", "ulx3s-85f", "--seeds", "1,3", "--out", str(tmp_path / "o"),
                 "--work", str(tmp_path / "w"), "--minutes", "9"]) == 0
    printed = capsys.readouterr().out
    assert "152 of 156" in printed and "81.25 MHz, 80 needed" in printed


@pytest.mark.parametrize("text, wanted", [
    ("7", [7]), ("1-4", [1, 2, 3, 4]), ("1, 5,9", [1, 5, 9]), ("2,1-3", [2, 1, 3])])
def test_seeds(text, wanted):
    assert seeds(text) == wanted


@pytest.mark.parametrize("text", ["", "a", "4-1", "1-", "-1", "1,,2"])
def test_wrong_seeds(text):
    with pytest.raises(GradgateError, match="^--seeds must be like 7 or 1-4 or 1,5,9, not "):
        seeds(text)


@pytest.mark.parametrize("minutes", ["-1", "nan", "inf"])
def test_wrong_minutes(minutes, capsys):
    assert main(["build", "icebreaker", "--minutes", minutes]) != 0
    assert "--minutes must be 0 or more" in capsys.readouterr().err


def test_flash(folder, loader, capsys):
    file = folder / "ulx3s-85f.bit"
    assert main(["flash", "ulx3s-85f", "--out", str(folder.parent)]) == 0
    assert (loader / "given").read_text().split() == ["--board", "ulx3s", str(file)]
    assert main(["flash", "ulx3s-85f", "--keep", "--out", str(folder.parent)]) == 0
    assert (loader / "given").read_text().split() == ["--board", "ulx3s", "--write-flash",
                                                      str(file)]
    (loader / "status").write_text("3")
    assert main(["flash", "ulx3s-85f", "--out", str(folder.parent)]) == 1
    assert "openFPGALoader failed with exit status 3" in capsys.readouterr().err


@pytest.mark.parametrize("change, message", [
    (lambda folder: (folder / "ulx3s-85f.bit").write_bytes(b"bats"), "is not the bitstream that"),
    (lambda folder: (folder / "report.json").unlink(), "make it with: gradgate build ulx3s-85f"),
])
def test_flash_refuses(folder, loader, change, message, capsys):
    change(folder)
    assert main(["flash", "ulx3s-85f", "--out", str(folder.parent)]) == 1
    assert message in capsys.readouterr().err
    assert not (loader / "given").exists()


def test_flash_without_its_tool(folder, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert main(["flash", "ulx3s-85f", "--out", str(folder.parent)]) == 1
    assert "no openFPGALoader: https://" in capsys.readouterr().err
