# amaranth: UnusedElaboratable=no
"""Clock and top level of the iCE40UP5K."""

import re

import pytest
from amaranth.hdl import Fragment, IOPort
from gradgate.boards import board, module
from gradgate.hw.ice40 import PLL, dividers


@pytest.mark.parametrize("input_hz, output_hz", [(12e6, 18e6), (12e6, 24e6), (48e6, 20e6)])
def test_dividers(input_hz, output_hz):
    d = dividers(input_hz, output_hz)
    oscillator = input_hz / d.input * d.feedback
    assert oscillator == output_hz * 2**d.output
    assert 533e6 <= oscillator <= 1066e6 and input_hz / d.input >= 10e6
    assert 1 <= d.input <= 16 and 1 <= d.feedback <= 128 and 1 <= d.output <= 6


def test_instance():
    """As icepll has it for 12 to 18 MHz."""
    pll = Fragment.get(PLL(IOPort(1, name="pad"), 12e6, 18e6), None).subfragments[0][0]
    names = ("DIVR", "DIVF", "DIVQ", "FILTER_RANGE")
    assert [pll.parameters[name].value for name in names] == [0, 47, 5, 1]


@pytest.mark.parametrize("output_hz, text", [(17e6, "17"), (12e6, "12"), (300e6, "300")])
def test_what_no_pll_can_do(output_hz, text):
    with pytest.raises(ValueError, match=f"^no PLL makes {text} MHz of 12 MHz$"):
        PLL(IOPort(1, name="pad"), 12e6, output_hz)


def test_design():
    """Pins, primitives, and a divisor that makes 3 Mbaud."""
    pytest.importorskip("amaranth_boards.icebreaker")
    design = module("icebreaker").design()
    plan = design.platform.prepare(design.top, "top", emit_src=False, **design.options)
    text = plan.files["top.il"]
    for cell, count in (("SB_MAC16", 8), ("SB_SPRAM256KA", 4), ("SB_PLL40_PAD", 1)):
        assert len(re.findall(rf"^  cell \\{cell} ", text, re.M)) == count
    pins = dict(re.findall(r"^set_io (\S+) (\d+)$", plan.files["top.pcf"], re.M))
    assert pins == {"clk12_0__io": "35", "uart_0__rx__io": "6", "uart_0__tx__io": "9",
                    "led_g_0__io": "37", "led_r_0__io": "11"}
    assert design.top.divisor * 3_000_000 == design.target_hz == board("icebreaker").clock_hz
