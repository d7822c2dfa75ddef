"""Merges several burst ports of one direction into one.

Datapath registers are reset-less, control registers are reset.
"""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.port import Command, ReadPort, WritePort

__all__ = ["ReadArbiter", "WriteArbiter"]


def _check_count(count):
    if type(count) is not int:
        raise TypeError(f"count must be an integer, not {count!r}")
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count!r}")


def _commands(m, ports, cmd, room):
    """Move commands of `ports` to `cmd`, a register, in turn, as long as there is `room`.

    Returns (one moves, of which port, its length).
    """
    count = len(ports)
    last = Signal(count, init=1)  # one bit is set, as in `turn`: decoding would take time
    turn = Signal(count)
    asks = [port.cmd.valid for port in ports]
    take, grant, chosen = Signal(), Signal(range(count)), Signal(Command)

    # the first that asks, counted from the one after the last
    for index in range(count):
        free = Signal(count, name=f"free_{index}")
        for latest in range(count):
            others = (index - latest - 1) % count
            between = [asks[(latest + step) % count] for step in range(1, others + 1)]
            m.d.comb += free[latest].eq(last[latest] & ~Cat(between).any())
        m.d.comb += turn[index].eq(asks[index] & free.any())

    def of_turn(values):
        return reduce(or_, (Mux(mine, value, 0) for mine, value in zip(turn, values, strict=True)))

    moves = Signal()
    m.d.comb += [
        moves.eq(room & (~cmd.valid | cmd.ready)),
        take.eq(moves & Cat(asks).any()),
        grant.eq(of_turn(range(count))),
        chosen.eq(of_turn([port.cmd.payload.as_value() for port in ports])),
    ]
    for port, mine in zip(ports, turn, strict=True):
        m.d.comb += port.cmd.ready.eq(moves & mine)
    with m.If(cmd.ready):
        m.d.sync += cmd.valid.eq(0)
    with m.If(take):
        m.d.sync += [cmd.valid.eq(1), last.eq(turn), cmd.payload.eq(chosen)]
    return take, grant, chosen.len


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
        _check_count(count)
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
        take, grant, length = _commands(m, self.ports, cmd, owners.w_rdy)
        m.d.comb += [
            asked.index.eq(grant),
            asked.len.eq(length),
            owners.w_data.eq(asked),
            owners.w_en.eq(take),
            owner.eq(owners.r_data),
        ]

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


class WriteArbiter(wiring.Component):
    """Gives one memory port to `count` initiators in turn, a burst each.

    Commands take one cycle, one may follow another in every cycle; beats pass at once, in the order
    of the commands, so an initiator waits for those of the others; they hold what they have
    announced. Acknowledgements pass at once. At most `OUTSTANDING` bursts are on their way. No
    multipliers; two RAMs of `OUTSTANDING` entries.

    Parameters
    ----------
    config : Config
    count : int
        Initiators, at least 1.

    Members
    -------
    ports : In(WritePort(beat_bits)).array(count)
    port : Out(WritePort(beat_bits))

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
        _check_count(count)
        self._count = count
        super().__init__({
            "ports": In(WritePort(config.beat_bits)).array(count),
            "port": Out(WritePort(config.beat_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        count, cmd, beat = self._count, self.port.cmd, self.port.data

        # whose acknowledgement comes next; all bursts under way are here, so beats find room too
        index_bits = max(1, (count - 1).bit_length())
        m.submodules.acks = acks = SyncFIFO(width=index_bits, depth=self.OUTSTANDING)
        take, grant, length = _commands(m, self.ports, cmd, acks.w_rdy)
        m.d.comb += [
            acks.w_data.eq(grant),
            acks.w_en.eq(take),
            acks.r_en.eq(self.port.ack),
        ]
        with m.Switch(acks.r_data):
            for index in range(count):
                with m.Case(index):
                    m.d.comb += self.ports[index].ack.eq(self.port.ack)

        # whose beats come next, from the moment that memory has taken the command
        Owner = data.StructLayout({"index": index_bits, "len": 9})
        m.submodules.owners = owners = SyncFIFO(width=Owner.size, depth=self.OUTSTANDING)
        asked = Signal(Owner, reset_less=True)
        owner = Signal(Owner)
        with m.If(take):
            m.d.sync += [asked.index.eq(grant), asked.len.eq(length)]
        m.d.comb += [
            owners.w_data.eq(asked),
            owners.w_en.eq(cmd.valid & cmd.ready),
            owner.eq(owners.r_data),
        ]

        passed = Signal(9)
        with m.If(owners.r_rdy):
            with m.Switch(owner.index):
                for index in range(count):
                    port = self.ports[index].data
                    with m.Case(index):
                        m.d.comb += [
                            beat.valid.eq(port.valid),
                            beat.payload.eq(port.payload),
                            port.ready.eq(beat.ready),
                        ]
        with m.If(beat.valid & beat.ready):
            m.d.sync += passed.eq(passed + 1)
            with m.If(passed + 1 == owner.len):
                m.d.sync += passed.eq(0)
                m.d.comb += owners.r_en.eq(1)

        return m
