"""Requests from the line: checked, and kept until they are carried out.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from gradgate.hw.link_crc import SerialCRC
from gradgate.hw.link_format import BUFFER, CHECK, HEADER
from gradgate.hw.link_stuffing import Token

__all__ = ["Receiver"]


class Receiver(wiring.Component):
    """Lets frames through that are right: as long as they say, and with the CRC that they say.

    Nothing of a frame is on `o` before the last of it has come and been checked; of a frame that
    was damaged, or for which there is no room, nothing ever is. What is on `o` are whole requests
    with their CRC, a byte a cycle. Takes a byte every 9 cycles. A RAM of 512 bytes; about 180 LUT4.

    Members
    -------
    i : In(stream.Signature(Token))
    o : Out(stream.Signature(8))
    dropped : Out(1)
        One cycle high per frame that is not let through.
    """

    i: In(stream.Signature(Token))
    o: Out(stream.Signature(8))
    dropped: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = SerialCRC()
        token = self.i.payload
        do_byte = self.i.valid & self.i.ready & ~token.end
        do_end = self.i.valid & self.i.ready & token.end

        # the length that a frame has beyond that of one without payload, and should have; no frame
        # that wraps around is as short as its length, 8 bits, says
        length = Signal(10, init=-(HEADER + CHECK) % (1 << 10))
        words = Signal(7)
        place = Signal(2)  # 0: operation, 1: words, 2: the rest
        is_write = Signal()
        with m.If(do_byte):
            m.d.sync += length.eq(length + 1)
            with m.Switch(place):
                with m.Case(0):
                    m.d.sync += [place.eq(1), is_write.eq(token.byte[0])]
                with m.Case(1):
                    m.d.sync += place.eq(2)
                    with m.If(is_write):
                        m.d.sync += words.eq(token.byte)
        with m.If(do_end):
            m.d.sync += [length.eq(length.init), words.eq(0), place.eq(0)]

        # storage: a ring, of which only what has been checked can be read
        m.submodules.bytes = memory = Memory(shape=8, depth=BUFFER, init=[])
        w_port, r_port = memory.write_port(), memory.read_port()
        write, checked, read = Signal(range(BUFFER)), Signal(range(BUFFER)), Signal(range(BUFFER))
        full = (write == read) & (place != 0)
        overflow = Signal()
        m.d.comb += [
            w_port.addr.eq(write),
            w_port.data.eq(token.byte),
            w_port.en.eq(do_byte & ~full & ~overflow),
        ]
        with m.If(do_byte):
            m.d.sync += [write.eq(write + 1), overflow.eq(overflow | full)]

        # the verdict; an empty frame is none
        good = crc.match & (length == words << 2) & ~overflow
        m.d.comb += [
            self.i.ready.eq(crc.i.ready),
            crc.i.valid.eq(self.i.valid & ~token.end),
            crc.i.payload.eq(token.byte),
            crc.start.eq(do_end),
            self.dropped.eq(do_end & (place != 0) & ~good),
        ]
        with m.If(do_end):
            m.d.sync += overflow.eq(0)
            with m.If(good):
                m.d.sync += checked.eq(write)
            with m.Else():
                m.d.sync += write.eq(checked)

        more = read != checked
        m.d.comb += [
            r_port.addr.eq(read),
            r_port.en.eq(~self.o.valid | self.o.ready),
            self.o.payload.eq(r_port.data),
        ]
        with m.If(r_port.en):
            m.d.sync += self.o.valid.eq(more)
            with m.If(more):
                m.d.sync += read.eq(read + 1)
        return m
