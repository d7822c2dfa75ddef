"""Strided transfers between a stream and memory.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.port import Command, ReadPort, WritePort
from gradgate.hw.stage import Skid, registered

__all__ = ["Descriptor", "Bursts", "ReadDMA", "WriteDMA"]


class Descriptor(data.Struct):
    """`n3 x n2 x n1` runs of `len` consecutive beats; run (i3, i2, i1) begins at byte address
    `base + i3*s3 + i2*s2 + i1*s1`.

    All addresses and strides are multiples of the beat; addresses wrap at 2^addr_bits. A count of 0
    makes the transfer empty.
    """

    base: 32
    len: 16
    n1: 16
    s1: signed(32)
    n2: 16
    s2: signed(32)
    n3: 16
    s3: signed(32)


def _passed(m, bursts, cmd, room):
    """Pass bursts on to `cmd` a cycle later, as long as there is `room`; whether one leaves."""
    m.submodules.commands = commands = Skid(Command)
    m.d.comb += [
        bursts.o.ready.eq(commands.i.ready & room),
        commands.i.valid.eq(bursts.o.valid & room),
        commands.i.payload.eq(bursts.o.payload),
    ]
    wiring.connect(m, commands.o, cmd)
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

        # addresses are kept in beats
        byte_bits = self._config.beat_bytes.bit_length() - 1
        low_bits = self._config.max_burst.bit_length() - 1
        place_bits = self._config.addr_bits - byte_bits

        def place(name):
            return Signal(place_bits, name=name, reset_less=True)

        def beats(value):
            return value[byte_bits:self._config.addr_bits]

        # runs: where the current one begins, the first of the innermost loop, of the two inner ones
        run_valid = Signal()
        run_addr, base2, base3 = (place(name) for name in ("run_addr", "base2", "base3"))
        s1, s2, s3 = (place(name) for name in ("s1", "s2", "s3"))
        counts = [Signal(16, name=f"n{level}", reset_less=True) for level in (1, 2, 3)]
        # number of the one after this, from 1; counting up from a constant takes no gates to begin
        following = [Signal(16, name=f"following{level}", init=2, reset_less=True)
                     for level in (1, 2, 3)]
        do_run = Signal()
        once = Signal(3, reset_less=True)  # bit k: counts[k] is 1; comparing takes long
        over = Signal(3, reset_less=True)  # bit k: following[k] is beyond counts[k]
        last_run = over.all()

        def forth(level):
            return [following[level].eq(following[level] + 1),
                    over[level].eq(following[level] == counts[level])]

        def again(level):
            return [following[level].eq(2), over[level].eq(once[level])]

        new = self.start.payload
        sizes = (new.n1, new.n2, new.n3)
        next_addr = Mux(~run_valid, beats(new.base), Mux(
            ~over[0], run_addr + s1, Mux(~over[1], base2 + s2, base3 + s3)))
        # signals of their own, or synthesis makes a choice for each register out of this one
        moves = Signal(3)
        m.d.comb += moves.eq(Cat(~run_valid | do_run, ~run_valid | (do_run & over[0]),
                                 ~run_valid | (do_run & over[:2].all())))
        for move, address in zip(moves, (run_addr, base2, base3), strict=True):
            with m.If(move):
                m.d.sync += address.eq(next_addr)

        with m.If(do_run):
            with m.If(~over[0]):
                m.d.sync += forth(0)
            with m.Else():
                m.d.sync += again(0)
                with m.If(~over[1]):
                    m.d.sync += forth(1)
                with m.Else():
                    m.d.sync += [again(1), forth(2)]
                    with m.If(over[2]):
                        m.d.sync += run_valid.eq(0)

        run_len = Signal(16, reset_less=True)
        run_short, run_single = Signal(reset_less=True), Signal(reset_less=True)
        # written so that they share what they have in common
        several, long = Cat(n[1:].any() for n in sizes), new.len[low_bits + 1:].any()
        odd = Cat(n[0] for n in sizes)
        m.d.comb += self.start.ready.eq(~run_valid)
        with m.If(self.start.ready):
            m.d.sync += [
                s1.eq(beats(new.s1)), s2.eq(beats(new.s2)), s3.eq(beats(new.s3)),
                Cat(counts).eq(Cat(sizes)),
                Cat(once, over).eq((odd & ~several).replicate(2)),
                [number.eq(2) for number in following],
                run_len.eq(new.len),
                run_short.eq(~(new.len[low_bits] | long)),
                run_single.eq(new.len[low_bits] & ~long),
                run_valid.eq(self.start.valid & (new.len[:low_bits + 1].any() | long)
                             & (odd | several).all()),
            ]

        # pieces: runs cut at multiples of max_burst, at ends of blocks. When the last piece of a
        # run is taken and none follows, its registers stay: they tell where the burst ends
        piece_valid = Signal()
        piece_block = Signal(place_bits - low_bits, reset_less=True)
        piece_low = Signal(low_bits, reset_less=True)
        piece_of_last = Signal(reset_less=True)
        do_piece = Signal()
        # the run ends before beat `end` of the block that is blocks + carry blocks further on; of
        # pieces there are as many to come, and one more if `end` is not 0: `ragged`
        end = Signal(low_bits, reset_less=True)
        blocks = Signal(16 - low_bits, reset_less=True)
        carry, ragged = Signal(reset_less=True), Signal(reset_less=True)
        # the rest of the run is one piece; it begins where the burst ends, in the same block: both
        # are known from registers, as comparing so many bits takes long
        final, touches = Signal(reset_less=True), Signal(reset_less=True)
        piece_end = Signal(low_bits + 1)  # the beat behind it, in the block where it begins
        m.d.comb += piece_end.eq(Cat(Mux(final, end, 0)[:low_bits], ~(final & ragged)))

        # a run made while the pieces do not take it waits aside: whether they do is known late
        Run = data.StructLayout({"low": low_bits, "block": len(piece_block), "len": 16, "short": 1,
                                 "single": 1, "last": 1})
        aside_valid = Signal()
        aside, run, chosen = Signal(Run, reset_less=True), Signal(Run), Signal(Run)
        m.d.comb += [
            run.eq(Cat(run_addr, run_len, run_short, run_single, last_run)),
            do_run.eq(run_valid & ~aside_valid),
            chosen.eq(Mux(aside_valid, aside, run)),
        ]
        with m.If(do_run):
            m.d.sync += [aside_valid.eq(1), aside.eq(run)]
        reach = Signal(low_bits + 1)
        over_block, past_block = reach[low_bits], reach[:low_bits].any()
        m.d.comb += reach.eq(chosen.low + chosen.len[:low_bits])
        # `do_piece` comes late: what it chooses from is there before
        begins, some = ~piece_valid | final, run_valid | aside_valid
        with m.If(~piece_valid | (do_piece & final)):
            m.d.sync += [aside_valid.eq(0), piece_valid.eq(some)]
            with m.If(some):
                m.d.sync += [piece_of_last.eq(chosen.last), end.eq(reach),
                             ragged.eq(past_block)]
        with m.If((~piece_valid | do_piece) & (~begins | some)):
            m.d.sync += [
                Cat(piece_low, piece_block).eq(Mux(begins, Cat(chosen.low, chosen.block),
                                                   Cat(Const(0, low_bits), piece_block + 1))),
                blocks.eq(Mux(begins, chosen.len[low_bits:], blocks - ~carry)),
                carry.eq(begins & over_block),
                final.eq(Mux(begins, (chosen.short & ~(over_block & past_block))
                             | (chosen.single & ~over_block & ~past_block),
                             Mux(carry & ragged, blocks == 0,
                                 Mux(carry | ragged, blocks == 1, blocks == 2)))),
                touches.eq(begins & (chosen.block == piece_block) & (chosen.low == piece_end)),
            ]

        # bursts: pieces that touch within a block, joined
        burst_valid = Signal()
        burst_block = Signal.like(piece_block)
        burst_low = Signal.like(piece_low)
        burst_len = Signal(low_bits + 1, reset_less=True)
        burst_last = Signal(reset_less=True)
        full = Signal(reset_less=True)
        joins = Signal()
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
            m.d.sync += [full.eq(piece_end[low_bits]), burst_last.eq(piece_of_last),
                         self.last.eq(piece_of_last & final),
                         burst_len.eq(piece_end - Mux(joins, burst_low, piece_low))]
            with m.If(~joins):
                m.d.sync += [burst_block.eq(piece_block), burst_low.eq(piece_low)]

        return m


class ReadDMA(wiring.Component):
    """Reads the runs of each descriptor as one stream, ahead of the consumer.

    First command 4 cycles after `start`, two more while `port` takes none; one beat per cycle, or
    one run per cycle if its beats are fewer; a beat from memory is on `o` 4 cycles later. Up to
    `max(2*max_burst, 64)` beats are asked for or held before the consumer takes them. No
    multipliers; a RAM of that many beats.

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
        end, freed = registered(m, fifo, "end")
        wiring.connect(m, end, wiring.flipped(self.o))

        # a command takes the room for all its beats; asking for that of the longest is one gate
        free = Signal(range(depth + 1), init=depth)
        asks = _passed(m, bursts, wiring.flipped(self.port.cmd), free >= self._config.max_burst)
        m.d.sync += free.eq(free + freed - Mux(asks, bursts.o.payload.len, 0))

        return m


class WriteDMA(wiring.Component):
    """Writes a stream to the runs of each descriptor, a burst whenever all its beats are held.

    One beat per cycle. The command of a burst comes 2 cycles after its last beat on `i`, if the
    port has taken those before, of which two may wait; its first beat 1 cycle after the command is
    taken, but not within 3 cycles of its own arrival; `done` in the cycle after the last
    acknowledgement. The stream may run `room` beats ahead, of descriptors still to come too. Up to
    `QUEUE` descriptors wait for acknowledgements while later ones are at work. No multipliers; a
    RAM of `room + 1` beats.

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
    QUEUE = 7  # descriptors that are issued and not done; one more when they come in a row

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
        m.submodules.ends = ends = SyncFIFO(width=len(issued), depth=self.QUEUE + 1)
        # whether there is room is known from a register, a cycle late
        ends_room = Signal(init=1)
        m.d.sync += ends_room.eq(ends.w_level < self.QUEUE)

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
            self.start.ready.eq(known & Mux(empty, ~bursts.busy & ends_room, bursts.start.ready)),
            do_empty.eq(known & empty & self.start.ready),
        ]

        # beats held that no command has claimed, beats claimed whose command has been taken
        held = Signal(range(depth + 2))
        claimed = Signal(range(depth + 2))
        pending = Signal(range(self.OUTSTANDING + 1))
        cmd = self.port.cmd
        burst = bursts.o.payload
        do_burst = _passed(m, bursts, wiring.flipped(cmd), (held >= burst.len) & ends_room
                           & (pending != self.OUTSTANDING))
        do_cmd = cmd.valid & cmd.ready

        end, _ = registered(m, fifo, "end")
        do_beat = self.port.data.valid & self.port.data.ready
        some_claimed = Signal()  # that it is not 0, as much depends on it
        m.d.comb += [
            self.port.data.valid.eq(end.valid & some_claimed),
            self.port.data.payload.eq(end.payload),
            end.ready.eq(do_beat),
            self.left.eq(do_beat),
        ]
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
