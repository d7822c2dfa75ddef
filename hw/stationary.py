"""The stationary sequencer of the compute unit: one tile of buffer A per sweep."""

from types import SimpleNamespace

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw import isa
from gradgate.hw.walker import Walker

__all__ = ["Sweep", "Fill", "Beside", "Stationary", "fields"]


def fields(layout, word):
    """The fields of `layout` (a table of hw/isa.py) in the instruction `word`, as a namespace."""
    def slice_of(field):
        value = word[32 * field.word + field.lo:][:field.width]
        return value.as_signed() if field.signed else value
    return SimpleNamespace(**{name: slice_of(field) for name, field in layout.items()})


class Sweep(data.StructLayout):
    """What the moving sequencer has to know about one sweep or chunk.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config):
        super().__init__({
            "insn": 32 * isa.WORDS,
            "base": 16,  # B address of the first moving vector; 0 in weight-gradient mode
            "lanes": data.ArrayLayout(16, config.tn),  # added to it; 0 in convolution mode
            "tag": 7,
            "head": 1,  # first of its instruction
            "tail": 1,  # last of its instruction
        })


class Fill(data.StructLayout):
    """One row of the stationary tile, on its way from buffer A to the array.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config):
        super().__init__({
            "row": range(config.tm),
            "limit": range(config.tn + 1),  # lanes from here on are 0
            "ident": 1,
        })


class Beside(data.Struct):
    """A channel vector that the moving sequencer wants from buffer A, at `addr + offset`."""

    en: 1
    addr: 16
    offset: 16


class LaneAddresses(wiring.Component):
    """One address per lane, made in Tn - 1 cycles after `load` or `following`.

    a_pix: (i mod al_n)*al0 + floor(i / al_n)*al1. Weight-gradient mode: the address in buffer B of
    pixel i of the chunk; `following` goes on to the next chunk. No multipliers, no RAM.

    Parameters
    ----------
    config : Config

    Members
    -------
    new, now : In(512)
        The instruction; `new` looked at with `load`, `now` after that.
    load, following : In(1)
    ready : Out(1)
    o : Out(ArrayLayout(16, Tn))
    """

    def __init__(self, config):
        self._config = config
        word = 32 * isa.WORDS
        super().__init__({"new": In(word), "now": In(word), "load": In(1), "following": In(1),
                          "ready": Out(1), "o": Out(data.ArrayLayout(16, config.tn))})

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        tn = self.config.tn
        new, now = fields(isa.COMPUTE, self.new), fields(isa.COMPUTE, self.now)

        m.submodules.walker = walker = Walker([16, 16, None], {"address": 16})
        m.d.comb += [
            walker.load.eq(self.load),
            walker.n0.eq(Mux(new.dw, new.q0, new.al_n)),
            walker.again0.eq(Mux(now.dw, now.q0, now.al_n)),
            walker.n1.eq(Mux(new.dw, new.q1, 0)),  # 0: more than Tn
            walker.again1.eq(Mux(now.dw, now.q1, 0)),
            walker.address_base.eq(Mux(new.dw, new.bbase, 0)),
            walker.address_stride[0].eq(Mux(now.dw, now.bq0, now.al0)),
            walker.address_stride[1].eq(Mux(now.dw, now.bq1, now.al1)),
            walker.address_stride[2].eq(now.bq2),
        ]

        # The last lane stays in the walker until the next chunk begins.
        done, count = Signal(init=1), Signal(self.config.lane_bits, reset_less=True)
        earlier = Signal(16 * (tn - 1), reset_less=True)
        m.d.comb += [
            self.ready.eq(done),
            walker.step.eq(~done | self.following),
            self.o.eq(Cat(earlier, walker.address)),
        ]
        with m.If(~done):
            m.d.sync += [earlier.eq(Cat(earlier, walker.address) >> 16), count.eq(count + 1)]
            with m.If(count == tn - 2):
                m.d.sync += done.eq(1)
        with m.If(self.load):
            m.d.sync += [done.eq(~(new.dw | new.a_pix)), count.eq(0)]
        with m.Elif(self.following):
            m.d.sync += [done.eq(0), count.eq(0)]
        return m


class Stationary(wiring.Component):
    """Takes instructions, walks their tiles, reads the rows of A, and offers the sweeps.

    A sweep is offered in the cycle in which its last row is read, so sweeps can follow each other
    every Tm cycles (weight-gradient mode: Tn, in which the lane addresses of B are made). An
    instruction is taken in the cycle after the last sweep of the one before; its first sweep is
    offered Tm cycles later (a_pix: Tn - 1 + Tm; weight-gradient mode: Tn), not counting the cycles
    in which `beside` keeps it from buffer A. No multipliers, no RAM.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In(stream of 512 bits)
        COMPUTE instructions.
    o : Out(stream of Sweep(config))
    beside : In(Beside)
        Has priority; read in the same cycle as a row would be.
    a_en, a_addr, a_rot : Out
        To buffer A, one cycle after the row, or `beside`, was chosen.
    fill_en : Out(1), fill : Out(Fill(config))
        The row that was chosen, with a_en.
    """

    def __init__(self, config):
        self._config = config
        super().__init__({
            "i": In(stream.Signature(32 * isa.WORDS)),
            "o": Out(stream.Signature(Sweep(config))),
            "beside": In(Beside),
            "a_en": Out(1), "a_addr": Out(data.ArrayLayout(16, config.tn)),
            "a_rot": Out(config.lane_bits),
            "fill_en": Out(1), "fill": Out(Fill(config)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        tm, tn = self.config.tm, self.config.tn
        sweep = self.o.payload

        # Instruction.
        insn, busy, head = Signal(32 * isa.WORDS, reset_less=True), Signal(), Signal()
        new, now = fields(isa.COMPUTE, self.i.payload), fields(isa.COMPUTE, insn)
        accept, start = Signal(), Signal()
        m.d.comb += [
            start.eq(self.o.valid & self.o.ready),
            # known from a register, as very much is taken over
            self.i.ready.eq(~busy),
            accept.eq(self.i.valid & self.i.ready),
        ]
        with m.If(start):
            m.d.sync += [head.eq(0), busy.eq(~sweep.tail)]
        with m.If(accept):
            m.d.sync += [insn.eq(self.i.payload), head.eq(1), busy.eq(1)]

        # Tiles: (g, kr, kc), or the chunks of Tn pixels.
        m.submodules.tiles = tiles = Walker([8, 8, 16], {"a": 16, "b": 16, "tag": 7})
        left = Signal(16, reset_less=True)
        short = Signal(reset_less=True)  # left <= tn
        m.d.comb += [
            tiles.load.eq(accept), tiles.step.eq(start),
            tiles.n0.eq(new.t0), tiles.n1.eq(new.t1), tiles.n2.eq(new.ng),
            tiles.again0.eq(now.t0), tiles.again1.eq(now.t1),
            tiles.a_base.eq(new.abase), tiles.b_base.eq(new.bbase), tiles.tag_base.eq(new.tag0),
            sweep.tail.eq(Mux(now.dw, short, tiles.last)),
        ]
        for level, strides in enumerate(((now.at0, now.bt0, now.tg0), (now.at1, now.bt1, now.tg1),
                                         (now.ag, now.bg, 0))):
            m.d.comb += [tiles.a_stride[level].eq(strides[0]), tiles.b_stride[level].eq(strides[1]),
                         tiles.tag_stride[level].eq(strides[2])]
        with m.If(accept):
            m.d.sync += [left.eq(new.np), short.eq(new.np <= tn)]
        with m.Elif(start):
            m.d.sync += [left.eq(left - tn), short.eq(left <= 2 * tn)]

        m.submodules.lanes = lanes = LaneAddresses(self.config)
        m.d.comb += [
            lanes.new.eq(self.i.payload), lanes.now.eq(insn),
            lanes.load.eq(accept), lanes.following.eq(start & now.dw),
            sweep.insn.eq(insn), sweep.tag.eq(tiles.tag), sweep.head.eq(head),
            sweep.base.eq(Mux(now.dw, 0, tiles.b)),
            sweep.lanes.eq(Mux(now.dw, lanes.o.as_value(), 0)),
        ]

        # Rows of the tile.
        row, rows_done = Signal(range(tm), reset_less=True), Signal()
        last_row = Signal(reset_less=True)  # row == tm - 1
        reads = Signal(reset_less=True)
        r_addr = Signal(16, reset_less=True)
        pixels, do_row = Signal(), Signal()
        m.d.comb += [
            pixels.eq(now.dw | (now.a_pix & ~now.ident)),
            do_row.eq(busy & ~rows_done & (now.dw | lanes.ready) & ~(reads & self.beside.en)),
            self.o.valid.eq(busy & lanes.ready & (rows_done | (do_row & last_row))),
        ]
        with m.If(do_row):
            m.d.sync += [row.eq(row + 1), rows_done.eq(last_row), last_row.eq(row == tm - 2)]
            with m.If(~pixels):
                m.d.sync += r_addr.eq(r_addr + now.ar)
        with m.If(start):
            m.d.sync += [row.eq(0), rows_done.eq(0), last_row.eq(0)]
            m.d.sync += r_addr.eq(Mux(now.dw, r_addr + tn, tiles.a_next))
        with m.If(accept):
            m.d.sync += [row.eq(0), rows_done.eq(0), last_row.eq(0), r_addr.eq(new.abase),
                         reads.eq(new.dw | ~(new.ident | new.zero))]

        # Masks.
        limit = Signal(range(tn + 1))
        with m.If(now.dw):
            m.d.comb += limit.eq(Mux(short, left, tn))
        with m.Elif(~now.zero):
            m.d.comb += limit.eq(Mux(Mux(now.pack, tiles.end[0], tiles.end[2]), now.lanes_last, tn))
        m.d.sync += [
            self.fill_en.eq(do_row),
            self.fill.row.eq(row),
            self.fill.limit.eq(Mux(row < now.rows, limit, 0)),
            self.fill.ident.eq(now.ident & ~now.dw),
        ]

        # Buffer A.
        m.d.sync += [
            self.a_en.eq((do_row & reads) | self.beside.en),
            self.a_rot.eq(Mux(self.beside.en, 0, now.rch0 + row)),
        ]
        base = Signal(16)
        m.d.comb += base.eq(Mux(self.beside.en, self.beside.addr, r_addr))
        for i in range(tn):
            offset = Mux(self.beside.en, self.beside.offset,
                         Mux(now.dw, i, Mux(pixels, lanes.o[i], 0)))
            m.d.sync += self.a_addr[i].eq(base + offset)
        return m
