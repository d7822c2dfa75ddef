"""The vector unit: accumulators or memory, through fp32 arithmetic, to memory.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from gradgate.hw import isa
from gradgate.hw.accumulators import AccDrain
from gradgate.hw.config import check_config
from gradgate.hw.dma import ReadDMA, WriteDMA
from gradgate.hw.drain import Drain
from gradgate.hw.floats import canonicalise
from gradgate.hw.port import ReadPort, WritePort
from gradgate.hw.unpack import Unpack
from gradgate.hw.vector import VectorPipeline

__all__ = ["PostUnit"]

_RUN_BITS = 14  # a memory source is read as runs of 2^14 beats, and a rest

class PostUnit(wiring.Component):
    """Executes POST instructions (docs/program.md, section 5), one at a time.

    One V-vector per cycle from accumulators without `pool` and from memory, one per two cycles with
    `sgd` or `src_odd`. Costs the arithmetic of VectorPipeline, the buffers of two ReadDMA and a
    WriteDMA, and Tm words of RAM for the bias.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In(stream.Signature(512))
        Instructions.
    done : Out(1)
        One cycle high when all writes of the instruction are acknowledged.
    nonfinite, overflow : Out(1)
        One cycle high per event, before `done`.
    active : Out(1)
        A beat is handed to the writer.
    drain : Out(AccDrain(config))
    src, opd : Out(ReadPort(beat_bits))
    out : Out(WritePort(beat_bits))

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
            "out": Out(WritePort(config.beat_bits)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        m.submodules.read_src = read_src = ReadDMA(self.config)
        m.submodules.read_opd = read_opd = ReadDMA(self.config)
        m.submodules.write = write = WriteDMA(self.config)
        m.submodules.accumulators = accumulators = Drain(self.config)
        m.submodules.source = source = Unpack(self.config)
        m.submodules.operand = operand = Unpack(self.config)
        m.submodules.pipeline = pipeline = VectorPipeline(self.config)
        wiring.connect(m, read_src.port, wiring.flipped(self.src))
        wiring.connect(m, read_opd.port, wiring.flipped(self.opd))
        wiring.connect(m, write.port, wiring.flipped(self.out))
        wiring.connect(m, accumulators.drain, wiring.flipped(self.drain))
        wiring.connect(m, read_src.o, source.i)
        wiring.connect(m, read_opd.o, operand.i)

        # one instruction at a time
        words = Signal(8 * isa.BYTES, reset_less=True)
        insn = {name: self._field(words, at) for name, at in isa.POST.items()}
        for name in ("scale", "bias", "opd_add", "relu", "mask", "sgd", "out_fp32"):
            insn[name] = insn[name] & ~insn["tag_out"]
        for name in ("imm0", "imm1"):
            insn[name], _ = canonicalise("fp32", insn[name])
        insn["lr"], _ = canonicalise("fp32", insn["imm2"])
        running, begin = Signal(), Signal()
        m.d.comb += self.i.ready.eq(~running)
        m.d.sync += begin.eq(self.i.valid & self.i.ready)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [words.eq(self.i.payload), running.eq(1)]

        m.d.comb += [accumulators.start.eq(begin & ~insn["src_mem"]),
                     accumulators.walk.base.eq(insn["src_base"])]
        self._copy(m, insn, accumulators.walk)
        self._copy(m, insn, pipeline.steps)
        m.d.comb += pipeline.steps.fp32.eq(insn["out_fp32"])

        # transfers
        loading = Signal()
        src_idle = self._read_source(m, insn, begin, read_src.start)
        opd_idle = self._read_operand(m, insn, begin, read_opd.start)
        out_wait = Signal()
        m.d.comb += write.start.valid.eq(out_wait)
        self._runs(m, insn, write.start.payload, insn["out_base"])
        with m.If(begin):
            m.d.sync += out_wait.eq(1)
        with m.Elif(write.start.ready):
            m.d.sync += out_wait.eq(0)

        m.d.comb += [
            source.fp32.eq(insn["src_fp32"]),
            source.odd.eq(insn["src_odd"]),
            operand.fp32.eq(loading | insn["opd_fp32"]),
            operand.odd.eq(loading),
            operand.pair.eq(insn["sgd"] & ~loading),
        ]

        self._issue(m, insn, begin, loading)

        finished = Signal()
        m.d.comb += finished.eq(running & ~begin & ~out_wait & write.idle & src_idle & opd_idle
                                & ~loading & ~source.busy & ~operand.busy)
        m.d.sync += self.done.eq(finished)
        with m.If(finished):
            m.d.sync += running.eq(0)
        m.d.sync += self.nonfinite.eq(source.nonfinite | operand.nonfinite)
        m.d.comb += self.overflow.eq(pipeline.overflow)
        return m

    @staticmethod
    def _field(words, at):
        bits = words[32 * at.word + at.lo:][:at.width]
        return bits.as_signed() if at.signed else bits

    @staticmethod
    def _copy(m, insn, view):
        """The fields of a struct that the instruction has by the same name."""
        for name, _ in data.Layout.cast(view.shape()):
            if name in insn:
                m.d.comb += view[name].eq(insn[name])

    @staticmethod
    def _runs(m, insn, descriptor, base):
        """The runs of the output, or of the operand, from `base`."""
        m.d.comb += [
            descriptor.base.eq(base), descriptor.len.eq(insn["o_len"]),
            descriptor.n1.eq(insn["o_n1"]), descriptor.s1.eq(insn["o_s1"]),
            descriptor.n2.eq(insn["o_n2"]), descriptor.s2.eq(insn["o_s2"]), descriptor.n3.eq(1),
        ]

    def _read_source(self, m, insn, begin, start):
        """Asks for p2 * p1 * p0 contiguous blocks; returns whether that has been done."""
        total = Signal(32, reset_less=True)
        addend = Signal(32, reset_less=True)
        factor = Signal(16, reset_less=True)
        beats = Signal(32)
        per_block = self.config.groups
        shift = per_block.bit_length() - 1
        whole = insn["src_fp32"] | (self.config.fmt == "fp32")
        m.d.comb += beats.eq(Mux(insn["src_odd"], total << shift + 1,
                                 Mux(whole, total << shift, (total << shift) >> 1)))

        run_bytes = self.config.beat_bytes << _RUN_BITS
        rest = Signal()
        low, high = beats[:_RUN_BITS], beats[_RUN_BITS:]
        skip = Cat(Const(0, run_bytes.bit_length() - 1), high)
        m.d.comb += [
            start.payload.base.eq(insn["src_base"] + Mux(rest, skip, 0)),
            start.payload.len.eq(Mux(rest, low, 1 << _RUN_BITS)),
            start.payload.n1.eq(Mux(rest, 1, high)),
            start.payload.s1.eq(run_bytes),
            start.payload.n2.eq(1),
            start.payload.n3.eq(1),
        ]

        idle = Signal()
        with m.FSM(name="source_fsm"):
            with m.State("IDLE"):
                m.d.comb += idle.eq(1)
                m.d.sync += [total.eq(0), addend.eq(insn["p0"]), factor.eq(insn["p1"])]
                with m.If(begin & insn["src_mem"]):
                    m.next = "ROWS"
            for state, following in (("ROWS", "PLANES"), ("PLANES", "RUNS")):
                with m.State(state):
                    m.d.sync += [addend.eq(addend << 1), factor.eq(factor >> 1)]
                    with m.If(factor[0]):
                        m.d.sync += total.eq(total + addend)
                    with m.If(factor == 0):
                        m.next = following
                        if following == "PLANES":
                            m.d.sync += [total.eq(0), addend.eq(total), factor.eq(insn["p2"])]
            with m.State("RUNS"):
                m.d.comb += start.valid.eq(1)
                with m.If(start.ready):
                    m.next = "REST"
            with m.State("REST"):
                m.d.comb += [start.valid.eq(1), rest.eq(1)]
                with m.If(start.ready):
                    m.next = "IDLE"
        return idle

    def _read_operand(self, m, insn, begin, start):
        """Asks for the bias, then for the operand; returns whether that has been done."""
        bias_wait, opd_wait = Signal(), Signal()
        m.d.comb += start.valid.eq(bias_wait | opd_wait)
        self._runs(m, insn, start.payload, insn["opd_base"])
        with m.If(bias_wait):
            m.d.comb += [start.payload.base.eq(insn["imm2"]), start.payload.n1.eq(1),
                         start.payload.len.eq(2 * self.config.groups), start.payload.n2.eq(1)]
        with m.If(begin):
            m.d.sync += [bias_wait.eq(insn["bias"]),
                         opd_wait.eq(insn["opd_add"] | insn["mask"] | insn["sgd"])]
        with m.Elif(start.ready):
            m.d.sync += bias_wait.eq(0)
            with m.If(~bias_wait):
                m.d.sync += opd_wait.eq(0)
        return ~bias_wait & ~opd_wait

    def _issue(self, m, insn, begin, loading):
        """Sends vectors, with all they need, into the pipeline, and its beats to the writer."""
        pipeline, write = m.submodules.pipeline, m.submodules.write
        source, operand = m.submodules.source, m.submodules.operand
        accumulators = m.submodules.accumulators
        width, groups = self.config.beat_bits, self.config.groups

        # bias: the words of the master tensor, at the front of the operand stream
        m.submodules.bias = bias = memory.Memory(shape=width, depth=max(groups, 2), init=[])
        w_port, r_port = bias.write_port(), bias.read_port()
        entry, group = Signal(range(groups + 1)), Signal(range(max(groups, 2)))
        filling = loading & (entry != groups)
        m.d.comb += [w_port.addr.eq(entry), w_port.data.eq(operand.o.payload.first.as_value()),
                     w_port.en.eq(filling & operand.o.valid), r_port.addr.eq(group)]
        with m.If(begin):
            m.d.sync += [loading.eq(insn["bias"]), entry.eq(0), group.eq(0)]
        with m.Elif(w_port.en):
            m.d.sync += entry.eq(entry + 1)
        with m.Elif(~filling & ~operand.busy):
            m.d.sync += loading.eq(0)

        # results wait here, so that the pipeline never has to; deep enough for a beat per cycle
        depth = 1 << (pipeline.latency + 7).bit_length()
        m.submodules.beats = beats = SyncFIFOBuffered(width=width, depth=depth)
        free = Signal(range(depth + 1), init=depth)
        odd = Signal()  # the beat of this vector has been counted with the vector before
        cost = Signal(2)
        narrow = ~pipeline.steps.fp32 & (self.config.fmt == "bf16")
        m.d.comb += cost.eq(Mux(insn["sgd"], 2, ~(narrow & odd)))

        x, x_valid = Signal(width), Signal()
        with_operand = insn["opd_add"] | insn["mask"] | insn["sgd"]
        do_issue = Signal()
        m.d.comb += [
            x.eq(Mux(insn["src_mem"], source.o.payload.first.as_value(),
                     accumulators.o.payload.as_value())),
            x_valid.eq(Mux(insn["src_mem"], source.o.valid, accumulators.o.valid)),
            do_issue.eq(x_valid & (~with_operand | operand.o.valid) & ~loading & (free >= 2)),
            source.o.ready.eq(do_issue & insn["src_mem"]),
            accumulators.o.ready.eq(do_issue & ~insn["src_mem"]),
            operand.o.ready.eq(filling | (do_issue & with_operand)),
        ]
        with m.If(do_issue):
            m.d.sync += [group.eq(Mux(group == groups - 1, 0, group + 1)), odd.eq(narrow & ~odd)]

        r1_en = Signal()
        r1_x, r1_opd, r1_mom = (Signal(width, name=f"r1_{name}", reset_less=True)
                                for name in ("x", "opd", "mom"))
        m.d.sync += [r1_en.eq(do_issue), r1_x.eq(x), r1_opd.eq(operand.o.payload.first.as_value()),
                     r1_mom.eq(operand.o.payload.second.as_value())]
        m.d.comb += [pipeline.en.eq(r1_en), pipeline.x.eq(r1_x), pipeline.opd.eq(r1_opd),
                     pipeline.mom.eq(r1_mom), pipeline.bias.eq(r_port.data)]

        wiring.connect(m, beats.r_stream, write.i)
        do_beat = write.i.valid & write.i.ready
        m.d.comb += [beats.w_data.eq(pipeline.o), beats.w_en.eq(pipeline.o_en),
                     self.active.eq(do_beat)]
        m.d.sync += free.eq(free - Mux(do_issue, cost, 0) + do_beat)
