"""A valve between the units and the bus, so that the units can be reset at any time."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.port import ReadPort, WritePort

__all__ = ["Quiesce"]


class Quiesce(wiring.Component):
    """Passes both burst ports on; with `hold` no further command, but all those begun.

    An initiator has room for what it reads and holds what it writes when it issues a command, so
    `idle` comes as soon as memory has answered, whatever state the units are in. Then they may be
    reset. Commands take one cycle, beats none. Costs about 100 flip-flops.

    Parameters
    ----------
    config : Config

    Members
    -------
    read, write : In(ReadPort), In(WritePort)
        From the units.
    bus_read, bus_write : Out(ReadPort), Out(WritePort)
        To the bus adapter.
    hold : In(1)
        Accept no command.
    idle : Out(1)
        Nothing is outstanding.
    read_beat, write_beat : Out(1)
        A beat has passed in the cycle before.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        super().__init__({
            "read": In(ReadPort(config.beat_bits)),
            "write": In(WritePort(config.beat_bits)),
            "bus_read": Out(ReadPort(config.beat_bits)),
            "bus_write": Out(WritePort(config.beat_bits)),
            "hold": In(1),
            "idle": Out(1),
            "read_beat": Out(1),
            "write_beat": Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        def command(port, bus, room):
            """A register between two command streams; returns the transfer into it."""
            accept = Signal()
            m.d.comb += [
                port.cmd.ready.eq(~self.hold & room & (~bus.cmd.valid | bus.cmd.ready)),
                accept.eq(port.cmd.valid & port.cmd.ready),
            ]
            with m.If(bus.cmd.ready):
                m.d.sync += bus.cmd.valid.eq(0)
            with m.If(accept):
                m.d.sync += [bus.cmd.valid.eq(1), bus.cmd.payload.eq(port.cmd.payload)]
            return accept

        # with the top bit clear there is room for another burst in the count
        to_read = Signal(14)
        accept = command(self.read, self.bus_read, ~to_read[-1])
        wiring.connect(m, wiring.flipped(self.read.data), wiring.flipped(self.bus_read.data))
        reads, writes = Signal(), Signal()  # a beat passes
        m.d.comb += reads.eq(self.read.data.valid & self.read.data.ready)
        # commands are accepted late: sums are there before
        left = to_read - reads
        m.d.sync += to_read.eq(Mux(accept, left + self.read.cmd.payload.len, left))

        # beats pass only after their command, so that none is left over; `to_write` counts those
        # of commands that the bus has taken, `to_ack` all bursts
        to_write = Signal(11)
        some_to_write = Signal()  # that it is not 0, as much depends on it
        to_ack = Signal(8)
        accept = command(self.write, self.bus_write, ~to_write[-1] & ~to_ack[-1])
        port, bus = self.write.data, self.bus_write.data
        m.d.comb += [
            bus.valid.eq(port.valid & some_to_write),
            bus.payload.eq(port.payload),
            port.ready.eq(bus.ready & some_to_write),
            writes.eq(bus.valid & bus.ready),
            self.write.ack.eq(self.bus_write.ack),
        ]
        # that a beat passes is known late: it chooses between sums that are there before
        cmd = self.bus_write.cmd
        announced = to_write + Mux(cmd.valid & cmd.ready, cmd.payload.len, 0)
        m.d.sync += [
            to_write.eq(Mux(writes, announced - 1, announced)),
            some_to_write.eq((cmd.valid & cmd.ready) | (to_write > 1)
                             | (some_to_write & ~writes)),
            to_ack.eq(Mux(accept, to_ack + 1, to_ack) - self.bus_write.ack),
        ]

        # those who count beats are far away
        m.d.sync += [self.read_beat.eq(reads), self.write_beat.eq(writes)]
        m.d.comb += self.idle.eq((to_read == 0) & (to_ack == 0))
        return m
