# amaranth: UnusedElaboratable=no
"""What a small core is made for."""

import re

import pytest
from gradgate.hw.config import Config
from gradgate.hw.micro.core import MicroCore
from gradgate.hw.top import verilog

MICRO = {"tm": 2, "tn": 4, "beat_bits": 32, "core": "micro"}


def test_top_level():
    """The ports of AXITop, with one memory port."""
    text = verilog(Config(**MICRO))
    assert "m_axi_arvalid" in text and "m_axi1_arvalid" not in text
    top = text[text.index("module AXITop("):]
    for name in ("irq", "s_axil_awvalid", "unit_start"):
        assert re.search(rf"\b{name}\b", top)


@pytest.mark.parametrize("config, error, message", [
    (3, TypeError, "config must be a Config, not 3"),
    (Config(), ValueError, "core must be 'micro', not 'units'")])
def test_parameters_are_checked(config, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        MicroCore(config)


@pytest.mark.parametrize("changed, message", [
    ({"core": "tiny"}, r"core must be one of \['micro', 'units'\], not 'tiny'"),
    ({"tn": 8}, "tn must be 4 for core 'micro', not 8"),
    ({"read_ports": 3}, "read_ports must be 1 for core 'micro', not 3")])
def test_configurations_are_checked(changed, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Config(**MICRO | changed)
