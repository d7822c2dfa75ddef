"""Asynchronous serial line: 8 data bits, no parity, one stop bit.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UARTReceiver", "UARTTransmitter"]

_BITS = 10  # start, data, stop


def _check_divisor(divisor):
    if type(divisor) is not int:
        raise TypeError(f"divisor must be int, not {divisor!r}")
    if divisor < 4:
        raise ValueError(f"divisor must be at least 4, not {divisor!r}")


class UARTReceiver(wiring.Component):
    """Bytes from the line, each sampled in the middle of its bits.

    A byte is on `o` up to two cycles after the middle of its stop bit, from when on the next start
    bit is looked for: the sender may be 3 % faster or slower with 8 cycles a bit, 4 % with more
    than 16. A byte without a stop bit is dropped, and so is one that comes while the last is still
    on `o`. 21 LUT4.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit, at least 4.

    Members
    -------
    rx : In(1)
        The line, idle high, not synchronised.
    o : Out(stream.Signature(8))

    Raises
    ------
    TypeError, ValueError
        `divisor` is not an int in range.
    """

    def __init__(self, divisor):
        _check_divisor(divisor)
        self._divisor = divisor
        super().__init__({"rx": In(1, init=1), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        line = Signal(init=1)
        m.submodules += FFSynchronizer(self.rx, line, init=1)

        timer = Signal(range(self._divisor))  # cycles to the next sample
        count = Signal(range(_BITS + 1))  # samples to come, 0: waiting for a start bit
        bits = Signal(8, reset_less=True)
        high = Signal()  # the line was, since the last byte: low after that is a start bit

        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(count == 0):
            m.d.sync += timer.eq((self._divisor + 1) // 2 - 2)  # it fell one to two cycles ago
            with m.If(line):
                m.d.sync += high.eq(1)
            with m.Elif(high):
                m.d.sync += count.eq(_BITS)
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self._divisor - 1), count.eq(count - 1)]
            with m.If(count == 1):
                m.d.sync += high.eq(line)
                with m.If(line & ~self.o.valid):
                    m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(bits)]
            with m.Else():
                m.d.sync += bits.eq(Cat(bits[1:], line))
            with m.If((count == _BITS) & line):  # a glitch, not a start bit
                m.d.sync += count.eq(0)
        return m


class UARTTransmitter(wiring.Component):
    """Bytes to the line.

    The start bit begins in the cycle after a byte is taken, and the next byte is taken in the last
    cycle of the stop bit: back to back, a byte takes `10 * divisor` cycles. 22 LUT4.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit, at least 4.

    Members
    -------
    i : In(stream.Signature(8))
    tx : Out(1)
        The line, idle high.

    Raises
    ------
    TypeError, ValueError
        `divisor` is not an int in range.
    """

    def __init__(self, divisor):
        _check_divisor(divisor)
        self._divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        timer = Signal(range(self._divisor))  # further cycles of the present bit
        count = Signal(range(_BITS))  # further bits
        bits = Signal(9, init=~0)

        m.d.comb += [self.tx.eq(bits[0]), self.i.ready.eq((timer == 0) & (count == 0))]
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(count != 0):
            m.d.sync += [bits.eq(Cat(bits[1:], Const(1, 1))), timer.eq(self._divisor - 1),
                         count.eq(count - 1)]
        with m.Elif(self.i.valid):
            m.d.sync += [bits.eq(Cat(Const(0, 1), self.i.payload)), timer.eq(self._divisor - 1),
                         count.eq(_BITS - 1)]
        return m
