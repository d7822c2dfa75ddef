"""Byte stuffing: frames as bytes other than zero, so that a zero is always the end of one."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Token", "Unstuff", "Stuff"]

_FULL = 255  # code of 254 bytes with no zero behind (Unstuff) or before (Stuff) it


class Token(data.Struct):
    """A byte of a frame, or with `end` what comes after its last one."""

    byte: 8
    end: 1


class Unstuff(wiring.Component):
    """Undoes COBS, where a code says how far ahead the next zero of the frame is.

    A byte or less out for each byte in, in the same cycle. After a zero all that came before is
    forgotten; a frame that was cut short ends there.

    Members
    -------
    i : In(stream.Signature(8))
    o : Out(stream.Signature(Token))
    """

    i: In(stream.Signature(8))
    o: Out(stream.Signature(Token))

    def elaborate(self, platform):
        m = Module()
        byte = self.i.payload
        left = Signal(8, init=1)  # bytes up to the next code, it included
        zero = Signal()  # which stands for a zero
        is_end, is_code = byte == 0, left == 1

        m.d.comb += [
            self.o.valid.eq(self.i.valid & (is_end | ~is_code | zero)),
            self.o.payload.end.eq(is_end),
            self.o.payload.byte.eq(Mux(is_code, 0, byte)),
            self.i.ready.eq(self.o.ready | ~self.o.valid),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += left.eq(Mux(is_code, byte, left - 1))
            with m.If(is_code):
                m.d.sync += zero.eq(byte != _FULL)
            with m.If(is_end):
                m.d.sync += [left.eq(1), zero.eq(0)]
        return m


class Stuff(wiring.Component):
    """Replaces each zero of a frame by a code that says how far back the one before it is.

    COBS with its codes behind what they speak of instead of ahead, so that no byte waits for those
    that follow: a code stands in the place of each zero, behind 254 bytes without one (then it is
    255, and stands for no zero), and behind the frame, followed by a zero. A byte a cycle, one more
    for each code that is not in the place of a zero; what is offered does not depend on `o.ready`.

    Members
    -------
    i : In(stream.Signature(Token))
    o : Out(stream.Signature(8))
    """

    i: In(stream.Signature(Token))
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        token = self.i.payload
        code = Signal(8, init=1)  # if there were one now
        ended = Signal()  # the last code of the frame has been sent, its zero has not
        full = code == _FULL
        is_code = full | token.end | (token.byte == 0)
        m.d.comb += [
            self.o.valid.eq(self.i.valid | full | ended),
            self.o.payload.eq(Mux(ended, 0, Mux(is_code, code, token.byte))),
            self.i.ready.eq(self.o.ready & ~full & ~ended),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [code.eq(code + 1), ended.eq(~ended & ~full & token.end)]
            with m.If(is_code | ended):
                m.d.sync += code.eq(1)
        return m
