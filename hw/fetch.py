"""Program fetch: reads instructions in bursts until END."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.isa import BYTES, Unit
from gradgate.hw.port import ReadPort

__all__ = ["Fetch"]


class Fetch(wiring.Component):
    """Turns the program in memory into a stream of beats, `BYTES * 8 / beat_bits` an instruction.

    Bursts end at multiples of `BURST` beats, or of the longest burst if that is shorter, and are
    asked for as long as there is room for `AHEAD` beats: so at most `AHEAD` beats are read from the
    first of END on.

    Let l be the latency of memory, from command to first beat. The first command is on `port` 2
    cycles after `start`; a beat from `port` is on `o` 2 cycles later; the command for the room that
    a beat leaves is on `port` 2 cycles after the beat is taken. So of beats taken at once, b a
    burst, `AHEAD` pass in `max(AHEAD, l + b + 3)` cycles. A RAM of `AHEAD` beats.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : In(1)
        One cycle high: fetch the program at `address`. Once after every reset.
    address : In(32)
        Byte address of the program, a multiple of the beat; wraps at 2^addr_bits.
    halt : In(1)
        Ask for no more bursts.
    port : Out(ReadPort)
    o : Out(stream.Signature(beat_bits))
        The beats of the program; after those of END whatever the last burst brought along.
    idle : Out(1)
        No burst is outstanding.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    AHEAD = 64
    BURST = 32

    def __init__(self, config):
        check_config(config)
        self._beats = BYTES // config.beat_bytes
        self._chunk = self.burst(config)
        self._config = config
        super().__init__({
            "start": In(1),
            "address": In(32),
            "halt": In(1),
            "port": Out(ReadPort(config.beat_bits)),
            "o": Out(stream.Signature(config.beat_bits)),
            "idle": Out(1),
        })

    @classmethod
    def burst(cls, config):
        """Beats of a burst: those of the first end at a multiple of so many."""
        return min(config.max_burst, cls.BURST)

    def elaborate(self, platform):
        m = Module()
        chunk = self._chunk
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=self._config.beat_bits, depth=self.AHEAD)
        shift = self._config.beat_bytes.bit_length() - 1
        low_bits = chunk.bit_length() - 1

        beat = Signal(self._config.addr_bits - shift)  # address of the next burst, in beats
        left = Signal(range(self.AHEAD + 1))  # beats asked for still to come
        free = Signal(range(self.AHEAD + 1), init=self.AHEAD)  # room for beats not asked for
        position = Signal(range(self._beats))  # of the next beat in its instruction
        fetching = Signal()
        cmd, data = self.port.cmd, self.port.data

        # a beat enters the buffer and is looked at, after a cycle for the way from memory
        arrives, leaves = Signal(), self.o.valid & self.o.ready
        arrived = Signal(self._config.beat_bits, reset_less=True)
        m.d.sync += [arrives.eq(data.valid), arrived.eq(data.payload)]
        m.d.comb += [
            data.ready.eq(1),  # there is room for all that was asked for
            fifo.w_en.eq(arrives),
            fifo.w_data.eq(arrived),
        ]
        with m.If(arrives):
            m.d.sync += position.eq(position + 1)
            with m.If((position == 0) & (arrived[:4] == Unit.END)):
                m.d.sync += fetching.eq(0)

        # the next burst, up to the next multiple of `chunk` beats
        length = Signal(range(chunk + 1))
        ask = Signal()
        m.d.comb += [
            length.eq(chunk - (beat & (chunk - 1))),
            ask.eq(fetching & ~self.halt & (free >= chunk) & (~cmd.valid | cmd.ready)),
        ]
        with m.If(cmd.ready):
            m.d.sync += cmd.valid.eq(0)
        with m.If(ask):
            m.d.sync += [
                cmd.valid.eq(1),
                cmd.payload.addr.eq(beat << shift),
                cmd.payload.len.eq(length),
                beat.eq(Cat(Const(0, low_bits), beat[low_bits:] + 1)),
            ]
        # `leaves` comes late: sums are there before
        held = Mux(ask, free - length, free)
        m.d.sync += [left.eq(left + Mux(ask, length, 0) - arrives),
                     free.eq(Mux(leaves, held + 1, held))]
        with m.If(self.start):
            m.d.sync += [fetching.eq(1), beat.eq(self.address >> shift)]

        m.d.comb += [
            self.o.valid.eq(fifo.r_rdy),
            self.o.payload.eq(fifo.r_data),
            fifo.r_en.eq(self.o.ready),
            self.idle.eq(~cmd.valid & (left == 0)),
        ]
        return m
