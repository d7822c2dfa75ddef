"""The vector unit: accumulators or memory, through fp32 arithmetic, to memory.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw import isa
from gradgate.hw.accumulators import AccDrain
from gradgate.hw.config import check_config
from gradgate.hw.dma import ReadDMA, WriteDMA
from gradgate.hw.drain import TAG_BITS, Drain
from gradgate.hw.floats import canonicalise
from gradgate.hw.port import ReadPort, WritePort
from gradgate.hw.stationary import fields
from gradgate.hw.transfers import Transfers
from gradgate.hw.unpack import Unpack
from gradgate.hw.vector import Steps, VectorPipeline

__all__ = ["PostUnit"]

# what waits for `done`, at most: QUEUE and one more in a WriteDMA, four in its Bursts, and one
# that begins
_IN_FLIGHT = WriteDMA.QUEUE + 6


class _Now(data.Struct):
    """What vectors of an instruction are made of."""

    src_mem: 1
    src_fp32: 1
    operand: 1
    empty: 1


class PostUnit(wiring.Component):
    """Executes POST instructions (docs/program.md, section 5), the next while the last one ends.

    Timing, in cycles, of an instruction accepted in cycle a; groups = Tm / V, `stages` those of
    VectorPipeline:

    * Its first accumulator address is read in a + 2; commands for bias, operand, momentum and
      memory source are on the ports from a + 5 if their ReadDMA is through with the one before, and
      as far as Bursts need not wait for runs to join. A memory source and the operand of `opd_add`,
      which may be results of instructions before, wait until those are done: from d + 5, d the
      cycle of the last `done`.
    * Addresses are read one per cycle; the last ones of two windows are at least groups cycles
      apart, also across instructions. The vectors of a window enter the pipeline 6, 7, ... cycles
      after its last address or later, one per cycle, each 4 cycles after the beats that it needs
      from memory have come, or later. So a vector takes one cycle, of pooled windows w1 * w0 /
      groups if that is more; a beat of bf16 from memory serves two. Addresses are read at most
      max(16, 2 * groups) vectors ahead.
    * The first vector follows the last one of the instruction before, in cycle v, in v + 2 or
      later; in v + sgd_gap when only that one had `sgd`; after the last beat of its bias by 6 or
      more, and in v + groups + 2 or later if it has a bias and that one had an operand.
    * A vector that enters in cycle t is handed to the first writer as a beat in t + 2 +
      stages["result"], if two share a beat both in t + 2 + stages["operand"] of the second, with
      `sgd` in t + 2 + stages["weight"]; to the second writer its tags in t + 2, likewise, and its
      momentum in t + 2 + stages["momentum"]. The last burst, of n beats, is with memory n + 2
      cycles after that, or n cycles after the burst before, if memory takes a beat per cycle.
    * The next instruction is accepted two cycles after the last address, or a cycle after the first
      one in which a vector of this one may enter, whichever is later; and not before the DMAs have
      taken the transfers of this one, those of writers when all but three runs of the output before
      are in bursts that have been issued.
    * `done` comes 2 cycles after the last acknowledgement. Up to 13 instructions are not done.

    Costs the arithmetic of VectorPipeline, five DMAs, 2 * Tm words of RAM for the bias: 12,202
    LUTs and 8,019 flip-flops on ECP5 with Tm = 8, bf16 and 64-bit beats (docs/area.md).

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In(stream.Signature(512))
        Instructions.
    done : Out(1)
        One cycle high per instruction, in order: all its writes are acknowledged.
    nonfinite, overflow : Out(1)
        One cycle high per event, before `done`.
    active : Out(1)
        A beat of the first output is handed to its writer.
    drain : Out(AccDrain(config))
    src, opd, mom : Out(ReadPort(beat_bits))
        Memory source; bias and operand; momentum.
    out, aux : Out(WritePort(beat_bits))
        First and second output.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        super().__init__({
            "i": In(stream.Signature(8 * isa.BYTES)), "done": Out(1),
            "nonfinite": Out(1), "overflow": Out(1), "active": Out(1),
            "drain": Out(AccDrain(config)),
            "src": Out(ReadPort(config.beat_bits)), "opd": Out(ReadPort(config.beat_bits)),
            "mom": Out(ReadPort(config.beat_bits)),
            "out": Out(WritePort(config.beat_bits)), "aux": Out(WritePort(config.beat_bits)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        m.submodules.transfers = transfers = Transfers(self.config)
        m.submodules.pixels = pixels = Drain(self.config)
        m.submodules.pipeline = VectorPipeline(self.config)
        wiring.connect(m, pixels.drain, wiring.flipped(self.drain))
        for name in ("src", "opd", "mom"):
            m.submodules[f"read_{name}"] = read = ReadDMA(self.config)
            m.submodules[f"unpack_{name}"] = unpack = Unpack(self.config)
            wiring.connect(m, getattr(transfers, name), read.start)
            wiring.connect(m, read.port, wiring.flipped(getattr(self, name)))
            wiring.connect(m, read.o, unpack.i)
        for name in ("out", "aux"):
            m.submodules[f"write_{name}"] = write = WriteDMA(self.config)
            wiring.connect(m, getattr(transfers, name), write.start)
            wiring.connect(m, write.port, wiring.flipped(getattr(self, name)))

        # the instruction whose transfers and accumulator reads begin
        words = Signal(8 * isa.BYTES, reset_less=True)
        insn, new = fields(isa.POST, words), fields(isa.POST, self.i.payload)
        accept, begin = Signal(), Signal()
        some = Signal(reset_less=True)  # it has vectors
        waits = Signal()  # the instruction before has not had its turn
        # known from a register, as very much is taken over, a cycle late
        free = Signal(init=1)
        m.d.sync += free.eq(~(accept | begin | transfers.busy | pixels.busy | waits))
        m.d.comb += [
            self.i.ready.eq(free),
            accept.eq(self.i.valid & free),
            transfers.accept.eq(accept), transfers.new.eq(self.i.payload),
            transfers.words.eq(words), pixels.start.eq(begin & some),
        ]
        m.d.sync += begin.eq(accept)
        with m.If(accept):
            m.d.sync += [words.eq(self.i.payload),
                         some.eq(new.p2.any() & new.p1.any() & new.p0.any())]
        self._copy(m.d.comb, insn, pixels.walk)

        self._issue(m, insn, new, some, accept, waits)

        unpacks = [m.submodules[f"unpack_{name}"] for name in ("src", "opd", "mom")]
        m.d.sync += self.nonfinite.eq(Cat(unpack.nonfinite for unpack in unpacks).any())
        m.d.comb += self.overflow.eq(m.submodules.pipeline.overflow)
        return m

    @staticmethod
    def _copy(domain, insn, view):
        """The fields of a struct that the instruction has by the same name."""
        for name, _ in data.Layout.cast(view.shape()):
            if hasattr(insn, name):
                domain += view[name].eq(getattr(insn, name))

    def _issue(self, m, insn, new, some, accept, waits):
        """Sends vectors, with all they need, into the pipeline, and its beats to the writers.

        `waits` is set from `accept` until the vectors of the instruction have their turn.
        """
        width, groups = self.config.beat_bits, self.config.groups
        pixels, pipeline = m.submodules.pixels, m.submodules.pipeline
        source, operand, momentum = (m.submodules[f"unpack_{name}"]
                                     for name in ("src", "opd", "mom"))

        # the instruction whose vectors these are
        turn, running, issued = Signal(), Signal(), Signal()
        now = Signal(_Now, reset_less=True)
        steps = Signal(Steps, reset_less=True)
        loading = Signal()
        settle = Signal(range(pipeline.sgd_gap))
        m.d.comb += turn.eq(waits & ~running & ~loading & ((settle == 0) | insn.sgd))
        with m.If(accept):
            m.d.sync += waits.eq(1)
        with m.If(turn):
            m.d.sync += [waits.eq(0), running.eq(1)]
            self._copy(m.d.sync, insn, now)
            self._copy(m.d.sync, insn, steps)
            m.d.sync += [
                now.operand.eq(insn.opd_add | insn.mask | insn.sgd),
                now.empty.eq(~some),
                steps.mom.eq(insn.sgd & insn.mom),
            ]
            for constant, name in ((steps.imm0, "imm0"), (steps.imm1, "imm1"), (steps.lr, "imm2")):
                m.d.sync += constant.eq(canonicalise("fp32", getattr(insn, name))[0])

        # bias: the first beats of the operand stream, into the half of the memory not in use, when
        # the instruction before has all its operands
        m.submodules.bias = bias = memory.Memory(shape=width, depth=2 * groups, init=[])
        w_port, r_port = bias.write_port(), bias.read_port()
        entry, group = Signal(range(groups)), Signal(range(groups))
        half, fill = Signal(), Signal()
        m.d.comb += [fill.eq(loading & ~(running & now.operand)),
                     w_port.en.eq(fill & operand.o.valid), w_port.addr.eq(Cat(entry, ~half)),
                     w_port.data.eq(operand.o.payload), r_port.addr.eq(Cat(group, half))]
        with m.If(accept):
            m.d.sync += [loading.eq(new.bias), entry.eq(0)]
        with m.Elif(w_port.en):
            m.d.sync += [entry.eq(entry + 1), loading.eq(entry != groups - 1)]
        with m.If(turn & insn.bias):
            m.d.sync += half.eq(~half)
        # the operand stream is in fp32: as bias is, or what `sgd` has to do with. Bias comes when
        # there is no operand to come, so a register knows
        wide = Signal(init=1)
        with m.If(issued):
            m.d.sync += wide.eq(1)
        with m.Elif(turn):
            m.d.sync += wide.eq(insn.sgd | insn.opd_fp32 | ~(insn.opd_add | insn.mask))

        # a vector enters when there is room for its beats, so that nothing waits after
        do_issue = Signal()
        whole = steps.out_fp32 | steps.sgd | (self.config.fmt == "fp32")
        begins = (self.config.fmt == "fp32") | ~group[:1].any()  # the beat, where two vectors share
        room = [self._room(m, "out", do_issue & (whole | begins)),
                self._room(m, "aux", do_issue & (steps.mom | (steps.tags & begins)))]
        m.d.comb += [
            do_issue.eq(running & pixels.o.valid & (source.o.valid | ~now.src_mem)
                        & (operand.o.valid | ~now.operand) & (momentum.o.valid | ~steps.mom)
                        & room[0] & room[1]),
            pixels.o.ready.eq(do_issue),
            source.o.ready.eq(do_issue & now.src_mem), source.fp32.eq(now.src_fp32),
            operand.o.ready.eq((do_issue & now.operand) | fill),
            operand.fp32.eq(wide),
            momentum.o.ready.eq(do_issue & steps.mom), momentum.fp32.eq(1),
        ]
        m.d.comb += issued.eq(running & (now.empty | (do_issue & pixels.o.payload.last)))
        with m.If(issued):
            m.d.sync += running.eq(0)
        with m.If(do_issue):
            m.d.sync += group.eq(group + 1)
        # `issued`, `turn` and the first vector of the next instruction are two cycles
        with m.If(do_issue & steps.sgd):
            m.d.sync += settle.eq(pipeline.sgd_gap - 2)
        with m.Elif(settle != 0):
            m.d.sync += settle.eq(settle - 1)

        r1_x, r1_opd, r1_mom = (Signal(width, name=f"r1_{name}", reset_less=True)
                                for name in ("x", "opd", "mom"))
        r1_tags = Signal(TAG_BITS * self.config.vlanes, reset_less=True)
        r1_en = Signal()
        m.d.sync += [
            r1_en.eq(do_issue), r1_tags.eq(pixels.o.payload.tags),
            r1_x.eq(Mux(now.src_mem, source.o.payload, pixels.o.payload.words)),
            r1_opd.eq(operand.o.payload), r1_mom.eq(momentum.o.payload),
        ]
        m.d.comb += [pipeline.en.eq(r1_en), pipeline.steps.eq(steps), pipeline.x.eq(r1_x),
                     pipeline.opd.eq(r1_opd), pipeline.mom.eq(r1_mom), pipeline.tags.eq(r1_tags),
                     pipeline.bias.eq(r_port.data)]

        out, aux = m.submodules.write_out, m.submodules.write_aux
        m.d.comb += [out.i.valid.eq(pipeline.o_en), out.i.payload.eq(pipeline.o),
                     aux.i.valid.eq(pipeline.aux_en), aux.i.payload.eq(pipeline.aux),
                     self.active.eq(pipeline.o_en)]
        self._complete(m, accept, issued)

    @staticmethod
    def _room(m, name, take):
        """Whether a writer has room for another beat that no vector under way has taken."""
        write = m.submodules[f"write_{name}"]
        free = Signal(range(write.room + 1), init=write.room, name=f"{name}_free")
        # of the last place no use is made: so it is known a cycle early
        some = Signal(init=1, name=f"{name}_some")
        m.d.sync += [free.eq(free - take + write.left), some.eq(free > 1)]
        return some

    def _complete(self, m, accept, issued):
        """Says which instructions are done: those which are in each of three ways."""
        ended = []
        later = Signal()
        m.d.sync += later.eq(issued)
        ways = {"out": m.submodules.write_out.done, "aux": m.submodules.write_aux.done,
                "issue": later}
        for name, event in ways.items():
            count = Signal(range(_IN_FLIGHT + 1), name=f"{name}_ended")
            m.d.sync += count.eq(count + event - self.done)
            ended.append(count.any())
        m.d.comb += self.done.eq(Cat(*ended).all())
        in_flight = Signal(range(_IN_FLIGHT + 1))
        m.d.sync += in_flight.eq(in_flight + accept - self.done)
        m.d.comb += m.submodules.transfers.alone.eq(in_flight == 1)
