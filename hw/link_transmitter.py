"""Responses to the line: a CRC behind each."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.link_crc import SerialCRC
from gradgate.hw.link_format import CHECK
from gradgate.hw.link_stuffing import Token

__all__ = ["Transmitter"]


class Transmitter(wiring.Component):
    """Appends the CRC to each frame.

    A byte every 9 cycles, and one cycle for the end of a frame. About 95 LUT4.

    Members
    -------
    i : In(stream.Signature(Token))
    o : Out(stream.Signature(Token))
    """

    i: In(stream.Signature(Token))
    o: Out(stream.Signature(Token))

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = SerialCRC()
        end = self.i.payload.end
        sent = Signal(range(CHECK + 1))  # bytes of the CRC
        done = sent == CHECK
        taken = self.o.valid & self.o.ready

        m.d.comb += [
            self.o.valid.eq(self.i.valid & crc.i.ready),
            self.o.payload.end.eq(done),
            self.o.payload.byte.eq(Mux(end, crc.sum, self.i.payload.byte)),
            self.i.ready.eq(taken & (~end | done)),
            crc.i.valid.eq(taken & ~done),
            crc.i.payload.eq(self.o.payload.byte),
            crc.start.eq(taken & done),
        ]
        with m.If(taken & end):
            m.d.sync += sent.eq(sent + 1)
        with m.If(taken & done):
            m.d.sync += sent.eq(0)
        return m
