"""Multipliers and memory blocks counted by hand; what does not fit is named."""

import json
from pathlib import Path

import pytest
from gradgate.boards import board
from gradgate.hw.config import Config
from gradgate.resources import (
    CHIPS,
    TECHNOLOGIES,
    Memory,
    luts,
    memories,
    multipliers,
    resources,
    shortages,
)


def test_multipliers():
    # 128 products of bf16; three fp32 products in each of two vector lanes, four multipliers each
    assert multipliers(Config(tm=8, tn=16, fmt="bf16", beat_bits=64)) == 128 + 2 * 3 * 4
    assert multipliers(Config(tm=8, tn=8, fmt="fp32", beat_bits=128)) == 64 * 4 + 4 * 3 * 4


def test_small_core():
    """Four lanes and a product of 24 bits; tiles, microcode and registers, the link's two."""
    config = board("icebreaker").config
    assert multipliers(config) == 4 + 4
    need = resources(config, "ice40")
    assert need.tile_blocks == 4 * 2 + 4 and need.blocks == need.tile_blocks + 4 + 10 + 2
    assert not shortages(need, CHIPS["icebreaker"])


@pytest.mark.parametrize("bits, words, technology, blocks", [
    (32, 512, "ecp5", 1), (32, 513, "ecp5", 2), (64, 512, "ecp5", 2), (16, 1024, "ecp5", 1),
    (16, 2048, "ecp5", 2), (32, 32, "ecp5", 0), (16, 256, "ice40", 1), (32, 256, "ice40", 2)])
def test_blocks_of_a_memory(bits, words, technology, blocks):
    assert Memory("", bits, words, 1).blocks(TECHNOLOGIES[technology]) == blocks
    assert Memory("", bits, words, 5).blocks(TECHNOLOGIES[technology]) == 5 * blocks


def test_tables_of_an_ecp5_are_logic():
    rom = Memory("", 8, 256, 1, rom=True)
    assert [rom.blocks(TECHNOLOGIES[name]) for name in ("ecp5", "ice40")] == [0, 1]


def test_luts_are_of_the_whole_device():
    """Of the small core in cells of its own chip, as its bitstream has them."""
    small = board("icebreaker").config
    report = Path(__file__).parents[2] / "bitstreams/icebreaker/report.json"
    cells = json.loads(report.read_text())["used"]["LUT"]
    assert resources(small, "ice40").luts == pytest.approx(cells, rel=0.02)
    for config in (small, board("ulx3s-85f").config):
        assert {"link", "memory", "UART, arbiters"} < luts(config).keys()


def test_tile_memory_of_zcu102_is_within_that_of_ef_train():
    config = board("zcu102").config
    need = resources(config, "ultrascale")
    # 36 kbit: banks of 8192 and 16384 words, two regions of 16 x 4096 words, all of 32 bits
    by_hand = 16 * 8 * 32 / 36 + 16 * 16 * 32 / 36 + 2 * 16 * 4 * 32 / 36
    assert by_hand <= need.tile_blocks <= 672
    assert need.tile_blocks < need.blocks
    assert not shortages(need, CHIPS["zcu102"])


def test_more_of_everything_needs_more():
    small, large = Config(tm=4, tn=8, beat_bits=64), Config(tm=8, tn=16, beat_bits=64)
    a, b = resources(small), resources(large)
    assert a.multipliers < b.multipliers and a.luts < b.luts and a.tile_blocks < b.tile_blocks
    assert sum(m.count for m in memories(small)) < sum(m.count for m in memories(large))


def test_what_is_short_is_named():
    need = resources(board("zcu102").config, "ecp5")
    found = " ".join(shortages(need, CHIPS["ulx3s-85f"]))
    assert "multipliers, there are 156" in found and "LUTs" in found
    assert not shortages(resources(board("ulx3s-85f").config), CHIPS["ulx3s-85f"])
