"""Committed bitstreams are those of the gateware as it is."""

import hashlib
import json
from pathlib import Path

import pytest
from gradgate import build

from tests.made import skip_unless_made_with

REPORTS = sorted((Path(__file__).parents[1] / "bitstreams").glob("*/report.json"))


def differences(report):
    """Names of the files that a build would begin with and that are not those of the report."""
    there = build.plan(report["board"], bytes.fromhex(report["build"])).hashes()
    return {name for name in there | report["sources"]
            if there.get(name) != report["sources"].get(name)}


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.parent.name)
def test_bitstream_is_up_to_date(path):
    report = json.loads(path.read_text())
    skip_unless_made_with(report["tools"])
    command = f"gradgate build {report['board']} --seeds {report['seed']}"
    assert not differences(report), f"run: {command}"


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.parent.name)
def test_report_is_about_its_bitstream(path):
    report = json.loads(path.read_text())
    made = report["bitstream"]
    assert hashlib.sha256((path.parent / made["file"]).read_bytes()).hexdigest() == made["sha256"]
    assert report["board"] == path.parent.name
    assert report["fmax_mhz"] >= report["target_mhz"]
    assert report["fmax_mhz"] == report["seeds"][str(report["seed"])]
