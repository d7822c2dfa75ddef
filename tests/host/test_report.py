"""The page of benchmark results: what it shows, and what it does when something is missing."""

import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from gradgate import board, charts
from gradgate.bench import ceilings, result
from gradgate.boards import Board, MemoryTiming
from gradgate.cli import main
from gradgate.graph import trace
from gradgate.nets import net
from gradgate.trace import Run
from torch import empty

from tests.host.synthetic import program_of, random_records

VOID = {"meta", "link", "br", "img", "hr", "input"}
PASSES = ["conv1 forward", "pool1 forward", "fc forward", "fc dX", "fc dW", "conv1 dW",
          "conv1 update"]
SCALE = 300_000  # makes cycles fit the multiply-accumulates


class Checker(HTMLParser):
    """Every tag is closed in turn; nothing is fetched."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.ids = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        assert tag not in ("script", "link", "iframe", "object")
        for key in ("src", "href", "xlink:href"):
            assert attrs.get(key, "#").startswith(("#", "data:")), attrs
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def example(seed=0, measured=True, forecast=True, name="1x", different=None, **more):
    """A result as `gradgate bench` writes it, of programs and records that are made up."""
    rng = np.random.default_rng(seed)
    module, shape = net("1x")
    step = SimpleNamespace(
        network=trace(module, empty(1, *shape)), batch=3, momentum=0.0)
    programs, sides = [], ([], [])
    for labels in (PASSES[:3], PASSES[3:]):
        programs.append(program_of(*[
            (unit, tuple(label.split())) for label in labels for _ in range(4)
            for unit in ("LOAD_A", "LOAD_B", "COMPUTE", "POST")
            if unit == "POST" or not label.endswith("update")]))
        for side in sides:
            records, cycles = random_records(rng, programs[-1])
            for own in records.values():
                for column in own.dtype.names:
                    own[column] *= SCALE
            side.append(Run(programs[-1], records, cycles * SCALE))
    found = result(name, board("tiny"), step, measured and sides[0], forecast and sides[1],
                   programs)
    return found | {"command": "gradgate bench 1x", "different": different, "seed": 0,
                    "rtl_seconds": 1.5} | more


def report(tmp_path, *results):
    """(exit status, text of the page) for results, written to files before."""
    paths = []
    for i, one in enumerate(results):
        paths.append(tmp_path / f"{i}.json")
        paths[-1].write_text(json.dumps(one))
    status = main(["report", *map(str, paths), "--out", str(tmp_path / "out" / "page.html")])
    return status, (tmp_path / "out" / "page.html").read_text()


def test_the_rows_of_a_result():
    found = example()
    rows, total = found["passes"], found["total"]
    assert [f"{r['layer']} {r['pass']}" for r in rows] == PASSES
    for key in ("macs", "rtl_cycles", "predicted_cycles", "bytes"):
        assert total[key] == sum(r[key] for r in rows) > 0
    assert total["utilisation"] == total["macs"] / (total["rtl_cycles"] * 2 * 4)
    assert total["error"] == total["predicted_cycles"] / total["rtl_cycles"] - 1
    assert total["seconds"] == total["rtl_cycles"] / 50e6
    first = rows[0]
    assert first["macs"] == 3 * 442368 and first["bytes"] == 4 * (30 + 14 + 36) * 4 + 16 * 64
    assert first["utilisation"] == first["macs"] / (first["rtl_cycles"] * 8)
    assert first["error"] == first["predicted_cycles"] / first["rtl_cycles"] - 1
    assert set(first["units"]) == {"LOAD_A", "LOAD_B", "COMPUTE", "POST"}
    assert set(first["units"]["POST"]) == {"instructions", "busy", "active", "starved", "blocked"}
    assert not found["extrapolated"]
    # the timeline's passes are the rows
    assert set(found["timeline"]["POST"]["pass"]) == set(range(len(rows)))


def test_a_result_that_is_only_predicted():
    found = example(measured=None)
    assert found["extrapolated"] and found["total"]["rtl_cycles"] is None
    assert found["total"]["error"] is None and found["passes"][0]["rtl_cycles"] is None
    row, total = found["passes"][0], found["total"]
    assert row["utilisation"] == row["macs"] / (row["predicted_cycles"] * 8)
    assert total["utilisation"] == total["macs"] / (total["predicted_cycles"] * 8)


@pytest.mark.parametrize("shared, channels", [(True, 1), (False, 5)])
def test_ceilings(shared, channels):
    own = Board(name="own", description="", config=board("zcu102").config, memory_size=1 << 20,
                clock_hz=5e6, timing=MemoryTiming(beat_cycles=4, shared=shared, refresh_cycles=10,
                                                  refresh_interval=100))
    found = ceilings(own)
    assert found == {"macs_per_s": 256 * 5e6, "memory_channels": channels,
                     "memory_bytes_per_s": pytest.approx(5e6 * 16 / 4 * 0.9 * channels)}


def test_the_page_is_whole_and_stands_alone(tmp_path):
    odd = example(1, name="<b>&", different=["conv1.weight"])
    status, text = report(tmp_path, example(), example(2, measured=None), odd)
    assert status == 0
    page = Checker(text)
    assert len(page.ids) == len(set(page.ids))
    words = " ".join(page.text)
    assert "<b>&, batch 3, on tiny" in words
    assert "Not the bits of the reference model: conv1.weight" in words
    assert "Not run: cycles are predicted" in words
    # three pictures for what was only predicted, four for the others, each with its sentence
    assert text.count("<svg") == text.count("How to read it:") == 11
    for row in example()["passes"]:
        assert f"{row['rtl_cycles']:,}" in words and f"{row['macs']:,}" in words
    # what pictures point to is in the page
    targets = set(re.findall(r'(?:xlink:href="|url\()#([^")]+)', text))
    assert targets and targets <= set(page.ids)


@pytest.mark.parametrize("draw, words", [
    (charts.utilisation, ["conv1", "fc", "forward", "dX", "dW", "whole step"]),
    (charts.roofline, ["array: 0.4 GMAC/s", "memory:", "GB/s", "whole step"]),
    (charts.timeline, ["LOAD_A", "LOAD_B", "COMPUTE", "POST", "cycles", "milliseconds", "update"]),
    (charts.prediction, ["conv1 dW", "measured cycles", "predicted cycles", "within 1 %"]),
])
def test_pictures(draw, words):
    svg = draw(example())
    text = " ".join(ElementTree.fromstring(svg).itertext())
    for word in words:
        assert word in text
    assert draw(example()) == svg  # the same result gives the same page


def test_pictures_without_their_numbers_are_left_out(tmp_path):
    bare = example(measured=None, forecast=None)
    assert bare["timeline"] is None and bare["total"]["seconds"] is None
    for draw in (charts.utilisation, charts.roofline, charts.timeline, charts.prediction):
        assert draw(bare) is None
    status, text = report(tmp_path, bare)
    assert status == 0 and "<svg" not in Checker(text).text and "<figure" not in text


@pytest.mark.parametrize("text, message", [
    ("{", "is not JSON"),
    ("[1]", "is no result of `gradgate bench --json`: it has no batch, board"),
    ('{"net": "1x", "board": "tiny"}', "it has no batch, ceilings, clock_hz, command, commit"),
])
def test_other_files_are_refused(text, message, tmp_path, capsys):
    path = tmp_path / "other.json"
    path.write_text(text)
    assert main(["report", str(path)]) == 1
    error = capsys.readouterr().err
    assert str(path) in error and message in error
    assert not path.with_suffix(".html").exists()


def test_the_page_goes_beside_the_result(tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps(example()))
    assert main(["report", str(tmp_path / "a.json")]) == 0
    assert (tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")
    assert main(["report", str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err
