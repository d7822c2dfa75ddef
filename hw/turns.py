"""Merges two burst ports of one direction into one, for initiators that ask for single beats.

Control registers are reset.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.port import ReadPort, WritePort

__all__ = ["ReadTurns", "WriteTurns"]


class _Turns(wiring.Component):
    def __init__(self, config, port):
        check_config(config)
        super().__init__({"ports": In(port(config.beat_bits)).array(2),
                          "port": Out(port(config.beat_bits))})

    def _commands(self, m, over):
        """Pass commands of length 1, the next one when the burst before is `over`; whose it is."""
        owner, busy, second = Signal(), Signal(), Signal()
        cmds, cmd = [port.cmd for port in self.ports], self.port.cmd
        m.d.comb += [
            second.eq(cmds[1].valid),
            cmd.valid.eq((cmds[0].valid | second) & ~busy),
            cmd.payload.addr.eq(Mux(second, cmds[1].payload.addr, cmds[0].payload.addr)),
            cmd.payload.len.eq(1),
            cmds[0].ready.eq(cmd.ready & ~busy & ~second),
            cmds[1].ready.eq(cmd.ready & ~busy),
        ]
        with m.If(over):
            m.d.sync += busy.eq(0)
        with m.If(cmd.valid & cmd.ready):
            m.d.sync += [owner.eq(second), busy.eq(1)]
        return owner


class ReadTurns(_Turns):
    """Gives one memory port to two initiators, a beat at a time; the second goes first.

    What ReadArbiter does, for bursts of one beat of which one is under way at a time: commands and
    beats pass at once. The second initiator must leave time between its own. Also from 420 to
    about 50 LUT4 on iCE40.

    Parameters
    ----------
    config : Config

    Members
    -------
    ports : In(ReadPort(beat_bits)).array(2)
        The length of commands is taken for 1.
    port : Out(ReadPort(beat_bits))

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        super().__init__(config, ReadPort)

    def elaborate(self, platform):
        m = Module()
        beat = self.port.data
        owner = self._commands(m, beat.valid & beat.ready)
        for index, port in enumerate(self.ports):
            m.d.comb += [port.data.payload.eq(beat.payload),
                         port.data.valid.eq(beat.valid & (owner == index))]
        m.d.comb += beat.ready.eq(Mux(owner, self.ports[1].data.ready, self.ports[0].data.ready))
        return m


class WriteTurns(_Turns):
    """The same for writes: the next command when memory has acknowledged the one before.

    Parameters
    ----------
    config : Config

    Members
    -------
    ports : In(WritePort(beat_bits)).array(2)
        The length of commands is taken for 1.
    port : Out(WritePort(beat_bits))

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        super().__init__(config, WritePort)

    def elaborate(self, platform):
        m = Module()
        beat = self.port.data
        owner = self._commands(m, self.port.ack)
        m.d.comb += [
            beat.payload.eq(Mux(owner, self.ports[1].data.payload, self.ports[0].data.payload)),
            beat.valid.eq(Mux(owner, self.ports[1].data.valid, self.ports[0].data.valid)),
        ]
        for index, port in enumerate(self.ports):
            m.d.comb += [port.data.ready.eq(beat.ready & (owner == index)),
                         port.ack.eq(self.port.ack & (owner == index))]
        return m
