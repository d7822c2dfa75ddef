"""What a bitstream is made from: only that its parts are what they must be."""

import pytest
from amaranth.hdl import Module
from gradgate.hw.boards.design import Design

boards = pytest.importorskip("amaranth_boards.icebreaker")


def test_parts():
    platform, top = boards.ICEBreakerPlatform(), Module()
    design = Design(platform=platform, top=top, target_hz=1e6)
    assert design.files == {} and design.options == {}
    with pytest.raises(TypeError, match="^platform must be of type Platform, not 7$"):
        Design(platform=7, top=top, target_hz=1e6)
    with pytest.raises(TypeError, match="^top must be of type Elaboratable, not 7$"):
        Design(platform=platform, top=7, target_hz=1e6)
