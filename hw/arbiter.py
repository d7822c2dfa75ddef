"""Merges several burst read ports into one.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.port import ReadPort

__all__ = ["ReadArbiter"]


class ReadArbiter(wiring.Component):
    """Gives one memory port to `count` initiators in turn, a burst each.

    Commands take one cycle, one may follow another in every cycle; beats pass at once. At most
    `OUTSTANDING` bursts are on their way. Initiators hold room for what they ask for, so beats
    never wait for another initiator. No multipliers; a RAM of `OUTSTANDING` entries.

    Parameters
    ----------
    config : Config
    count : int
        Initiators, at least 1.

    Members
    -------
    ports : In(ReadPort(beat_bits)).array(count)
    port : Out(ReadPort(beat_bits))

    Raises
    ------
    TypeError
        `config` is not a Config, or `count` not an integer.
    ValueError
        `count` is less than 1.
    """

    OUTSTANDING = 32

    def __init__(self, config, count):
        check_config(config)
        if type(count) is not int:
            raise TypeError(f"count must be an integer, not {count!r}")
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count!r}")
        self._count = count
        super().__init__({
            "ports": In(ReadPort(config.beat_bits)).array(count),
            "port": Out(ReadPort(config.beat_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        count, cmd, beat = self._count, self.port.cmd, self.port.data

        # whose beats come next
        Owner = data.StructLayout({"index": range(count), "len": 9})
        m.submodules.owners = owners = SyncFIFO(width=Owner.size, depth=self.OUTSTANDING)
        asked = Signal(Owner)
        owner = Signal(Owner)
        m.d.comb += [owners.w_data.eq(asked), owner.eq(owners.r_data)]

        # commands: the first that asks, counted from the one after the last
        last = Signal(range(count))
        grant = Signal(range(count))
        some = Signal()
        take = Signal()
        with m.Switch(last):
            for latest in range(count):
                with m.Case(latest):
                    for step in range(count, 0, -1):
                        index = (latest + step) % count
                        with m.If(self.ports[index].cmd.valid):
                            m.d.comb += [some.eq(1), grant.eq(index)]
        m.d.comb += [
            take.eq(some & owners.w_rdy & (~cmd.valid | cmd.ready)),
            owners.w_en.eq(take),
            asked.index.eq(grant),
        ]
        with m.If(cmd.ready):
            m.d.sync += cmd.valid.eq(0)
        with m.If(take):
            m.d.sync += [cmd.valid.eq(1), last.eq(grant)]
        with m.Switch(grant):
            for index in range(count):
                with m.Case(index):
                    chosen = self.ports[index].cmd
                    m.d.comb += [chosen.ready.eq(take), asked.len.eq(chosen.payload.len)]
                    with m.If(take):
                        m.d.sync += cmd.payload.eq(chosen.payload)

        # beats: to the owner, known before memory sees the command, until its burst is complete
        passed = Signal(9)
        with m.Switch(owner.index):
            for index in range(count):
                port = self.ports[index].data
                m.d.comb += port.payload.eq(beat.payload)
                with m.Case(index):
                    m.d.comb += [
                        port.valid.eq(beat.valid),
                        beat.ready.eq(port.ready),
                    ]
        with m.If(beat.valid & beat.ready):
            m.d.sync += passed.eq(passed + 1)
            with m.If(passed + 1 == owner.len):
                m.d.sync += passed.eq(0)
                m.d.comb += owners.r_en.eq(1)

        return m
