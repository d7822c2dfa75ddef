# amaranth: UnusedElaboratable=no
"""hw/sdram.py connects all of LiteDRAM's module; tests/sim/test_sdram.py lets it run."""

import re

import pytest
from amaranth.hdl import Fragment, IOPort
from gradgate import dram
from gradgate.boards import board
from gradgate.hw.sdram import CORE, SDRAM

OPEN = {"init_error", "user_clk", "user_rst", "wb_ctrl_dat_r", "wb_ctrl_err"}
WAYS = {"i": "input", "o": "output", "io": "inout"}


@pytest.mark.skipif(not dram.available(),
                    reason="LiteDRAM is not installed: pip install '.[boards]'")
def test_every_pin_of_the_controller():
    profile = board("ulx3s-85f")
    controller = dram.controller(profile.clock_hz)
    ports = {name: (way, int(high or 0) + 1) for way, high, name in re.findall(
        r"^ *(input|output|inout) +wire +(?:\[(\d+):0\])? *(\w+),?$", controller.verilog, re.M)}
    sdram = SDRAM(profile.config, controller.init, IOPort(16, name="dq"))
    design = sdram.elaborate(None)
    Fragment.get(design, None)
    instance = design.submodules.core
    assert instance.type == CORE
    assert f"module {CORE} (" in controller.verilog
    connected = {name: (WAYS[way], len(value)) for name, (value, way) in instance.ports.items()}
    assert connected == {name: port for name, port in ports.items() if name not in OPEN}
