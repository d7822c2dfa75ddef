"""Clocks of an ECP5."""

from dataclasses import dataclass

from amaranth.hdl import Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Dividers", "PLL", "dividers"]

# data sheet, in Hz
INPUT = (8e6, 400e6)
PHASE_DETECTOR = (10e6, 400e6)
OSCILLATOR = (400e6, 800e6)


@dataclass(frozen=True)
class Dividers:
    """Of the input, of the feedback, of both outputs, and what phase one unit of `phase` is: an
    eighth of a cycle of the oscillator."""

    input: int
    feedback: int
    output: int
    phase: int

    def phase_degrees(self):
        """The phase that the second output has."""
        return self.phase * 45 / self.output


def dividers(input_hz, output_hz, degrees):
    """Those that give exactly `output_hz`, with the fastest oscillator: it has the finest phases.

    Raises ValueError if the PLL cannot do that.
    """
    best = None
    for divider in range(1, 129):
        detector = input_hz / divider
        if not (INPUT[0] <= input_hz <= INPUT[1]
                and PHASE_DETECTOR[0] <= detector <= PHASE_DETECTOR[1]):
            continue
        for output in range(1, 129):
            oscillator = output * output_hz
            feedback, rest = divmod(oscillator, detector)
            if (OSCILLATOR[0] <= oscillator <= OSCILLATOR[1] and not rest and feedback <= 128
                    and (best is None or (oscillator, detector) > best[0])):
                phase = round(degrees * output / 45)
                best = (oscillator, detector), Dividers(divider, int(feedback), output, phase)
    if best is None:
        raise ValueError(f"no PLL makes {output_hz / 1e6:g} MHz of {input_hz / 1e6:g} MHz")
    return best[1]


class PLL(wiring.Component):
    """Two clocks of the same frequency, the second one later.

    An EHXPLLL whose feedback stays inside: the phase to the input is of no interest.

    Parameters
    ----------
    input_hz, output_hz : float
    degrees : float
        By which `later` is later than `clock`, 0..360; rounded to what the PLL can do, see
        `dividers`.

    Members
    -------
    i : In(1)
        Clock of `input_hz`.
    clock, later : Out(1)
        Clocks of `output_hz`.
    locked : Out(1)
        Both are what they should be; not synchronised.

    Raises
    ------
    ValueError
        The PLL cannot do that.
    """

    i: In(1)
    clock: Out(1)
    later: Out(1)
    locked: Out(1)

    def __init__(self, input_hz, output_hz, degrees):
        self.dividers = dividers(input_hz, output_hz, degrees)
        self._input_hz, self._output_hz = input_hz, output_hz
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        d = self.dividers
        unused = Signal()
        m.submodules.pll = Instance(
            "EHXPLLL",
            # the loop filter, as LiteX has it with this way of feedback
            a_ICP_CURRENT="6", a_LPF_RESISTOR="16", a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            a_FREQUENCY_PIN_CLKI=f"{self._input_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{self._output_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOS=f"{self._output_hz / 1e6:g}",
            p_CLKI_DIV=d.input, p_CLKFB_DIV=1, p_FEEDBK_PATH="INT_OS3",
            **self._output("OP", d.output, 0), **self._output("OS", d.output, d.phase),
            **self._output("OS3", d.feedback, 0),
            i_CLKI=self.i, i_STDBY=Const(0), i_RST=Const(0),
            o_CLKOP=self.clock, o_CLKOS=self.later, o_CLKOS3=unused, o_LOCK=self.locked)
        return m

    @staticmethod
    def _output(name, divider, phase):
        # a phase of 0 is one whole cycle of the output
        return {f"p_CLK{name}_ENABLE": "ENABLED", f"p_CLK{name}_DIV": divider,
                f"p_CLK{name}_CPHASE": divider - 1 + phase // 8, f"p_CLK{name}_FPHASE": phase % 8}
