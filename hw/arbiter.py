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
from gradgate.hw.stage import registered

__all__ = ["ReadArbiter", "WriteArbiter"]


def _check_count(count):
    if type(count) is not int:
        raise TypeError(f"count must be an integer, not {count!r}")
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count!r}")


class _Owner(data.Struct):
    """Whose burst it is, and how many beats of it are to come."""

    index: 4
    len: 9


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


def _owner(m, owners, moves):
    """Whose beats come next: (somebody's, index), known from registers as much depends on it.

    `owners` is a FIFO with an _Owner per burst; `moves`, that a beat passes. A burst is there two
    cycles after its entry, or right after the one before.
    """
    entry = data.View(_Owner, owners.r_data)
    valid, final, now = Signal(), Signal(reset_less=True), Signal(_Owner, reset_less=True)
    m.d.comb += owners.r_en.eq(~valid | (moves & final))
    with m.If(owners.r_en):
        m.d.sync += [valid.eq(owners.r_rdy), now.eq(entry), final.eq(entry.len == 1)]
    with m.Elif(moves):
        m.d.sync += [now.len.eq(now.len - 1), final.eq(now.len == 2)]
    return valid, now.index


class ReadArbiter(wiring.Component):
    """Gives one memory port to `count` initiators in turn, a burst each.

    Commands take one cycle, one may follow another in every cycle; beats pass at once, from the
    second cycle on after memory has got their command. At most `OUTSTANDING` bursts are on their
    way. Initiators hold room for what they ask for, so beats never wait for another initiator.
    No multipliers; a RAM of `OUTSTANDING` entries.

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
        cmd, beat = self.port.cmd, self.port.data

        # whose beats come next
        m.submodules.owners = owners = SyncFIFO(
            width=data.Layout.cast(_Owner).size, depth=self.OUTSTANDING)
        asked = Signal(_Owner)
        take, grant, length = _commands(m, self.ports, cmd, owners.w_rdy)
        m.d.comb += [
            asked.index.eq(grant),
            asked.len.eq(length),
            owners.w_data.eq(asked),
            owners.w_en.eq(take),
        ]

        # beats: to the owner, known in the cycle after memory has seen the command
        owned, owner = _owner(m, owners, beat.valid & beat.ready)
        for index, port in enumerate(self.ports):
            m.d.comb += port.data.payload.eq(beat.payload)
            with m.If(owned & (owner == index)):
                m.d.comb += [port.data.valid.eq(beat.valid), beat.ready.eq(port.data.ready)]
        return m


class WriteArbiter(wiring.Component):
    """Gives one memory port to `count` initiators in turn, a burst each.

    Commands take one cycle, one may follow another in every cycle; beats pass at once, in the order
    of the commands, from the second cycle on after memory has taken theirs, so an initiator waits
    for those of the others; they hold what they have announced. Acknowledgements pass at once. At
    most `OUTSTANDING` bursts are on their way. No multipliers; two RAMs of about as many entries.

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

        # whose acknowledgement comes next, from registers, as RAM is slow. Two bursts are in the
        # Skid, the others in the FIFO; all under way are here, so beats find room too
        index_bits = max(1, (count - 1).bit_length())
        m.submodules.acks = acks = SyncFIFO(width=index_bits, depth=self.OUTSTANDING - 2)
        whose, _ = registered(m, acks, "whose")
        take, grant, length = _commands(m, self.ports, cmd, acks.w_rdy)
        m.d.comb += [
            acks.w_data.eq(grant),
            acks.w_en.eq(take),
            whose.ready.eq(self.port.ack),
        ]
        with m.Switch(whose.payload):
            for index in range(count):
                with m.Case(index):
                    m.d.comb += self.ports[index].ack.eq(self.port.ack)

        # whose beats come next, from the moment that memory has taken the command
        m.submodules.owners = owners = SyncFIFO(
            width=data.Layout.cast(_Owner).size, depth=self.OUTSTANDING)
        asked = Signal(_Owner, reset_less=True)
        with m.If(take):
            m.d.sync += [asked.index.eq(grant), asked.len.eq(length)]
        m.d.comb += [
            owners.w_data.eq(asked),
            owners.w_en.eq(cmd.valid & cmd.ready),
        ]

        owned, owner = _owner(m, owners, beat.valid & beat.ready)
        for index, port in enumerate(self.ports):
            with m.If(owned & (owner == index)):
                m.d.comb += [beat.valid.eq(port.data.valid), beat.payload.eq(port.data.payload),
                             port.data.ready.eq(beat.ready)]
        return m
