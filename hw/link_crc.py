"""CRC-32 of a frame, one bit a cycle: a fraction of the logic of one byte a cycle."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import crc, stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out

__all__ = ["SerialCRC"]


class SerialCRC(wiring.Component):
    """CRC-32/JAMCRC of the bytes taken since `start`: the complement of what zlib computes.

    A byte every 9 cycles; `sum` and `match` hold when `i` is ready again. About 75 LUT4.

    Members
    -------
    start : In(1)
        Begin a new frame. Only while `i` is ready, and without a byte in the same cycle.
    i : In(stream.Signature(8))
    sum : Out(8)
        The byte to append to the frame. When it is taken as well, the next one takes its place, the
        low one of the CRC first.
    match : Out(1)
        The last four bytes were the CRC of those before.
    """

    start: In(1)
    i: In(stream.Signature(8))
    sum: Out(8)
    match: Out(1)

    def elaborate(self, platform):
        m = Module()
        processor = crc.Processor(catalog.CRC32_JAMCRC(data_width=1))
        m.submodules.processor = ResetInserter(self.start)(processor)
        bits = Signal(8, reset_less=True)
        left = Signal(4)  # bits still to be added

        m.d.comb += [
            self.i.ready.eq(left == 0),
            processor.data.eq(bits[0]),
            processor.valid.eq(left != 0),
            self.sum.eq(processor.crc),
            self.match.eq(processor.match_detected),
        ]
        with m.If(left != 0):
            m.d.sync += [bits.eq(bits[1:]), left.eq(left - 1)]
        with m.Elif(self.i.valid):
            m.d.sync += [bits.eq(self.i.payload), left.eq(8)]
        return m
