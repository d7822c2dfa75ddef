"""Strided transfers between a stream and memory.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.port import Command, ReadPort, WritePort

__all__ = ["Descriptor", "Bursts", "ReadDMA", "WriteDMA"]


class Descriptor(data.Struct):
    """`n3 x n2 x n1` runs of `len` consecutive beats; run (i3, i2, i1) begins at byte address
    `base + i3*s3 + i2*s2 + i1*s1`.

    All addresses and strides are multiples of the beat. A count of 0 makes the transfer empty.
    """

    base: 32
    len: 16
    n1: 16
    s1: signed(32)
    n2: 16
    s2: signed(32)
    n3: 16
    s3: signed(32)


def _registered(m, fifo, valid, payload, taken):
    """Put the end of `fifo` in registers, as RAM is slow; return whether a beat leaves the RAM.

    There are two, so that what leaves the RAM does not depend on `taken` in the same cycle.
    """
    beat, behind = (Signal(len(fifo.r_data), name=name, reset_less=True)
                    for name in ("beat", "behind"))
    both = Signal()
    moves = fifo.r_rdy & fifo.r_en
    m.d.comb += [fifo.r_en.eq(~both), payload.eq(beat)]
    with m.If(~both):
        m.d.sync += behind.eq(fifo.r_data)
    with m.If(~valid | taken):
        m.d.sync += [valid.eq(both | moves), beat.eq(Mux(both, behind, fifo.r_data)), both.eq(0)]
    with m.Elif(moves):
        m.d.sync += both.eq(1)
    return moves


def _queued(m, bursts, cmd, room):
    """Pass bursts on to `cmd` a cycle later, as long as there is `room`; whether one leaves.

    Two of them wait, so that nothing here depends on `cmd.ready` in the same cycle: it comes late.
    """
    m.submodules.commands = commands = SyncFIFO(width=Command.as_shape().size, depth=2)
    m.d.comb += [
        bursts.o.ready.eq(commands.w_rdy & room),
        commands.w_data.eq(bursts.o.payload),
        commands.w_en.eq(bursts.o.valid & room),
        cmd.valid.eq(commands.r_rdy),
        cmd.payload.eq(commands.r_data),
        commands.r_en.eq(cmd.ready),
    ]
    return bursts.o.valid & bursts.o.ready


class Bursts(wiring.Component):
    """Cuts the runs of a descriptor into bursts, and joins runs that touch.

    No burst crosses a multiple of max_burst beats, hence none crosses 4 KiB. A run whose beats
    follow those of the run before it shares its burst.

    First burst 3 cycles after `start`; then one run, or one burst of a long run, per cycle, and two
    more cycles per descriptor. No multipliers, no RAM.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : In(stream.Signature(Descriptor))
    o : Out(stream.Signature(Command))
    last : Out(1)
        The burst on `o` is the last one of its descriptor.
    busy : Out(1)
        A descriptor is in work: some of its bursts have not been taken.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        super().__init__({
            "start": In(stream.Signature(Descriptor)),
            "o": Out(stream.Signature(Command)),
            "last": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        byte_bits = self._config.beat_bytes.bit_length() - 1
        low_bits = self._config.max_burst.bit_length() - 1

        # runs
        loops = Signal(Descriptor, reset_less=True)
        run_valid = Signal()
        run_addr = Signal(32, reset_less=True)
        base2 = Signal(32, reset_less=True)
        base3 = Signal(32, reset_less=True)
        left = [Signal(16, name=f"left{level}", reset_less=True) for level in (1, 2, 3)]
        counts = (loops.n1, loops.n2, loops.n3)
        do_run = Signal()
        over = Signal(3, reset_less=True)  # bit k: left[k] is 0; comparing takes long
        last_run = over.all()

        def down(level):
            return [left[level].eq(left[level] - 1), over[level].eq(left[level] == 1)]

        def again(level):
            return [left[level].eq(counts[level] - 1), over[level].eq(counts[level] == 1)]

        with m.If(do_run):
            with m.If(~over[0]):
                m.d.sync += [run_addr.eq(run_addr + loops.s1), down(0)]
            with m.Else():
                m.d.sync += again(0)
                with m.If(~over[1]):
                    step2 = base2 + loops.s2
                    m.d.sync += [run_addr.eq(step2), base2.eq(step2), down(1)]
                with m.Else():
                    step3 = base3 + loops.s3
                    m.d.sync += [run_addr.eq(step3), base2.eq(step3), base3.eq(step3)]
                    m.d.sync += [again(1), down(2)]
                    with m.If(over[2]):
                        m.d.sync += run_valid.eq(0)

        new = self.start.payload
        sizes = (new.n1, new.n2, new.n3)
        m.d.comb += self.start.ready.eq(~run_valid)
        with m.If(self.start.ready):
            m.d.sync += loops.eq(new)
            m.d.sync += [address.eq(new.base) for address in (run_addr, base2, base3)]
            m.d.sync += [count.eq(n - 1) for count, n in zip(left, sizes, strict=True)]
            m.d.sync += over.eq(Cat(n == 1 for n in sizes))
            m.d.sync += run_valid.eq(self.start.valid & new.len.any() & new.n1.any()
                                     & new.n2.any() & new.n3.any())

        # pieces: runs cut at multiples of max_burst; lengths are one less than the number of beats
        piece_valid = Signal()
        piece_block = Signal(32 - byte_bits - low_bits, reset_less=True)
        piece_low = Signal(low_bits, reset_less=True)
        piece_left = Signal(16, reset_less=True)
        piece_of_last = Signal(reset_less=True)
        do_piece = Signal()
        room = (~piece_low)[:low_bits] if low_bits else Const(0, 1)
        # the rest of the run is one piece; it begins where the burst ends, in the same block: both
        # are known from registers, as comparing so many bits takes long
        final, touches = Signal(reset_less=True), Signal(reset_less=True)
        length = Signal(low_bits)
        rest = (piece_left - room - 1)[:16]
        m.d.comb += length.eq(Mux(final, piece_left, room))

        with m.If(do_piece):
            m.d.sync += [piece_block.eq(piece_block + 1), piece_low.eq(0), touches.eq(0)]
            m.d.sync += [piece_left.eq(rest), final.eq(~rest[low_bits:].any())]

        # a run made while the pieces do not take it waits aside: whether they do is known late
        Run = data.StructLayout({"low": low_bits, "block": len(piece_block), "left": 16, "last": 1})
        aside_valid = Signal()
        aside, run, chosen = Signal(Run, reset_less=True), Signal(Run), Signal(Run)
        m.d.comb += [
            Cat(run.low, run.block).eq(run_addr[byte_bits:]),
            run.left.eq(loops.len - 1),
            run.last.eq(last_run),
            do_run.eq(run_valid & ~aside_valid),
            chosen.eq(Mux(aside_valid, aside, run)),
        ]
        with m.If(do_run):
            m.d.sync += [aside_valid.eq(1), aside.eq(run)]
        burst_block = Signal.like(piece_block)
        burst_end = Signal(low_bits + 1, reset_less=True)
        piece_end = piece_low + length + 1
        with m.If(~piece_valid | (do_piece & final)):
            m.d.sync += [
                aside_valid.eq(0),
                piece_valid.eq(run_valid | aside_valid),
                Cat(piece_low, piece_block, piece_left, piece_of_last).eq(chosen),
                final.eq((chosen.low + chosen.left) >> low_bits == 0),
                touches.eq(Mux(piece_valid,
                               (chosen.block == piece_block) & (chosen.low == piece_end),
                               (chosen.block == burst_block) & (chosen.low == burst_end))),
            ]

        # bursts: pieces that touch within a block, joined
        burst_valid = Signal()
        burst_low = Signal.like(piece_low)
        burst_len = Signal(9, reset_less=True)
        burst_last = Signal(reset_less=True)
        joins = Signal()
        full = burst_end[low_bits]
        m.d.comb += [
            joins.eq(burst_valid & ~burst_last & touches),
            self.o.valid.eq(burst_valid & (burst_last | full | (piece_valid & ~joins))),
            self.o.payload.addr.eq(Cat(Const(0, byte_bits), burst_low, burst_block)),
            self.o.payload.len.eq(burst_len),
            do_piece.eq(piece_valid & (~burst_valid | joins | (self.o.valid & self.o.ready))),
            self.busy.eq(run_valid | aside_valid | piece_valid | burst_valid),
        ]

        with m.If(self.o.valid & self.o.ready):
            m.d.sync += burst_valid.eq(0)
        with m.If(do_piece):
            m.d.sync += burst_valid.eq(1)
            m.d.sync += [burst_end.eq(piece_end), burst_last.eq(piece_of_last),
                         self.last.eq(piece_of_last & final)]
            m.d.sync += burst_len.eq(Mux(joins, burst_len, 0) + length + 1)
            with m.If(~joins):
                m.d.sync += [burst_block.eq(piece_block), burst_low.eq(piece_low)]

        return m


class ReadDMA(wiring.Component):
    """Reads the runs of each descriptor as one stream, ahead of the consumer.

    First command 4 cycles after `start`, two more while `port` takes none; one beat per cycle, or
    one run per cycle if its beats are fewer; a beat from memory is on `o` 4 cycles later. Up to
    `max(2*max_burst, 64)` beats are asked for or held before the consumer takes them. No
    multipliers; a RAM of that many beats, and one of two commands.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : In(stream.Signature(Descriptor))
        Taken when all bursts of the one before are on their way; beats stay in order.
    o : Out(stream.Signature(beat_bits))
    port : Out(ReadPort(beat_bits))

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        super().__init__({
            "start": In(stream.Signature(Descriptor)),
            "o": Out(stream.Signature(config.beat_bits)),
            "port": Out(ReadPort(config.beat_bits)),
        })

    def elaborate(self, platform):
        m = Module()

        # two bursts, one moving while the other is taken; never so few that latency shows
        depth = max(2 * self._config.max_burst, 64)
        m.submodules.bursts = bursts = Bursts(self._config)
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=self._config.beat_bits, depth=depth)
        wiring.connect(m, wiring.flipped(self.start), bursts.start)
        # there is room for all that was asked for; the way from memory takes a cycle
        arrives, arrived = Signal(), Signal(self._config.beat_bits, reset_less=True)
        m.d.sync += [arrives.eq(self.port.data.valid), arrived.eq(self.port.data.payload)]
        m.d.comb += [fifo.w_data.eq(arrived), fifo.w_en.eq(arrives), self.port.data.ready.eq(1)]
        freed = _registered(m, fifo, self.o.valid, self.o.payload, self.o.ready)

        # a command takes the room for all its beats; asking for that of the longest is one gate
        free = Signal(range(depth + 1), init=depth)
        asks = _queued(m, bursts, self.port.cmd, free >= self._config.max_burst)
        m.d.sync += free.eq(free + freed - Mux(asks, bursts.o.payload.len, 0))

        return m


class WriteDMA(wiring.Component):
    """Writes a stream to the runs of each descriptor, a burst whenever all its beats are held.

    One beat per cycle. The command of a burst comes 2 cycles after its last beat on `i`, if the
    port has taken those before, of which two may wait; its first beat 1 cycle after the command is
    taken, but not within 3 cycles of its own arrival; `done` in the cycle after the last
    acknowledgement. The stream may run `room` beats ahead, of descriptors still to come too. Up to
    `QUEUE` descriptors wait for acknowledgements while later ones are at work. No multipliers; a
    RAM of `room + 1` beats, and one of two commands.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : In(stream.Signature(Descriptor))
        Taken one cycle after it is offered at the earliest, when all runs of the one before have
        been cut into bursts, the last few of which may still wait; an empty one when all bursts
        before it have been issued.
    i : In(stream.Signature(beat_bits))
    left : Out(1)
        A beat has left for memory: there is room for another one.
    port : Out(WritePort(beat_bits))
    done : Out(1)
        One cycle high per descriptor, in order: all its bursts are acknowledged, all of those
        before too.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    OUTSTANDING = 63  # bursts not acknowledged, at most
    QUEUE = 8

    def __init__(self, config):
        check_config(config)
        self._config = config
        super().__init__({
            "start": In(stream.Signature(Descriptor)),
            "i": In(stream.Signature(config.beat_bits)),
            "left": Out(1),
            "port": Out(WritePort(config.beat_bits)),
            "done": Out(1),
        })

    @property
    def room(self):
        """Beats that `i` takes at once when nothing is held."""
        # one burst moving, one being made, and as many again while memory is busy elsewhere
        return max(4 * self._config.max_burst, 64) - 1

    def elaborate(self, platform):
        m = Module()

        depth = self.room + 1
        m.submodules.bursts = bursts = Bursts(self._config)
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=self._config.beat_bits, depth=depth)
        wiring.connect(m, wiring.flipped(self.i), fifo.w_stream)

        # what ends when how many bursts are acknowledged; numbers wrap, far above their distance
        number = range(2 * (self.OUTSTANDING + 1))
        issued, acked = Signal(number), Signal(number)
        m.submodules.ends = ends = SyncFIFO(width=len(issued), depth=self.QUEUE)

        # an empty descriptor makes no burst: its turn is when there is none left of the others;
        # that it is empty is known a cycle late, as it takes many bits to tell
        new = self.start.payload
        known, empty = Signal(), Signal(reset_less=True)
        do_empty = Signal()
        m.d.sync += [known.eq(self.start.valid & ~self.start.ready),
                     empty.eq(~(new.len.any() & new.n1.any() & new.n2.any() & new.n3.any()))]
        m.d.comb += [
            bursts.start.payload.eq(new),
            bursts.start.valid.eq(known & ~empty),
            self.start.ready.eq(known & Mux(empty, ~bursts.busy & ends.w_rdy, bursts.start.ready)),
            do_empty.eq(known & empty & self.start.ready),
        ]

        # beats held that no command has claimed, beats claimed whose command has been taken
        held = Signal(range(depth + 2))
        claimed = Signal(range(depth + 2))
        pending = Signal(range(self.OUTSTANDING + 1))
        cmd = self.port.cmd
        burst = bursts.o.payload
        do_burst = _queued(m, bursts, cmd, (held >= burst.len) & ends.w_rdy
                           & (pending != self.OUTSTANDING))
        do_cmd = cmd.valid & cmd.ready

        ready = Signal()
        do_beat = self.port.data.valid & self.port.data.ready
        _registered(m, fifo, ready, self.port.data.payload, do_beat)
        some_claimed = Signal()  # that it is not 0, as much depends on it
        m.d.comb += [self.port.data.valid.eq(ready & some_claimed), self.left.eq(do_beat)]
        # what comes late chooses among sums that are there before
        following, left = (issued + 1)[:len(issued)], claimed - do_beat
        m.d.sync += [
            held.eq(held + (self.i.valid & self.i.ready) - Mux(do_burst, burst.len, 0)),
            claimed.eq(Mux(do_cmd, left + cmd.payload.len, left)),
            some_claimed.eq(do_cmd | (claimed > 1) | (some_claimed & ~do_beat)),
            pending.eq(pending + do_burst - self.port.ack),
            issued.eq(Mux(do_burst, following, issued)),
            acked.eq(acked + self.port.ack),
        ]

        m.d.comb += [
            ends.w_en.eq((do_burst & bursts.last) | do_empty),
            ends.w_data.eq(Mux(do_burst, following, issued)),
            self.done.eq(ends.r_rdy & ~(acked - ends.r_data)[len(acked) - 1]),
            ends.r_en.eq(self.done),
        ]
        return m
