"""The burst port as an AXI4 master."""

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.port import ReadPort, WritePort

__all__ = ["AXIMaster"]

_INCR = 0b01
_CACHE = 0b0011  # normal memory, not cached, may be buffered
_DATA = 0b000  # unprivileged, secure, data


class AXIMaster(wiring.Component):
    """Turns bursts into AXI4 INCR transactions of full beats, all with ID 0.

    Reads pass combinationally. A write command takes one cycle and its beats do not wait for the
    address to be taken, as AXI demands. An error response is reported and otherwise treated as
    success: its beats are delivered, its burst acknowledged. No multipliers; a RAM of 16 burst
    lengths.

    Parameters
    ----------
    config : Config

    Members
    -------
    read : In(ReadPort(beat_bits))
    write : In(WritePort(beat_bits))
    error : Out(1)
        One cycle high per beat read or burst written that was answered with SLVERR or DECERR.
    aw*, w*, b*, ar*, r*
        The five AXI4 channels, flat and without prefix: `awid`, `awaddr`, ... `rready`.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        address = {"id": 1, "addr": 32, "len": 8, "size": 3, "burst": 2, "lock": 1, "cache": 4,
                   "prot": 3, "valid": 1}
        members = {"read": In(ReadPort(config.beat_bits)), "write": In(WritePort(config.beat_bits)),
                   "error": Out(1)}
        for channel in ("aw", "ar"):
            members |= {channel + name: Out(width) for name, width in address.items()}
            members[channel + "ready"] = In(1)
        super().__init__(members | {
            "wdata": Out(config.beat_bits), "wstrb": Out(config.beat_bytes), "wlast": Out(1),
            "wvalid": Out(1), "wready": In(1),
            "bid": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            "rid": In(1), "rdata": In(config.beat_bits), "rresp": In(2), "rlast": In(1),
            "rvalid": In(1), "rready": Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        size = self._config.beat_bytes.bit_length() - 1
        for channel in ("aw", "ar"):
            for name, value in (("size", size), ("burst", _INCR), ("cache", _CACHE),
                                ("prot", _DATA)):
                signal = getattr(self, channel + name)
                m.d.comb += signal.eq(Const(value, len(signal)))

        # reads
        read, write = self.read, self.write
        m.d.comb += [
            self.arvalid.eq(read.cmd.valid),
            self.araddr.eq(read.cmd.payload.addr),
            self.arlen.eq(read.cmd.payload.len - 1),
            read.cmd.ready.eq(self.arready),
            read.data.valid.eq(self.rvalid),
            read.data.payload.eq(self.rdata),
            self.rready.eq(read.data.ready),
        ]

        # write commands: once taken, the address and the beats go their own ways
        m.submodules.lengths = lengths = SyncFIFO(width=8, depth=16)
        do_cmd = Signal()
        m.d.comb += [
            write.cmd.ready.eq(lengths.w_rdy & (~self.awvalid | self.awready)),
            do_cmd.eq(write.cmd.valid & write.cmd.ready),
            lengths.w_en.eq(do_cmd),
            lengths.w_data.eq(write.cmd.payload.len - 1),
        ]
        with m.If(self.awready):
            m.d.sync += self.awvalid.eq(0)
        with m.If(do_cmd):
            m.d.sync += [
                self.awvalid.eq(1),
                self.awaddr.eq(write.cmd.payload.addr),
                self.awlen.eq(lengths.w_data),
            ]

        # write beats
        sent = Signal(8)
        m.d.comb += [
            self.wvalid.eq(write.data.valid & lengths.r_rdy),
            self.wdata.eq(write.data.payload),
            self.wstrb.eq(~0),
            self.wlast.eq(sent == lengths.r_data),
            write.data.ready.eq(self.wready & lengths.r_rdy),
        ]
        with m.If(self.wvalid & self.wready):
            m.d.sync += sent.eq(sent + 1)
            with m.If(self.wlast):
                m.d.sync += sent.eq(0)
                m.d.comb += lengths.r_en.eq(1)

        # write responses
        m.d.comb += [self.bready.eq(1), write.ack.eq(self.bvalid)]

        m.d.comb += self.error.eq(
            (self.rvalid & self.rready & self.rresp[1]) | (self.bvalid & self.bresp[1]))

        return m
