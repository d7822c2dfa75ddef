"""The compute unit: stationary and moving sequencers around the dot-product rows."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw import isa
from gradgate.hw.accumulators import AccDrain, Accumulators
from gradgate.hw.buffer import BufferRead, TileBuffer
from gradgate.hw.delay import Delay
from gradgate.hw.dot import Accumulate, DotRow
from gradgate.hw.moving import Moving, Vector
from gradgate.hw.operands import Operands
from gradgate.hw.stationary import Fill, Stationary

__all__ = ["ComputeUnit"]


class ComputeUnit(wiring.Component):
    """Executes COMPUTE instructions: Tm rows of Tn multipliers, Tm x 2 x acc_depth accumulators.

    One moving vector per cycle, without a gap between sweeps, chunks, and instructions, where these
    are long enough (all in cycles):

    * a sweep of n vectors takes max(n, Tm, loop), a chunk of n vectors max(n, Tn, loop);
    * an instruction accepted in cycle t issues its first vector in t + s + 1 or later, s = Tm,
      with a_pix Tn - 1 + Tm, in weight-gradient mode Tn. It is accepted in the cycle of the first
      vector of the last sweep of the instruction before: then that last sweep takes
      max(n, s + 1, loop);
    * after an instruction with `sel`, rows are read only when its last vector has been issued,
      unless the next instruction is `ident` or `zero`: up to s cycles between the two;
    * `fence` issues the first vector at least `loop` cycles after the last one before;
    * `done` comes `latency` cycles after the issue of the last vector.

    Group g of vlanes rows is g cycles behind the first. What all of this says of accumulators is
    of those of the first; AccDrain reads those of the others later by as much.

    The instruction bits a_pix, ident, sel, zero, and pack are without effect in weight-gradient
    mode, `ones` is without effect in convolution mode.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In(stream of 512 bits)
    done : Out(1)
        One cycle high per instruction, when its last accumulator is written.
    active : Out(1)
        A moving vector is issued.
    nonfinite : Out(1)
        Always 0: the operands are canonical.
    overflow : Out(1)
        One cycle high per vector with at least one overflow, groups - 1 cycles after `done`:
        before POST has brought the sums to memory.
    a, b : Out(BufferRead(config))
    drain : In(AccDrain(config))
    """

    def __init__(self, config):
        self._config = config
        self._rows = [DotRow(config) for _ in range(config.tm)]
        self._accumulates = [Accumulate(config) for _ in range(config.tm)]
        super().__init__({
            "i": In(stream.Signature(32 * isa.WORDS)),
            "done": Out(1), "active": Out(1), "nonfinite": Out(1), "overflow": Out(1),
            "a": Out(BufferRead(config)), "b": Out(BufferRead(config)),
            "drain": In(AccDrain(config)),
        })

    @property
    def config(self):
        return self._config

    @property
    def loop(self):
        """Cycles from the use of an accumulator to its next possible use."""
        return Accumulators.LATENCY + self._accumulates[0].latency

    @property
    def latency(self):
        """Cycles from the issue of a moving vector to `done`."""
        return TileBuffer.LATENCY + self._rows[0].latency + self._accumulates[0].latency + 4

    def elaborate(self, platform):
        m = Module()
        config = self.config
        words = data.ArrayLayout(config.elem_bits, config.tn)
        one = 127 << config.man_bits

        m.submodules.stationary = stationary = Stationary(config)
        m.submodules.moving = moving = Moving(config, self.loop)
        wiring.connect(m, wiring.flipped(self.i), stationary.i)
        wiring.connect(m, stationary.o, moving.i)
        m.d.comb += [
            stationary.beside.eq(moving.beside),
            self.active.eq(moving.active),
            self.a.en.eq(stationary.a_en), self.a.addr.eq(stationary.a_addr),
            self.a.rot.eq(stationary.a_rot),
            self.b.en.eq(moving.b_en), self.b.addr.eq(moving.b_addr), self.b.rot.eq(moving.b_rot),
        ]

        def delayed(bit, cycles, name):
            """The last `cycles` values of a control bit, the newest first; reset to 0."""
            past = Signal(cycles, name=name)
            m.d.sync += past.eq(Cat(bit, past))
            return past

        def delay(name, value, cycles):
            value = Cat(value)
            m.submodules[name] = line = Delay(len(value), cycles)
            m.d.comb += line.i.eq(value)
            return line.o

        # Row of the stationary tile, gathered in `shadow` while `tile` is in use. It and the moving
        # vector have a cycle each for the way from the buffers to the rows.
        read = TileBuffer.LATENCY
        fill = data.View(Fill(config), delay("fill", stationary.fill.as_value(), read - 1))
        fill_en = delayed(stationary.fill_en, read - 1, "fill_en")[-1]
        filled = Signal(config.tm)  # one bit per row, per lane: known from registers
        used, diagonal = (Signal(config.tn, name=name, reset_less=True)
                          for name in ("used", "diagonal"))
        ident = Signal(reset_less=True)
        m.d.sync += [
            filled.eq(Cat(fill_en & (fill.row == r) for r in range(config.tm))),
            used.eq(Cat(fill.limit > i for i in range(config.tn))),
            diagonal.eq(Cat(fill.row == i for i in range(config.tn))),
            ident.eq(fill.ident),
        ]
        swap = delayed(moving.swap, read, "swap")[-1]
        incoming = Signal(words, reset_less=True)
        for i in range(config.tn):
            value = Mux(ident, Mux(diagonal[i], one, 0), self.a.data[i])
            m.d.sync += incoming[i].eq(Mux(used[i], value, 0))

        # Moving vector. Which lanes of it count is known from registers.
        here = data.View(Vector(config), delay("vector", moving.vector.as_value(), read))
        found = Signal(words, reset_less=True)
        ones = Signal(reset_less=True)
        other = Signal(config.tn, reset_less=True)  # its tag is not the one that `sel` keeps
        m.d.sync += [found.eq(self.b.data), ones.eq(here.ones)]
        vector = Signal(words)
        for i in range(config.tn):
            tag = self.a.data[i][config.man_bits - 7:config.man_bits]
            m.d.sync += other[i].eq(here.sel & (tag != here.tag))
            m.d.comb += vector[i].eq(Mux(ones, one, Mux(other[i], 0, found[i])))

        # Operands, each with a bit that tells whether it is zero.
        live = self._rows[0].live
        m.submodules.operands = operands = Operands(config, config.elem_bits + 1)
        vector_live = (live(found) & ~other) | ones.replicate(config.tn)
        m.d.comb += [operands.filled.eq(filled), operands.swap.eq(swap)]
        for lanes, value, bits in ((operands.row, incoming, live(incoming)),
                                   (operands.vector, vector, vector_live)):
            m.d.comb += lanes.eq(Cat(Cat(*pair) for pair in zip(value, bits, strict=True)))

        # Rows and accumulators, in groups that work a cycle one after the other.
        m.submodules.accumulators = accumulators = Accumulators(config)
        before_read = read + 2 + self._rows[0].latency - Accumulators.LATENCY
        after_read = Accumulators.LATENCY + self._accumulates[0].latency
        en = delayed(moving.en, before_read + after_read + config.groups - 1, "en")
        tail = delayed(moving.tail, before_read + after_read, "tail")
        c = delay("until_read", Cat(here.c, here.clear), before_read - read)
        c, clear = c[:-1], c[-1]
        written = before_read + after_read  # cycle of the sums of the first group
        m.d.comb += [
            accumulators.read.en.eq(en[before_read - 1]),
            accumulators.read.addr.eq(c), accumulators.read.clear.eq(clear),
            accumulators.write.en.eq(en[written - 2]),
            accumulators.write.addr.eq(delay("until_write", c, after_read - 1)),
        ]
        overflow = 0
        for g in range(config.groups):
            rows = range(g * config.vlanes, (g + 1) * config.vlanes)
            overflows = []
            for r in rows:
                m.submodules[f"row_{r}"] = row = self._rows[r]
                m.submodules[f"accumulate_{r}"] = accumulate = self._accumulates[r]
                for x, bits, lanes in ((row.a, row.a_live, operands.a[r]),
                                       (row.b, row.b_live, operands.b[g])):
                    m.d.comb += [x.eq(Cat(lane[:-1] for lane in lanes)),
                                 bits.eq(Cat(lane[-1] for lane in lanes))]
                m.d.comb += [
                    accumulate.i.eq(row.o), accumulate.acc.eq(accumulators.read.data[r]),
                    accumulators.write.data[r].eq(accumulate.o),
                ]
                overflows.append(accumulate.overflow)
            passed = Signal(name=f"overflow_{g}")
            m.d.sync += passed.eq((en[written + g - 1] & Cat(overflows).any()) | overflow)
            overflow = passed
        m.d.sync += self.done.eq(tail[-1])
        m.d.comb += [
            self.overflow.eq(overflow),
            accumulators.drain.en.eq(self.drain.en), accumulators.drain.addr.eq(self.drain.addr),
            self.drain.data.eq(accumulators.drain.data),
        ]
        return m
