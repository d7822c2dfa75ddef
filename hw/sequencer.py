"""The sequencer: fetches the program, hands it to the units, keeps the tokens."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.fetch import Fetch
from gradgate.hw.isa import BYTES, Unit
from gradgate.hw.issue import Issue
from gradgate.hw.port import ReadPort
from gradgate.hw.stage import Skid

__all__ = ["Sequencer", "Errors", "UNITS", "TOKENS"]

UNITS = (Unit.LOAD_A, Unit.LOAD_B, Unit.COMPUTE, Unit.POST)
TOKENS = tuple((u, v) for u in UNITS for v in UNITS if u != v)  # counters: from u to v


class Errors(data.Struct):
    """Why a program stopped, in the order of STATUS from bit 2."""

    timeout: 1
    token_overflow: 1
    unknown_unit: 1
    bus_error: 1


class Sequencer(wiring.Component):
    """Runs one program: docs/program.md, section 1.

    A program starts at `start`, the first after every reset; it ends with `ended` when END has been
    met, all units are idle and all queues empty, or with an error. Instructions pass from the fetch
    to the queues, a cycle later, at one beat per cycle; a full queue holds up everything behind it.
    A token given by `done` lets an instruction that waits for it be offered four cycles later. A
    program that hangs is stopped `timeout + 3` cycles after its last progress.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : In(1)
        One cycle high. Once after every reset.
    address : In(32)
        Byte address of the program, a multiple of the beat.
    timeout : In(32)
        Cycles without progress before the program is stopped; 0 = never.
    fault : In(1)
        The bus has reported an error.
    beat : In(1)
        A beat has passed to or from memory.
    port : Out(ReadPort)
    units : Out(stream.Signature(512)).array(4)
        Instructions, by unit number.
    done, active : In(4)
        By unit number; see docs/architecture.md, section 2.
    busy : Out(1)
        The program runs.
    ended : Out(1)
        The program has reached its END. Stays until reset.
    errors : Out(Errors)
        Why the program was stopped. Stays until reset.
    tokens_left : Out(1)
        The program has ended with tokens left. Stays until reset.
    fetched : Out(1)
        One cycle high per instruction fetched, END included.
    executing, waiting, empty : Out(4)
        By unit number; see Issue.
    tokens : Out(ArrayLayout(8, 12))
        The counters, in order of TOKENS.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        super().__init__({
            "start": In(1),
            "address": In(32),
            "timeout": In(32),
            "fault": In(1),
            "beat": In(1),
            "port": Out(ReadPort(config.beat_bits)),
            "units": Out(stream.Signature(8 * BYTES)).array(len(UNITS)),
            "done": In(len(UNITS)),
            "active": In(len(UNITS)),
            "busy": Out(1),
            "ended": Out(1),
            "errors": Out(Errors),
            "tokens_left": Out(1),
            "fetched": Out(1),
            "executing": Out(len(UNITS)),
            "waiting": Out(len(UNITS)),
            "empty": Out(len(UNITS)),
            "tokens": Out(data.ArrayLayout(8, len(TOKENS))),
        })

    def elaborate(self, platform):
        m = Module()
        # a register for the way from the units
        done = Signal.like(self.done)
        m.d.sync += done.eq(self.done)
        m.submodules.fetch = fetch = Fetch(self._config)
        wiring.connect(m, fetch.port, wiring.flipped(self.port))
        queues = []
        for u in UNITS:
            queue = Issue(self._config)
            m.submodules[f"queue_{u.name.lower()}"] = queue
            wiring.connect(m, queue.o, wiring.flipped(self.units[u]))
            m.d.comb += [
                queue.done.eq(done[u]),
                queue.halt.eq(~self.busy),
                self.executing[u].eq(queue.executing),
                self.waiting[u].eq(queue.waiting),
                self.empty[u].eq(queue.empty),
            ]
            queues.append(queue)
        m.d.comb += [
            fetch.start.eq(self.start),
            fetch.address.eq(self.address),
            fetch.halt.eq(~self.busy),
        ]

        at_end, unknown = self._dispatch(m, fetch, queues)
        overflow = self._count_tokens(m, queues)
        late = self._watch(m)

        # the program's state
        finished = Signal()
        # a cycle late, when the tokens of the last instruction have been counted
        m.d.sync += finished.eq(at_end & fetch.idle & self.empty.all() & ~self.executing.any())
        with m.If(self.busy):
            m.d.sync += [
                self.errors.timeout.eq(late),
                self.errors.token_overflow.eq(overflow),
                self.errors.unknown_unit.eq(unknown),
                self.errors.bus_error.eq(self.fault),
            ]
            with m.If(late | overflow | unknown | self.fault):
                m.d.sync += self.busy.eq(0)
            with m.Elif(finished):
                m.d.sync += [
                    self.busy.eq(0),
                    self.ended.eq(1),
                    self.tokens_left.eq(self.tokens.as_value().any()),
                ]
        with m.If(self.start):
            m.d.sync += self.busy.eq(1)
        return m

    def _dispatch(self, m, fetch, queues):
        """Route the beats to the queues; returns (END met, unknown unit at hand)."""
        beats = BYTES // self._config.beat_bytes
        codes = [*UNITS, Unit.END]
        position = Signal(range(beats))  # of the next beat in its instruction
        # the beat at hand, and whose it is, one bit per unit: RAM, from where it comes, is slow,
        # and whether a queue takes it is known late
        Beat = data.StructLayout({"bits": self._config.beat_bits, "found": len(codes), "final": 1})
        m.submodules.skid = skid = Skid(Beat)
        beat, valid, move = skid.o.payload, skid.o.valid, skid.o.ready
        coming, found = skid.i.payload, Signal(len(codes), reset_less=True)
        at_end = Signal()
        unknown = Signal()
        m.d.comb += [
            fetch.o.ready.eq(skid.i.ready),
            skid.i.valid.eq(fetch.o.valid),
            coming.bits.eq(fetch.o.payload),
            coming.final.eq(position == beats - 1),
            coming.found.eq(Mux(position == 0, Cat(fetch.o.payload[:4] == c for c in codes),
                                found)),
        ]
        with m.If(fetch.o.valid & fetch.o.ready):
            m.d.sync += [position.eq(position + 1), found.eq(coming.found)]
        # what follows an END is not part of the program
        ready = Cat(queue.i.ready for queue in queues)
        with m.If(self.busy & ~at_end):
            m.d.comb += [
                move.eq(valid & (beat.found & Cat(ready, 1)).any()),
                unknown.eq(valid & ~beat.found.any()),
                self.fetched.eq(move & (beat.final | beat.found[-1])),
            ]
            for queue, mine in zip(queues, beat.found, strict=False):
                m.d.comb += queue.i.valid.eq(valid & mine)
        for queue in queues:
            m.d.comb += queue.i.payload.eq(beat.bits)
        with m.If(move):
            m.d.sync += at_end.eq(beat.found[-1])
        return at_end, unknown

    def _count_tokens(self, m, queues):
        """The twelve counters; returns that one of them overflows."""
        # a token is taken off its counter a cycle late: its queue does not look for another so soon
        overflows, taken = Signal(len(TOKENS)), Signal(len(TOKENS))
        some = Signal(len(TOKENS))  # which are not 0
        for k, (u, v) in enumerate(TOKENS):
            give, take = queues[u].give[v], queues[v].take[u]
            m.d.comb += queues[v].tokens[u].eq(some[k])
            m.d.sync += [
                taken[k].eq(take),
                self.tokens[k].eq(self.tokens[k] + give - taken[k]),
                some[k].eq(give | (self.tokens[k] > 1) | (some[k] & ~taken[k])),
                overflows[k].eq(give & ~take & ~taken[k] & (self.tokens[k] == 255)),
            ]
        return overflows.any()

    def _watch(self, m):
        """Count the cycles without progress; returns that they are too many."""
        events = Signal(1 + 3 * len(UNITS))  # on their way from the units for a cycle
        progress = events.any()
        spare = Signal(32)
        late = Signal()
        starts = Cat(unit.valid & unit.ready for unit in self.units)
        m.d.sync += [
            events.eq(Cat(self.beat, starts, self.done, self.active)),
            spare.eq(Mux(progress | ~self.busy, self.timeout, spare - (spare != 0))),
            late.eq(self.busy & ~progress & (spare == 1)),
        ]
        return late
