"""The array of the small core, with its buffers, its accumulators and its arithmetic.

Datapath registers are reset-less, control registers are reset.
"""

from enum import IntEnum

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.dot import DotRow, PartialSum
from gradgate.hw.floats import FloatMul, NormalAdd, unpack_fp32
from gradgate.hw.micro.assembler import Port

__all__ = ["Mode", "MicroArray"]


class Mode(IntEnum):
    """Bits of what Port.MODE takes."""

    TAG = 127
    SELECT = 1 << 7  # zero the lanes whose tag in buffer A is not TAG
    ONES = 1 << 8  # the moving vectors are ones
    IDENTITY0 = 1 << 9  # row 0 of the tile is 1 in lane 0
    IDENTITY1 = 1 << 10  # row 1 is 1 in lane 1
    OVERWRITE = 1 << 11  # the accumulators count as zero
    ROTATING = 1 << 12  # lanes move on by a bank after each vector


_ONE = 0x3f80  # bf16
# these wait until the run before is over
_RUN = (Port.ROTATE, Port.ROW0, Port.ROW1, Port.LANE0, Port.LANE1, Port.LANE2, Port.LANE3,
        Port.COUNT, Port.B_STEP, Port.C_STEP, Port.TAGS, Port.RUN)


class MicroArray(wiring.Component):
    """Two rows of four lanes: one dot row that both take turns at, a moving vector in two cycles.

    The tile stands in rings of registers, a lane in the register of the bank that its operand of
    the moving vector comes from: so no operand is ever rotated on its way, only the rings are,
    where the bank of a lane changes. With tags, a vector takes three cycles. The adder that follows
    the dot row is that of Operation.FADD as well. Eight multipliers.

    Parameters
    ----------
    config : Config
        With core "micro".

    Members
    -------
    port : In(5)
        A Port, with its operands `a`, `b` (after the cut) and `result`; for as long as it `stall`s
        and at least one cycle more, in the last of which `go` is high.
    go : In(1)
    stall : Out(1)
    unit_b : In(1)
        The buffer is B, not A.
    add : In(1)
        The adder adds `a` and `number_b`; only while no accumulator is written.
    number_b : In(32)
        What is added to `a`, and multiplied with it.
    sum, product : Out(32)
        NormalAdd.LATENCY and FloatMul.LATENCY cycles after their operands.
    accumulator : Out(32)
        The one that Port.ACCUMULATOR has read.
    sum_overflow, product_overflow : Out(1)
    overflow : Out(1)
        An accumulator was limited to the largest finite number.
    """

    LATENCY = NormalAdd.LATENCY

    def __init__(self, config):
        check_config(config)
        self._config = config
        super().__init__({
            "port": In(5), "go": In(1),
            "a": In(32), "b": In(32), "number_b": In(32), "result": In(32),
            "stall": Out(1), "unit_b": In(1), "add": In(1), "sum": Out(32), "product": Out(32),
            "accumulator": Out(32), "sum_overflow": Out(1), "product_overflow": Out(1),
            "overflow": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        lanes, rows = config.tn, config.tm
        deepest = max(config.a_depth, config.b_depth)
        words = range(deepest)
        counts = range(2 * config.acc_depth)

        def on(port):
            return self.go & (self.port == port)

        def latch(port, shape, name):
            """A register that keeps what the port was given last."""
            register = Signal(shape, name=name, reset_less=True)
            with m.If(on(port)):
                m.d.sync += register.eq(self.result)
            return register

        limit = latch(Port.LIMIT, lanes.bit_length(), "limit")
        count = latch(Port.COUNT, range(len(counts) + 1), "count")
        b_step = latch(Port.B_STEP, words, "b_step")
        c_step = latch(Port.C_STEP, counts, "c_step")
        tags = latch(Port.TAGS, words, "tags")
        mode = latch(Port.MODE, unsigned(13), "mode")

        # the run: row 0 of a vector is in a cycle of its own, row 1 in the one after
        base = Signal(words, reset_less=True)
        c = Signal(counts, reset_less=True)
        left = Signal.like(count, reset_less=True)
        second = Signal()  # row 1 comes next
        row0, row1, read_tags, read_b = Signal(), Signal(), Signal(), Signal()
        idle = Signal()
        select = (mode & Mode.SELECT).any()
        rotating = (mode & Mode.ROTATING).any()
        with m.FSM(name="run"):
            with m.State("IDLE"):
                m.d.comb += idle.eq(1)
                with m.If(on(Port.RUN)):
                    m.d.sync += [base.eq(self.a), c.eq(self.b), left.eq(count)]
                    with m.If(count != 0):
                        with m.If(select):
                            m.next = "TAGS"
                        with m.Else():
                            m.next = "VECTOR"
            with m.State("TAGS"):
                m.d.comb += [read_tags.eq(1), row1.eq(second)]
                m.next = "VECTOR"
            with m.State("VECTOR"):
                m.d.comb += [read_b.eq(1), row1.eq(second)]
                m.d.sync += [base.eq(base + b_step), left.eq(left - 1)]
                m.next = "ROW0"
            with m.State("ROW0"):
                m.d.comb += row0.eq(1)
                with m.If(left == 0):
                    m.next = "ROW1"
                with m.Elif(select):
                    m.next = "TAGS"
                with m.Else():
                    m.next = "VECTOR"
            with m.State("ROW1"):
                m.d.comb += row1.eq(1)
                m.next = "IDLE"
        m.d.sync += second.eq(row0)
        with m.If(row1):
            m.d.sync += c.eq(c + c_step)

        # rings: in which bank lane 0 is, and what lanes add to addresses
        bank0 = Signal(range(lanes))
        goal = Signal(range(lanes))  # where it shall be before anything else begins
        turning = Signal()
        m.d.comb += turning.eq(idle & (bank0 != goal))
        with m.If(turning | (read_b & rotating)):
            m.d.sync += bank0.eq(bank0 + 1)
        with m.If(on(Port.ROTATE)):
            m.d.sync += goal.eq(self.result)
        with m.Elif(read_b & rotating):
            m.d.sync += goal.eq(goal + 1)
        offsets = [Signal(words, name=f"offset_{k}", reset_less=True) for k in range(lanes)]
        for k in range(lanes):
            with m.If(turning | (read_b & rotating)):
                m.d.sync += offsets[k].eq(offsets[k - 1])
            with m.Elif(on(Port.LANE0 + k)):
                m.d.sync += offsets[k].eq(self.result)

        # buffers: B above A, a bank per lane
        bank = Signal(range(lanes))
        with m.If(on(Port.BANK)):
            m.d.sync += bank.eq(self.result)
        with m.Elif(on(Port.STORE)):
            m.d.sync += bank.eq(bank + 1)
        load = on(Port.ROW0) | on(Port.ROW1)
        start = Signal(words)
        m.d.comb += start.eq(Mux(idle, self.a, Mux(read_tags, base + tags, base)))

        def place(word, of_b):
            inside = Mux(of_b, config.b_depth - 1, config.a_depth - 1)
            return Cat(word & inside, of_b)

        stored = []
        for k in range(lanes):
            memory = Memory(shape=config.elem_bits, depth=2 * deepest, init=[])
            m.submodules[f"bank_{k}"] = memory
            w_port, r_port = memory.write_port(), memory.read_port()
            word = Signal(words, name=f"word_{k}")
            m.d.comb += [
                w_port.en.eq(on(Port.STORE) & (bank == k)),
                w_port.addr.eq(place(self.a[:len(word)], self.unit_b)),
                w_port.data.eq(self.result[16:]),
                word.eq(start + offsets[k]),
                r_port.en.eq(load | read_tags | read_b),
                r_port.addr.eq(place(word, read_b)),
            ]
            stored.append(r_port.data)

        # the tile
        loading = Signal(rows)
        m.d.sync += loading.eq(Cat(on(Port.ROW0), on(Port.ROW1)))
        tile = [[Signal(config.elem_bits, name=f"tile_{r}_{k}", reset_less=True)
                 for k in range(lanes)] for r in range(rows)]
        for k in range(lanes):
            live = Signal(name=f"live_{k}")
            m.d.comb += live.eq((Const(k, config.lane_bits) - bank0)[:config.lane_bits] < limit)
            for r in range(rows):
                with m.If(loading[r]):
                    m.d.sync += tile[r][k].eq(Mux(live, stored[k], 0))
                with m.Elif(turning | (row1 & rotating)):
                    m.d.sync += tile[r][k].eq(tile[r][k - 1])

        # operands
        m.submodules.dot = dot = DotRow(config)
        identity = [(mode & Mode.IDENTITY0).any(), (mode & Mode.IDENTITY1).any()]
        ones = (mode & Mode.ONES).any()
        chosen = Signal(lanes, reset_less=True)  # by their tags
        for k in range(lanes):
            with m.If(read_b):
                m.d.sync += chosen[k].eq(~select | (stored[k][:7] == (mode & Mode.TAG)))
            own = [Mux(identity[r], _ONE if k == r else 0, tile[r][k]) for r in range(rows)]
            m.d.comb += [
                dot.a[k].eq(Mux(row1, own[1], own[0])),
                dot.b[k].eq(Mux(ones, _ONE, Mux(chosen[k], stored[k], 0))),
            ]

        m.d.comb += [dot.a_live.eq(dot.live(dot.a)), dot.b_live.eq(dot.live(dot.b))]

        # accumulators: the index follows its dot product
        m.submodules.accumulators = memory = Memory(shape=32, depth=rows * len(counts), init=[])
        w_port, r_port = memory.write_port(), memory.read_port()
        there = [row0 | row1]
        index = [Cat(row1, c, (mode & Mode.OVERWRITE).any())]
        for stage in range(dot.latency + self.LATENCY):
            valid = Signal(name=f"there_{stage + 1}")
            moved = Signal(len(index[0]), name=f"index_{stage + 1}", reset_less=True)
            m.d.sync += [valid.eq(there[-1]), moved.eq(index[-1])]
            there.append(valid)
            index.append(moved)
        ahead, now, after = dot.latency - 1, dot.latency, dot.latency + self.LATENCY
        drain = Cat(self.b[0], self.a[:len(c)])
        m.submodules.adder = adder = NormalAdd(PartialSum(config).width)
        m.submodules.multiplier = multiplier = FloatMul()
        term = Signal(32)
        sum_a = Signal(adder.a.shape())
        m.d.comb += [
            r_port.en.eq(there[ahead] | on(Port.ACCUMULATOR)),
            r_port.addr.eq(Mux(there[ahead], index[ahead][:-1], drain)),
            self.accumulator.eq(r_port.data),
            unpack_fp32(self.a, sum_a),
            adder.a.eq(Mux(self.add, sum_a, dot.o)),
            term.eq(Mux(self.add, self.number_b, Mux(index[now][-1], 0, r_port.data))),
            unpack_fp32(term, adder.b),
            w_port.en.eq(there[after]),
            w_port.addr.eq(index[after][:-1]),
            w_port.data.eq(adder.o),
            self.sum.eq(adder.o),
            self.sum_overflow.eq(adder.overflow),
            self.overflow.eq(there[after] & adder.overflow),
            multiplier.a.eq(self.a),
            multiplier.b.eq(self.number_b),
            self.product.eq(multiplier.o),
            self.product_overflow.eq(multiplier.overflow),
        ]

        # who has to wait
        m.d.comb += self.stall.eq(Mux(
            self.port == Port.MODE, ~idle | Cat(there).any(),
            Cat(self.port == port for port in _RUN).any() & (~idle | turning)))
        return m
