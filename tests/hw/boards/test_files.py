# amaranth: UnusedElaboratable=no
"""The files of boards that bitstreams are built for: profile, pins and clock belong together."""

import pytest
from gradgate import boards, build
from gradgate.hw.ecp5 import ECP5Top, OnChipTop
from gradgate.hw.pll import dividers
from gradgate.hw.spram import SPRAM

pytest.importorskip("amaranth_boards")
pytest.importorskip("litedram")
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

ECP5 = ["ecpix5-85f", "ulx3s-85f"]


def test_which_there_are():
    assert set(ECP5) <= set(build.buildable())
    for name in build.buildable():
        assert boards.module(name).LOADER


@pytest.mark.parametrize("name", ECP5)
def test_top_and_profile(name):
    board = boards.board(name)
    design = boards.module(name).design(b"12345678")
    top, platform = design.top, design.platform
    assert design.target_hz == board.clock_hz == top.identity.clock_hz
    assert isinstance(top, ECP5Top) and top.identity.build == b"12345678"
    assert (top.identity.board, top.identity.config) == (name, board.config)
    assert top.identity.memory_size == board.memory_size
    if isinstance(top, OnChipTop):
        assert board.memory_size == SPRAM.SIZE
    dividers(platform.lookup(platform.default_clk).clock.frequency, board.clock_hz, 63)


def test_ecpix5_has_all_its_blocks():
    """Elaborated; of block RAM for its memory, and no primitive of an iCE40."""
    text = build.plan("ecpix5-85f", bytes(8)).files["top.il"]
    assert "SB_SPRAM256KA" not in text and "EHXPLLL" in text
    assert text.count("cell \\MULT18X18D") == 140
