"""The burst port as a native port of LiteDRAM.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.port import Command, ReadPort, WritePort
from gradgate.hw.stage import Skid

__all__ = ["LiteDRAMPort"]


class LiteDRAMPort(wiring.Component):
    """Turns bursts into single words of LiteDRAM's native port, one command per cycle.

    Bursts that read and bursts that write take turns when both are waiting; a burst goes to its end
    before another begins, without a gap. Beats to be written are taken at once, up to `DEPTH - 1`,
    and no word of a beat is announced before the beat is here, as LiteDRAM takes words without
    asking. Beats read find room, as no beat is asked for that does not.

    The first command leaves 3 cycles after that of the burst is taken, or after its first beat if
    it writes; a beat read is on `read.data` 1 cycle after its last word; `ack` comes 1 cycle after
    the last word that LiteDRAM takes, so what is read from then on is what was written. No
    multipliers; RAMs of `DEPTH` beats in either direction, and of `QUEUE` commands.

    Parameters
    ----------
    config : Config
        Its beats are at least two words.
    word_bits : int
        Width of the native port: a power of two, at least 8.
    addr_bits : int
        Of the address of a word on the native port: the size of the memory.

    Members
    -------
    read : In(ReadPort(beat_bits))
    write : In(WritePort(beat_bits))
    error : Out(1)
        One cycle high per burst outside of the memory, which reads something else or writes
        nothing, and is otherwise treated as any other.
    cmd_*, wdata_*, rdata_*
        The native port, with LiteDRAM's names.

    Raises
    ------
    TypeError
        `config` is not a Config.
    ValueError
        A beat is not two words or more; `word_bits` is no power of two of at least 8.
    """

    DEPTH = 16
    QUEUE = 4

    def __init__(self, config, *, word_bits=16, addr_bits=24):
        check_config(config)
        if word_bits < 8 or word_bits & (word_bits - 1):
            raise ValueError(f"word_bits must be a power of two of at least 8, not {word_bits!r}")
        if config.beat_bits < 2 * word_bits:
            raise ValueError(f"beat_bits must be at least two words of {word_bits} bits, "
                             f"not {config.beat_bits!r}")
        self._config, self._word_bits, self._addr_bits = config, word_bits, addr_bits
        super().__init__({
            "read": In(ReadPort(config.beat_bits)), "write": In(WritePort(config.beat_bits)),
            "error": Out(1),
            "cmd_valid": Out(1), "cmd_ready": In(1), "cmd_we": Out(1), "cmd_addr": Out(addr_bits),
            "wdata_valid": Out(1), "wdata_ready": In(1), "wdata_we": Out(word_bits // 8),
            "wdata_data": Out(word_bits),
            "rdata_valid": In(1), "rdata_ready": Out(1), "rdata_data": In(word_bits),
        })

    def elaborate(self, platform):
        m = Module()

        beat_bits, word_bits = self._config.beat_bits, self._word_bits
        words = beat_bits // word_bits
        low_bits = words.bit_length() - 1  # of a word's address: which of its beat
        byte_bits = word_bits.bit_length() - 4

        # commands wait here, so that the way to the initiators is short
        def queue(cmd):
            fifo = SyncFIFO(width=Command.as_shape().size, depth=self.QUEUE)
            m.d.comb += [fifo.w_data.eq(cmd.payload), fifo.w_en.eq(cmd.valid),
                         cmd.ready.eq(fifo.w_rdy)]
            return fifo

        m.submodules.reads = reads = queue(self.read.cmd)
        m.submodules.writes = writes = queue(self.write.cmd)

        # what LiteDRAM answers to a command takes it a while: it does not reach further than here
        m.submodules.commands = commands = Skid(1 + self._addr_bits)
        m.d.comb += [
            Cat(self.cmd_we, self.cmd_addr).eq(commands.o.payload),
            self.cmd_valid.eq(commands.o.valid), commands.o.ready.eq(self.cmd_ready),
        ]

        # words of the burst at hand
        we, addr = Signal(), Signal(self._addr_bits, reset_less=True)
        active = Signal()
        left = Signal(9, reset_less=True)  # beats after this one
        outside = Signal()
        held = Signal(range(self.DEPTH + 1))  # beats to be written, not announced
        room = Signal(range(self.DEPTH + 1), init=self.DEPTH)  # beats that may be asked for
        begins, ends = Signal(), Signal()  # a command of the first, the last word of a beat
        do_cmd = Signal()
        # as much depends on a command in its cycle: what it is, and whether there is some of either
        first, final, final_beat = (Signal(name=name, reset_less=True)
                                    for name in ("first", "final", "final_beat"))
        some_held, some_room = Signal(), Signal(init=1)
        m.d.comb += [
            commands.i.payload.eq(Cat(we, addr)),
            commands.i.valid.eq(active & (~first | Mux(we, some_held, some_room))),
            do_cmd.eq(commands.i.valid & commands.i.ready),
            begins.eq(do_cmd & first),
            ends.eq(do_cmd & final),
        ]
        with m.If(do_cmd):
            following = (addr + 1)[:len(addr)]
            m.d.sync += [addr.eq(following), first.eq(final),
                         final.eq(following[:low_bits].all())]
        with m.If(ends):
            m.d.sync += [left.eq(left - 1), final_beat.eq(left == 1)]

        # the next burst: of the other direction if there is one
        over, beyond = Signal(), Signal()
        chosen = Signal(Command)
        may_write = writes.r_rdy & some_held
        some = reads.r_rdy | may_write
        do_write = may_write & ~(we & reads.r_rdy)
        m.d.comb += [
            over.eq(~active | (ends & final_beat)),
            chosen.eq(Mux(do_write, writes.r_data, reads.r_data)),
            beyond.eq(chosen.addr[byte_bits + self._addr_bits:].any()),
            writes.r_en.eq(over & do_write),
            reads.r_en.eq(over & ~do_write),
        ]
        with m.If(over):
            m.d.sync += [
                active.eq(some),
                we.eq(Mux(some, do_write, we)),
                addr.eq(chosen.addr[byte_bits:]),
                outside.eq(beyond),
                left.eq(chosen.len - 1),
                final_beat.eq(chosen.len == 1),
                first.eq(1), final.eq(0),
            ]
        m.d.sync += self.error.eq(over & some & beyond)

        # words to be written: the beat at hand is shifted out
        m.submodules.beats = beats = SyncFIFO(width=beat_bits, depth=self.DEPTH)
        # whether there is room is known from a register, a cycle late
        space = Signal(init=1)
        m.d.sync += space.eq(beats.w_level < self.DEPTH - 1)
        m.d.comb += [beats.w_data.eq(self.write.data.payload),
                     beats.w_en.eq(self.write.data.valid & space),
                     self.write.data.ready.eq(space)]
        beat = Signal(beat_bits, reset_less=True)
        sent = Signal(low_bits)
        do_word = Signal()
        last_word = do_word & sent.all()
        m.d.comb += [
            do_word.eq(self.wdata_ready & self.wdata_valid),
            beats.r_en.eq(~self.wdata_valid | last_word),
            self.wdata_data.eq(beat[:word_bits]),
        ]
        with m.If(do_word):
            m.d.sync += [sent.eq(sent + 1), beat.eq(beat >> word_bits)]
        with m.If(beats.r_en):
            m.d.sync += [self.wdata_valid.eq(beats.r_rdy), beat.eq(beats.r_data)]

        # of each beat announced: it is the last one of its burst, there is a place for it
        m.submodules.notes = notes = SyncFIFO(width=2, depth=self.DEPTH)
        last, inside = notes.r_data
        m.d.comb += [
            notes.w_data.eq(Cat(final_beat, ~outside)),
            notes.w_en.eq(begins & we),
            notes.r_en.eq(last_word),
            self.wdata_we.eq(inside.replicate(len(self.wdata_we))),
        ]
        m.d.sync += self.write.ack.eq(last_word & last)

        # words read, the first one lowest
        m.submodules.out = out = SyncFIFO(width=beat_bits, depth=self.DEPTH)
        wiring.connect(m, out.r_stream, wiring.flipped(self.read.data))
        gathered = Signal(beat_bits - word_bits, reset_less=True)
        received = Signal(low_bits)
        m.d.comb += [
            self.rdata_ready.eq(1),
            out.w_data.eq(Cat(gathered, self.rdata_data)),
            out.w_en.eq(self.rdata_valid & received.all()),
        ]
        with m.If(self.rdata_valid):
            m.d.sync += [received.eq(received + 1), gathered.eq(out.w_data[word_bits:])]

        stored = self.write.data.valid & self.write.data.ready
        taken = self.read.data.valid & self.read.data.ready
        for count, some, more, less in ((held, some_held, stored, begins & we),
                                        (room, some_room, taken, begins & ~we)):
            m.d.sync += [count.eq(count + more - less),
                         some.eq(more | (count > 1) | (some & ~less))]
        return m
