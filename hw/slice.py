"""Registers between an initiator and the arbiter of its burst port.

Control registers are reset.
"""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from gradgate.hw.port import Command, ReadPort, WritePort

__all__ = ["ReadSlice", "WriteSlice"]


def _queue(m, name, source, sink, width):
    """Two places, so that neither side sees in a cycle what the other one does in it."""
    m.submodules[name] = queue = SyncFIFO(width=width, depth=2)
    m.d.comb += [
        queue.w_data.eq(source.payload), queue.w_en.eq(source.valid), source.ready.eq(queue.w_rdy),
        sink.payload.eq(queue.r_data), sink.valid.eq(queue.r_rdy), queue.r_en.eq(sink.ready),
    ]


class ReadSlice(wiring.Component):
    """A port for reading, a cycle later in each direction; a command and a beat per cycle.

    Arbiters pass `ready` on in the cycle in which it comes; one behind another are a path too long
    for a clock of 80 MHz. No multipliers; RAMs of two entries.

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
        _queue(m, "cmd", self.i.cmd, self.o.cmd, Command.as_shape().size)
        _queue(m, "data", self.o.data, self.i.data, self._beat_bits)
        return m


class WriteSlice(wiring.Component):
    """A port for writing, a cycle later; a command and a beat per cycle.

    A beat may be offered before its command has been taken, which an arbiter does not mind.
    Acknowledgements pass at once. No multipliers; RAMs of two entries.

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
        _queue(m, "cmd", self.i.cmd, self.o.cmd, Command.as_shape().size)
        _queue(m, "data", self.i.data, self.o.data, self._beat_bits)
        m.d.comb += self.i.ack.eq(self.o.ack)
        return m
