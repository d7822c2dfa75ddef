"""docs/area.md is what was synthesised; so is, within bounds, what gradgate.resources estimates."""

import json
from pathlib import Path

import pytest
from gradgate import boards
from gradgate.hw.config import Config
from gradgate.resources import CHIPS, luts, resources

from benchmarks.area_page import document, technology
from tests.made import skip_unless_made_with

ROOT = Path(__file__).parents[1]
RESULT = json.loads((ROOT / "benchmarks/area.json").read_text())
BUILDS = {name: (Config(**found["config"]), found) for name, found in RESULT["builds"].items()}
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
REPORTS = {path.parent.name: json.loads(path.read_text())
           for path in sorted((ROOT / "bitstreams").glob("*/report.json"))}

builds = pytest.mark.parametrize("config, found", BUILDS.values(), ids=BUILDS)


def rows(found):
    return {row["name"]: row for row in found["parts"]}


def test_the_page_is_that_of_the_results():
    assert (ROOT / "docs/area.md").read_text() == document(RESULT), "run: make area ARGS=--table"


@builds
def test_estimates_of_whole_devices(config, found):
    need, made = resources(config, technology(config)), found["whole"]
    assert (need.multipliers, need.blocks) == (made["multipliers"], made["blocks"])
    assert need.luts == pytest.approx(made["luts"], rel=0.05)


@builds
def test_estimates_of_blocks(config, found):
    made = {name: row["count"] * row["luts"] for name, row in rows(found).items()}
    assert luts(config) == pytest.approx(made, rel=0.1)


@builds
def test_blocks_are_all_there_is(config, found):
    total, made = {}, found["whole"]
    for what in ("luts", "ffs", "multipliers", "blocks"):
        total[what] = sum(row["count"] * row[what] for row in found["parts"])
    assert total["luts"] == pytest.approx(made["luts"], rel=0.05)
    # some are alike, or constant, when blocks are joined
    assert 0 <= total["ffs"] / made["ffs"] - 1 <= 0.1
    assert (total["multipliers"], total["blocks"]) == (made["multipliers"], made["blocks"])


@pytest.mark.parametrize("build, board", [("8x16 bf16", "ulx3s-85f"),
                                          ("2x4 bf16, small core", "icebreaker")])
def test_whole_devices_are_what_was_placed(build, board):
    """But for clocks, reset and pins, which bitstreams have besides."""
    config, found = BUILDS[build]
    made, used = found["whole"], REPORTS[board]["used"]
    assert config == boards.board(board).config
    assert (made["multipliers"], made["blocks"]) == (used["DSP"], used["block RAM"])
    assert made["luts"] == pytest.approx(used["LUT"], rel=0.02)


@pytest.mark.parametrize("board", REPORTS)
def test_estimates_of_bitstreams(board):
    """Of the memory blocks of a chip, CHIPS leaves out those that are the device memory."""
    used, available = REPORTS[board]["used"], REPORTS[board]["available"]
    chip = CHIPS[board]
    need = resources(boards.board(board).config, chip.technology)
    memory = available["block RAM"] - chip.blocks
    assert (chip.luts, chip.multipliers) == (available["LUT"], available["DSP"])
    assert (need.multipliers, need.blocks + memory) == (used["DSP"], used["block RAM"])
    assert need.luts == pytest.approx(used["LUT"], rel=0.05)


@pytest.mark.parametrize("build, name", [("2x4 bf16", "rows of the array"),
                                         ("2x4 bf16", "tile buffer A"),
                                         ("2x4 bf16, small core", "memory")])
def test_a_block_anew(build, name, tmp_path):
    skip_unless_made_with(RESULT["versions"])
    from benchmarks.area_blocks import parts
    from benchmarks.area_synthesis import measure

    config, found = BUILDS[build]
    block = next(block for block in parts(config) if block.name == name)
    made = measure(block, technology(config), tmp_path)
    assert made.items() <= rows(found)[name].items(), "run: make area"
