"""What a POST instruction reads and writes in memory.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw import isa
from gradgate.hw.config import check_config
from gradgate.hw.dma import Descriptor
from gradgate.hw.stationary import fields

__all__ = ["Transfers"]


class Transfers(wiring.Component):
    """Descriptors of all streams of an instruction, each offered until its DMA takes it.

    All are offered in the cycle after `accept`, but

    * the operand after the bias, both through `opd`;
    * the memory source and the operand of `opd_add`, which may be what instructions before have
      written, only when `alone`.

    The memory source makes p1 descriptors of p2 * p0 pixels (their order in memory does not depend
    on the loops), all but the first at least `len(bits of p2) + 2` cycles after the first. `out`
    and `aux` get one descriptor per instruction, empty if there is nothing to write.

    No multipliers, no RAM; about 200 flip-flops.

    Parameters
    ----------
    config : Config

    Members
    -------
    accept : In(1)
        Begin; only while not `busy`.
    new, words : In(512)
        The instruction, in the cycle of `accept`, and from the next one on while `busy`.
    alone : In(1)
        All instructions before are done.
    busy : Out(1)
        Some descriptor has not been taken.
    src, opd, mom, out, aux : Out(stream of Descriptor)

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        names = ("src", "opd", "mom", "out", "aux")
        super().__init__({
            "accept": In(1), "new": In(8 * isa.BYTES), "words": In(8 * isa.BYTES), "alone": In(1),
            "busy": Out(1),
        } | {name: Out(stream.Signature(Descriptor)) for name in names})

    def elaborate(self, platform):
        m = Module()
        new, insn = fields(isa.POST, self.new), fields(isa.POST, self.words)
        groups = self._config.groups

        def waiting(name, wanted, taken):
            """Whether a transfer is still to be asked for."""
            flag = Signal(name=f"{name}_waits")
            with m.If(self.accept):
                m.d.sync += flag.eq(wanted)
            with m.Elif(taken):
                m.d.sync += flag.eq(0)
            return flag

        def runs(descriptor, base, half=0):
            """The runs of the output, from `base`; with `half`, half as long and half as far."""
            m.d.comb += [
                descriptor.base.eq(base), descriptor.len.eq(insn.o_len >> half),
                descriptor.n1.eq(insn.o_n1), descriptor.s1.eq(insn.o_s1 >> half),
                descriptor.n2.eq(insn.o_n2), descriptor.s2.eq(insn.o_s2 >> half),
                descriptor.n3.eq(1),
            ]

        # bias, operand
        bias, opd = Signal(), Signal()
        m.d.comb += [
            bias.eq(waiting("bias", new.bias, self.opd.ready)),
            opd.eq(waiting("opd", new.opd_add | new.mask | new.sgd,
                           self.opd.valid & self.opd.ready & ~bias)),
            self.opd.valid.eq(bias | (opd & (self.alone | ~insn.opd_add))),
        ]
        runs(self.opd.payload, insn.opd_base)
        with m.If(bias):
            m.d.comb += [self.opd.payload.base.eq(insn.imm2), self.opd.payload.len.eq(groups),
                         self.opd.payload.n1.eq(1), self.opd.payload.n2.eq(1)]

        # momentum, both outputs
        out, aux = self.out.payload, self.aux.payload
        half = Signal()
        m.d.comb += [
            half.eq(insn.tags & insn.out_fp32 & (self._config.fmt == "bf16")),
            self.mom.valid.eq(waiting("mom", new.sgd & new.mom, self.mom.ready)),
            self.out.valid.eq(waiting("out", 1, self.out.ready)),
            self.aux.valid.eq(waiting("aux", 1, self.aux.ready)),
        ]
        runs(self.mom.payload, insn.aux_base)
        runs(out, insn.out_base)
        runs(aux, insn.aux_base, half)
        with m.If(~(insn.tags | (insn.sgd & insn.mom))):
            m.d.comb += aux.len.eq(0)

        src_busy = self._read_source(m, new, insn)
        m.d.comb += self.busy.eq(src_busy | bias | opd | self.mom.valid | self.out.valid
                                 | self.aux.valid)
        return m

    def _read_source(self, m, new, insn):
        """Asks for p1 contiguous planes of p2 * p0 pixels; returns whether that is still going on.

        Runs are as long as counts and shifts can make them, so that the first burst comes soon.
        """
        base, plane, row = (Signal(32, name=name, reset_less=True)
                            for name in ("base", "plane", "row"))
        factor = Signal(16, reset_less=True)
        left = Signal(16, reset_less=True)

        groups = self._config.groups  # beats of a pixel
        shift = groups.bit_length() - 1
        whole = insn.src_fp32 | (self._config.fmt == "fp32")
        run_bytes = insn.p0 << self._config.beat_bytes.bit_length() - 1
        row_bytes = Signal(32)
        descriptor = self.src.payload
        m.d.comb += [
            row_bytes.eq(Mux(whole, run_bytes << shift, (run_bytes << shift) >> 1)),
            descriptor.base.eq(base),
            descriptor.len.eq(insn.p0),
            descriptor.n1.eq(Mux(whole, groups, groups // 2)), descriptor.s1.eq(run_bytes),
            descriptor.n2.eq(insn.p2), descriptor.s2.eq(row_bytes),
            descriptor.n3.eq(1),
        ]

        busy = Signal()
        m.d.comb += busy.eq(1)
        with m.FSM(name="source"):
            with m.State("IDLE"):
                m.d.comb += busy.eq(0)
                m.d.sync += [base.eq(new.src_base), left.eq(new.p1), plane.eq(0)]
                with m.If(self.accept & new.src_mem & new.p1.any()):
                    m.next = "FIRST"
            with m.State("FIRST"):
                m.d.comb += self.src.valid.eq(self.alone)
                m.d.sync += [row.eq(row_bytes), factor.eq(insn.p2)]
                with m.If(self.src.valid & self.src.ready):
                    m.d.sync += left.eq(left - 1)
                    m.next = "MULTIPLY"
                    with m.If(left == 1):
                        m.next = "IDLE"
            with m.State("MULTIPLY"):
                m.d.sync += [row.eq(row << 1), factor.eq(factor >> 1)]
                with m.If(factor[0]):
                    m.d.sync += plane.eq(plane + row)
                with m.If(factor == 0):
                    m.d.sync += base.eq(base + plane)
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.comb += self.src.valid.eq(1)
                with m.If(self.src.ready):
                    m.d.sync += [base.eq(base + plane), left.eq(left - 1)]
                    with m.If(left == 1):
                        m.next = "IDLE"
        return busy
