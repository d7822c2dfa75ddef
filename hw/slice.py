"""Registers between an initiator and the arbiter of its burst port.

Control registers are reset.
"""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.port import Command, ReadPort, WritePort
from gradgate.hw.stage import Skid

__all__ = ["ReadSlice", "WriteSlice"]


def _register(m, name, source, sink, shape):
    m.submodules[name] = skid = Skid(shape)
    wiring.connect(m, source, skid.i)
    wiring.connect(m, skid.o, sink)


class ReadSlice(wiring.Component):
    """A port for reading, a cycle later in each direction; a command and a beat per cycle.

    Arbiters pass `ready` on in the cycle in which it comes; one behind another are a path too long
    for a clock of 80 MHz. No multipliers, no RAM.

    Parameters
    ----------
    beat_bits : int

    Members
    -------
    i : In(ReadPort(beat_bits))
    o : Out(ReadPort(beat_bits))
    """

    def __init__(self, beat_bits):
        self._beat_bits = beat_bits
        super().__init__({"i": In(ReadPort(beat_bits)), "o": Out(ReadPort(beat_bits))})

    def elaborate(self, platform):
        m = Module()
        _register(m, "cmd", wiring.flipped(self.i.cmd), wiring.flipped(self.o.cmd), Command)
        _register(m, "data", wiring.flipped(self.o.data), wiring.flipped(self.i.data),
                  self._beat_bits)
        return m


class WriteSlice(wiring.Component):
    """A port for writing, a cycle later; a command and a beat per cycle.

    A beat may be offered before its command has been taken, which an arbiter does not mind.
    Acknowledgements pass at once. No multipliers, no RAM.

    Parameters
    ----------
    beat_bits : int

    Members
    -------
    i : In(WritePort(beat_bits))
    o : Out(WritePort(beat_bits))
    """

    def __init__(self, beat_bits):
        self._beat_bits = beat_bits
        super().__init__({"i": In(WritePort(beat_bits)), "o": Out(WritePort(beat_bits))})

    def elaborate(self, platform):
        m = Module()
        _register(m, "cmd", wiring.flipped(self.i.cmd), wiring.flipped(self.o.cmd), Command)
        _register(m, "data", wiring.flipped(self.i.data), wiring.flipped(self.o.data),
                  self._beat_bits)
        m.d.comb += self.i.ack.eq(self.o.ack)
        return m
