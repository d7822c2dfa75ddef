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
from gradgate.hw.stationary import Fill, Stationary

__all__ = ["ComputeUnit"]

_LANES = 8  # that share a register which enables them


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
        operands = data.ArrayLayout(config.elem_bits, config.tn)
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
        incoming = Signal(operands, reset_less=True)
        for i in range(config.tn):
            value = Mux(ident, Mux(diagonal[i], one, 0), self.a.data[i])
            m.d.sync += incoming[i].eq(Mux(used[i], value, 0))

        # Moving vector.
        here = data.View(Vector(config), delay("vector", moving.vector.as_value(), read))
        vector = Signal(operands, reset_less=True)
        for i in range(config.tn):
            found = self.a.data[i][config.man_bits - 7:config.man_bits]
            value = Mux(here.sel & (found != here.tag), 0, self.b.data[i])
            m.d.sync += vector[i].eq(Mux(here.ones, one, value))

        # Rows and accumulators: groups of them work a cycle one after the other, and pass on to the
        # next what comes, so that no wire goes to all of them.
        live = self._rows[0].live
        held = data.StructLayout({"operands": operands, "live": config.tn})
        row_comes, vector_comes = Signal(held), Signal(held)
        m.d.comb += [row_comes.operands.eq(incoming), row_comes.live.eq(live(incoming)),
                     vector_comes.operands.eq(vector), vector_comes.live.eq(live(vector))]
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
            near_vector = Signal(held, name=f"near_vector_{g}", reset_less=True)
            m.d.sync += near_vector.eq(vector_comes)
            overflows = []
            for r in rows:
                tile = self._tile(m, r, row_comes, filled[r], swap)
                m.submodules[f"row_{r}"] = row = self._rows[r]
                m.submodules[f"accumulate_{r}"] = accumulate = self._accumulates[r]
                m.d.comb += [
                    row.a.eq(tile.operands), row.a_live.eq(tile.live),
                    row.b.eq(near_vector.operands), row.b_live.eq(near_vector.live),
                    accumulate.i.eq(row.o), accumulate.acc.eq(accumulators.read.data[r]),
                    accumulators.write.data[r].eq(accumulate.o),
                ]
                overflows.append(accumulate.overflow)
            passed = Signal(name=f"overflow_{g}")
            m.d.sync += passed.eq((en[written + g - 1] & Cat(overflows).any()) | overflow)
            overflow = passed

            if g + 1 < config.groups:
                near_row = Signal(held, name=f"near_row_{g}", reset_less=True)
                following = Signal.like(Cat(filled, swap), name=f"following_{g}")
                m.d.sync += [near_row.eq(row_comes), following.eq(Cat(filled, swap))]
                row_comes, vector_comes = near_row, near_vector
                filled, swap = following[:-1], following[-1]
        m.d.sync += self.done.eq(tail[-1])
        m.d.comb += [
            self.overflow.eq(overflow),
            accumulators.drain.en.eq(self.drain.en), accumulators.drain.addr.eq(self.drain.addr),
            self.drain.data.eq(accumulators.drain.data),
        ]
        return m

    def _tile(self, m, r, comes, filled, swap):
        """Row r of the stationary tile: what `comes` a cycle after `filled`, kept in `shadow` until
        a cycle after `swap`."""
        shadow, tile = (Signal.like(comes, name=f"{name}_{r}", reset_less=True)
                        for name in ("shadow", "tile"))
        for first in range(0, self.config.tn, _LANES):
            near_filled, near_swap = (Signal(name=f"near_{name}_{r}_{first}")
                                      for name in ("filled", "swap"))
            m.d.sync += [near_filled.eq(filled), near_swap.eq(swap)]
            for lane in range(first, min(first + _LANES, self.config.tn)):
                with m.If(near_filled):
                    m.d.sync += [shadow.operands[lane].eq(comes.operands[lane]),
                                 shadow.live[lane].eq(comes.live[lane])]
                with m.If(near_swap):
                    m.d.sync += [tile.operands[lane].eq(shadow.operands[lane]),
                                 tile.live[lane].eq(shadow.live[lane])]
        return tile
