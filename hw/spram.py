"""The memory of an iCE40UP5K: its four single-port RAMs of 32 KiB behind a burst port.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.port import ReadPort, WritePort

__all__ = ["SPRAM", "SPRAMBlock"]


class SPRAMBlock(wiring.Component):
    """One SB_SPRAM256KA: 16,384 words of 16 bits, a read or a write in a cycle.

    Without a platform its portable twin, equal to the bit where `r_data` counts: from the cycle
    after a read until the next access. At first the words are undefined. One SPRAM; for an ECP5 it
    is the twin, in 16 block RAMs.

    Members
    -------
    en : In(1)
        Access: read, or write if `write`.
    write : In(1)
    addr : In(14)
    w_data : In(16)
    r_data : Out(16)
        Of a read in the cycle before; after a write undefined.
    """

    WIDTH, DEPTH = 16, 1 << 14

    en: In(1)
    write: In(1)
    addr: In(14)
    w_data: In(16)
    r_data: Out(16)

    def elaborate(self, platform):
        m = Module()
        if platform is not None and getattr(platform, "family", None) != "ecp5":
            m.submodules.primitive = Instance(
                "SB_SPRAM256KA",
                i_CLOCK=ClockSignal(), i_CHIPSELECT=self.en, i_WREN=self.write,
                i_MASKWREN=Const(0b1111, 4), i_ADDRESS=self.addr, i_DATAIN=self.w_data,
                o_DATAOUT=self.r_data,
                i_STANDBY=Const(0), i_SLEEP=Const(0), i_POWEROFF=Const(1))  # active low
            return m
        m.submodules.words = words = Memory(shape=self.WIDTH, depth=self.DEPTH, init=[])
        w_port, r_port = words.write_port(), words.read_port()
        m.d.comb += [
            w_port.en.eq(self.en & self.write),
            w_port.addr.eq(self.addr),
            w_port.data.eq(self.w_data),
            r_port.en.eq(self.en & ~self.write),
            r_port.addr.eq(self.addr),
            self.r_data.eq(r_port.data),
        ]
        return m


class SPRAM(wiring.Component):
    """128 KiB in four SPRAMBlocks, one beat read or written in a cycle.

    With beats of 64 bits the four lie side by side. With beats of 32 bits, all that an array of two
    rows can take, they are two pairs, one above the other: a pair whose half of memory is not meant
    is not enabled and draws no power, while words of 64 bits would read, and throw away, two blocks
    with every beat.

    The first beat of a read comes 3 cycles after its command is taken, then one in every cycle,
    also from burst to burst. A beat to be written goes before one to be read; a burst is
    acknowledged in the cycle after its last beat, and a read sees it from then on. While a beat
    read waits to be taken nothing else is done: readers have room for what they ask. No multipliers
    and no block RAM.

    Parameters
    ----------
    config : Config

    Members
    -------
    read : In(ReadPort(beat_bits))
    write : In(WritePort(beat_bits))
    error : Out(1)
        One cycle high per command to where there is no memory: beats read there are those of some
        other place, beats written are dropped.

    Raises
    ------
    TypeError
        `config` is not a Config.
    ValueError
        Its beats have neither 32 nor 64 bits.
    """

    SIZE = 128 << 10  # bytes
    LATENCY = 3

    def __init__(self, config):
        check_config(config)
        if config.beat_bits not in (32, 64):
            raise ValueError(f"beat_bits must be 32 or 64, not {config.beat_bits!r}")
        self._config = config
        super().__init__({
            "read": In(ReadPort(config.beat_bits)),
            "write": In(WritePort(config.beat_bits)),
            "error": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, read, write = self._config, self.read, self.write
        width = config.beat_bits // SPRAMBlock.WIDTH  # blocks side by side
        rows = 4 // width
        beats = range(rows * SPRAMBlock.DEPTH)
        shift = config.beat_bytes.bit_length() - 1

        # bursts under way: the next beat of each direction, and how many are left
        r_addr, w_addr = Signal(beats, reset_less=True), Signal(beats, reset_less=True)
        r_left, w_left = Signal(range(config.max_burst + 1)), Signal(range(config.max_burst + 1))
        w_there = Signal(reset_less=True)  # the burst is to where memory is
        do_read, do_write, stop = Signal(), Signal(), Signal()
        faults = []
        for port, addr, left, do in ((read, r_addr, r_left, do_read),
                                     (write, w_addr, w_left, do_write)):
            with m.If(do):
                m.d.sync += [addr.eq(addr + 1), left.eq(left - 1)]
            m.d.comb += port.cmd.ready.eq((left == 0) | (do & (left == 1)))
            fault = port.cmd.payload.addr >= self.SIZE
            faults.append(port.cmd.valid & port.cmd.ready & fault)
            with m.If(port.cmd.valid & port.cmd.ready):
                m.d.sync += [addr.eq(port.cmd.payload.addr >> shift), left.eq(port.cmd.payload.len)]
                if port is write:
                    m.d.sync += w_there.eq(~fault)
        m.d.sync += [self.error.eq(Cat(faults).any()), write.ack.eq(do_write & (w_left == 1))]

        # whose turn it is
        m.d.comb += [
            write.data.ready.eq((w_left != 0) & ~stop),
            do_write.eq(write.data.valid & write.data.ready),
            do_read.eq((r_left != 0) & ~stop & ~do_write),
        ]

        # the blocks: `row` of them is meant
        addr = Signal(beats)
        row, r_row = Signal(range(rows)), Signal(range(rows), reset_less=True)
        words = []
        m.d.comb += [addr.eq(Mux(do_write, w_addr, r_addr)), row.eq(addr >> 14)]
        for y in range(rows):
            word = []
            for x in range(width):
                m.submodules[f"block{y}_{x}"] = block = SPRAMBlock()
                m.d.comb += [
                    block.en.eq((do_read | (do_write & w_there)) & (row == y)),
                    block.write.eq(do_write),
                    block.addr.eq(addr),
                    block.w_data.eq(write.data.payload.word_select(x, SPRAMBlock.WIDTH)),
                ]
                word.append(block.r_data)
            words.append(Cat(word))

        # beats read: out of a block in the cycle after, in a register from the one after that
        reading = Signal()
        m.d.comb += stop.eq(reading & read.data.valid & ~read.data.ready)
        with m.If(~stop):
            m.d.sync += reading.eq(do_read)
        with m.If(do_read):
            m.d.sync += r_row.eq(row)
        with m.If(~read.data.valid | read.data.ready):
            m.d.sync += [
                read.data.valid.eq(reading),
                read.data.payload.eq(words[0] if rows == 1 else Mux(r_row, words[1], words[0])),
            ]
        return m
