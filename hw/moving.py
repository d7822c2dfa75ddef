"""The moving sequencer of the compute unit: one vector of buffer B per cycle."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw import isa
from gradgate.hw.stationary import Beside, Sweep, fields
from gradgate.hw.walker import Walker

__all__ = ["Vector", "Moving"]


class Vector(data.StructLayout):
    """What happens to one moving vector.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config):
        super().__init__({
            "c": (2 * config.acc_depth - 1).bit_length(),  # accumulator
            "clear": 1,  # overwrite it
            "ones": 1,  # all lanes are 1.0
            "sel": 1,  # keep the lanes whose tag is `tag`
            "tag": 7,
        })


class Moving(wiring.Component):
    """Sweeps: makes the addresses of the moving vectors and of their accumulators.

    Takes a sweep of n vectors in cycle t and issues them in t+1 .. t+n; it takes the next one in
    t+n at the earliest, and not before t+loop. With `fence` it takes the first sweep of the
    instruction loop-1 cycles after the last vector of the one before at the earliest.
    No multipliers, no RAM.

    Parameters
    ----------
    config : Config
    loop : int
        From the read of an accumulator to the first cycle in which a read sees what was made of it.

    Members
    -------
    i : In(stream of Sweep(config))
    beside : Out(Beside)
        Reads of buffer A for `sel`, in the cycle of the issue.
    active : Out(1)
        A vector is issued in this cycle.
    b_en, b_addr, b_rot : Out
        To buffer B, one cycle after the issue; like all that follows.
    en, swap, tail : Out(1)
        A vector; it is the first of its sweep; it is the last of its instruction.
    vector : Out(Vector(config))
    """

    def __init__(self, config, loop):
        if loop < 3:
            raise ValueError(f"loop must be at least 3, not {loop!r}")
        self._config = config
        self._loop = loop
        super().__init__({
            "i": In(stream.Signature(Sweep(config))),
            "beside": Out(Beside), "active": Out(1),
            "b_en": Out(1), "b_addr": Out(data.ArrayLayout(16, config.tn)),
            "b_rot": Out(config.lane_bits),
            "en": Out(1), "swap": Out(1), "tail": Out(1), "vector": Out(Vector(config)),
        })

    @property
    def config(self):
        return self._config

    @property
    def loop(self):
        return self._loop

    def elaborate(self, platform):
        m = Module()
        config = self.config
        tn, lane_bits = config.tn, config.lane_bits
        word = Signal(32 * isa.WORDS, reset_less=True)
        new, now = fields(isa.COMPUTE, self.i.payload.insn), fields(isa.COMPUTE, word)

        # Start and end of a sweep. Much follows from its start in the same cycle, so what that
        # takes is known from registers: `free`, no vector follows this cycle's, if there is one,
        # and the sweep's `loop` cycles are over; `settling`, the last vector is not `loop` cycles
        # ago.
        busy, start, final = Signal(), Signal(), Signal()
        in_ones = Signal()
        period, settle = Signal(range(self.loop)), Signal(range(self.loop))
        free, settling = Signal(init=1), Signal()
        final_next = Signal()
        m.d.comb += [
            self.active.eq(busy),
            self.i.ready.eq(free & ~(new.fence & self.i.payload.head & settling)),
            start.eq(self.i.valid & self.i.ready),
        ]
        m.d.sync += [
            free.eq(~start & (period <= 1) & (~busy | final | final_next)),
            settling.eq(start | busy | (settle > 1)),
        ]
        with m.If(start):
            m.d.sync += [busy.eq(1), period.eq(self.loop - 1)]
        with m.Else():
            with m.If(final):
                m.d.sync += busy.eq(0)
            with m.If(period != 0):
                m.d.sync += period.eq(period - 1)
        with m.If(busy):
            m.d.sync += settle.eq(self.loop - 2)
        with m.Elif(settle != 0):
            m.d.sync += settle.eq(settle - 1)

        # What holds during the sweep; taken whenever there may be one.
        fresh, clear, tail = Signal(), Signal(reset_less=True), Signal(reset_less=True)
        tag, offset = Signal(7, reset_less=True), Signal(16, reset_less=True)
        lanes = Signal(data.ArrayLayout(16, tn), reset_less=True)
        m.d.sync += fresh.eq(start)
        with m.If(free):
            m.d.sync += [
                word.eq(self.i.payload.insn),
                clear.eq(new.first & self.i.payload.head),
                tail.eq(self.i.payload.tail),
                tag.eq(self.i.payload.tag),
                lanes.eq(self.i.payload.lanes),
                offset.eq(new.abase - new.bbase),
            ]

        # Vectors: (i2, i1, i0), or (g, n, kr, kc).
        m.submodules.vectors = vectors = Walker([16, 16, 16, 16], {"b": 16, "c": 16})
        at = fields(isa.COMPUTE, Mux(free, self.i.payload.insn, word))
        m.d.comb += [
            vectors.load.eq(free), vectors.step.eq(busy),
            vectors.n0.eq(Mux(new.dw, new.t0, new.q0)),
            vectors.again0.eq(Mux(now.dw, now.t0, now.q0)),
            vectors.n1.eq(Mux(new.dw, new.t1, new.q1)),
            vectors.again1.eq(Mux(now.dw, now.t1, now.q1)),
            vectors.n2.eq(Mux(new.dw, Mux(new.ng == 1, new.lanes_last, tn), new.q2)),
            vectors.again2.eq(Mux(vectors.left3 == 2, now.lanes_last, tn)),
            vectors.n3.eq(Mux(new.dw, new.ng, 1)),
            vectors.b_base.eq(self.i.payload.base), vectors.c_base.eq(new.cbase),
            final.eq(busy & (in_ones | (vectors.last & ~(now.dw & now.ones)))),
            final_next.eq(Mux(now.dw & now.ones, vectors.last, vectors.last_next)),
        ]
        for level, (b, c) in enumerate(((Mux(now.dw, now.bt0, now.bq0), now.cq0),
                                        (Mux(now.dw, now.bt1, now.bq1), now.cq1),
                                        (Mux(now.dw, 0, now.bq2), now.cq2), (now.bg, 0))):
            m.d.comb += [vectors.b_stride[level].eq(b), vectors.c_stride[level].eq(c)]
        with m.If(busy):
            m.d.sync += in_ones.eq(vectors.last & now.dw & now.ones & ~in_ones)

        # In weight-gradient mode the accumulators are consecutive.
        c = Signal(16, reset_less=True)
        m.d.sync += c.eq(Mux(free, new.cbase, c + 1))
        m.d.sync += [
            self.en.eq(busy), self.swap.eq(fresh), self.tail.eq(final & tail),
            self.vector.c.eq(Mux(now.dw, c, vectors.c)),
            self.vector.clear.eq(clear),
            self.vector.ones.eq(in_ones),
            self.vector.sel.eq(now.sel & ~now.dw),
            self.vector.tag.eq(tag),
        ]

        # Buffer A, for the tags. Others wait for it in the same cycle.
        m.d.sync += self.beside.en.eq(
            Mux(free, start & new.sel & ~new.dw & ~new.zero, self.beside.en & ~final))
        m.d.comb += [self.beside.addr.eq(vectors.b), self.beside.offset.eq(offset)]

        # Buffer B.
        m.submodules.skew = skew = Skew(lane_bits)
        m.d.comb += [skew.load.eq(free), skew.step.eq(busy), skew.end.eq(vectors.end),
                     skew.rskew.eq(now.rskew), skew.sd1.eq(at.sd1), skew.sd0.eq(at.sd0)]
        packed = Signal()
        first_bank, address = Signal(lane_bits), Signal(16)
        m.d.comb += [
            packed.eq(now.pack & ~now.dw),
            first_bank.eq(Cat(Const(0, 2), vectors.b[:lane_bits - 2])),
            address.eq(Mux(packed, vectors.b >> (lane_bits - 2), vectors.b)),
        ]
        m.d.sync += [
            self.b_en.eq(busy & ~in_ones & (now.dw | ~now.zero)),
            self.b_rot.eq(Mux(now.dw, skew.o, Mux(packed, first_bank, 0))),
        ]
        for i in range(tn):
            carry = packed & (first_bank >= tn - i)
            m.d.sync += self.b_addr[i].eq(address + lanes[i] + carry)
        return m


class Skew(wiring.Component):
    """n + floor(kr / sd1)*rskew + floor(kc / sd0), modulo Tn, over loops n, kr, kc; by counting.

    Parameters
    ----------
    lane_bits : int

    Members
    -------
    load, step : In(1)
        As of Walker.
    end : In(4)
        Bit k: this is the last iteration of loop k (kc, kr, n, g).
    rskew, sd1, sd0 : In(8)
        Step of the skew per output row; strides. The strides are looked at with `load`, too.
    o : Out(lane_bits)
    """

    def __init__(self, lane_bits):
        super().__init__({"load": In(1), "step": In(1), "end": In(4), "rskew": In(8), "sd1": In(8),
                          "sd0": In(8), "o": Out(lane_bits)})

    def elaborate(self, platform):
        m = Module()
        lane_bits = len(self.o)

        # left1, left0: iterations of kr and kc until the quotient goes up.
        n, row = (Signal(lane_bits, name=name, reset_less=True) for name in ("n", "row"))
        left1, left0 = (Signal(8, name=name, reset_less=True) for name in ("left1", "left0"))
        skew = Signal(lane_bits, reset_less=True)
        next_n, next_row = Signal(lane_bits), Signal(lane_bits)
        m.d.comb += [
            self.o.eq(skew),
            next_n.eq(Mux(self.end[2], 0, n + 1)),
            next_row.eq(Mux(left1 == 1, row + self.rskew, row)),
        ]
        with m.If(self.load):
            m.d.sync += [n.eq(0), row.eq(0), skew.eq(0), left1.eq(self.sd1), left0.eq(self.sd0)]
        with m.Elif(self.step):
            with m.If(~self.end[0]):
                m.d.sync += [skew.eq(skew + (left0 == 1)),
                             left0.eq(Mux(left0 == 1, self.sd0, left0 - 1))]
            with m.Elif(~self.end[1]):
                m.d.sync += [row.eq(next_row), skew.eq(next_row), left0.eq(self.sd0),
                             left1.eq(Mux(left1 == 1, self.sd1, left1 - 1))]
            with m.Else():
                m.d.sync += [n.eq(next_n), row.eq(next_n), skew.eq(next_n),
                             left1.eq(self.sd1), left0.eq(self.sd0)]
        return m
