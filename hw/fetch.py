"""Program fetch: reads instructions in bursts until END."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.isa import BYTES, Unit
from gradgate.hw.port import ReadPort

__all__ = ["Fetch"]


class Fetch(wiring.Component):
    """Turns the program in memory into a stream of beats, `BYTES * 8 / beat_bits` an instruction.

    A burst ends at a multiple of its longest length, and the next is asked for only when the last
    has arrived without an END in it, so nothing beyond the END's own block of at most four
    instructions is ever read. One beat per cycle within a burst.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : In(1)
        One cycle high: fetch the program at `address`. Once after every reset.
    address : In(32)
        Byte address of the program, a multiple of the beat.
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

    def __init__(self, config):
        check_config(config)
        self._beats = BYTES // config.beat_bytes
        self._chunk = min(config.max_burst, 4 * self._beats)
        self._config = config
        super().__init__({
            "start": In(1),
            "address": In(32),
            "halt": In(1),
            "port": Out(ReadPort(config.beat_bits)),
            "o": Out(stream.Signature(config.beat_bits)),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        chunk = self._chunk
        depth = max(4, 2 * chunk)
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=self._config.beat_bits, depth=depth)
        shift = self._config.beat_bytes.bit_length() - 1

        beat = Signal(32 - shift)  # address of the next burst, in beats
        left = Signal(range(chunk + 1))  # beats of this burst still to come
        position = Signal(range(self._beats))  # of the next beat in its instruction
        fetching = Signal()
        cmd, data = self.port.cmd, self.port.data

        # a beat enters the buffer and is looked at
        m.d.comb += [
            data.ready.eq(fifo.w_rdy),
            fifo.w_en.eq(data.valid),
            fifo.w_data.eq(data.payload),
        ]
        with m.If(data.valid & data.ready):
            m.d.sync += [left.eq(left - 1), position.eq(position + 1)]
            with m.If((position == 0) & (data.payload[:4] == Unit.END)):
                m.d.sync += fetching.eq(0)

        # the next burst, up to the next multiple of `chunk` beats
        length = Signal(range(chunk + 1))
        m.d.comb += length.eq(chunk - (beat & (chunk - 1)))
        with m.If(cmd.valid):
            with m.If(cmd.ready):
                m.d.sync += cmd.valid.eq(0)
        with m.Elif(fetching & ~self.halt & (left == 0) & (fifo.level <= depth - chunk)):
            m.d.sync += [
                cmd.valid.eq(1),
                cmd.payload.addr.eq(beat << shift),
                cmd.payload.len.eq(length),
                left.eq(length),
                beat.eq(beat + length),
            ]
        with m.If(self.start):
            m.d.sync += [fetching.eq(1), beat.eq(self.address[shift:])]

        m.d.comb += [
            self.o.valid.eq(fifo.r_rdy),
            self.o.payload.eq(fifo.r_data),
            fifo.r_en.eq(self.o.ready),
            self.idle.eq(~cmd.valid & (left == 0)),
        ]
        return m
