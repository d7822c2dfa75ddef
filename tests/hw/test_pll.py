# amaranth: UnusedElaboratable=no
"""Dividers of the PLL, checked against the limits of the data sheet."""

import pytest
from amaranth.hdl import Fragment
from gradgate.hw.pll import PLL, dividers


@pytest.mark.parametrize("input_hz, output_hz, degrees", [
    (25e6, 80e6, 63), (50e6, 80e6, 90), (25e6, 60e6, 180), (12e6, 48e6, 0), (100e6, 75e6, 270)])
def test_dividers(input_hz, output_hz, degrees):
    d = dividers(input_hz, output_hz, degrees)
    detector = input_hz / d.input
    oscillator = detector * d.feedback
    assert oscillator == d.output * output_hz
    assert 10e6 <= detector <= 400e6 and 400e6 <= oscillator <= 800e6
    assert 1 <= d.feedback <= 128 and 1 <= d.output <= 128
    assert abs(d.phase_degrees() - degrees) <= 45 / d.output / 2


def test_phases_of_the_instance():
    """14 eighths of a cycle of the oscillator: 1 and 6."""
    pll = Fragment.get(PLL(25e6, 80e6, 63), None).subfragments[0][0]
    names = ("CLKI_DIV", "CLKOP_DIV", "CLKOS_DIV", "CLKOS3_DIV", "CLKFB_DIV", "CLKOP_CPHASE",
             "CLKOP_FPHASE", "CLKOS_CPHASE", "CLKOS_FPHASE")
    assert [pll.parameters[name] for name in names] == [1, 10, 10, 32, 1, 9, 0, 10, 6]


def test_what_no_pll_can_do():
    with pytest.raises(ValueError, match="^no PLL makes 80.1 MHz of 25 MHz$"):
        PLL(25e6, 80.1e6, 0)
