"""Fills a tile buffer from memory.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.buffer import BufferWrite
from gradgate.hw.config import check_config
from gradgate.hw.dma import ReadDMA
from gradgate.hw.floats import canonicalise
from gradgate.hw.isa import BYTES, LOAD
from gradgate.hw.port import ReadPort

__all__ = ["LoadUnit"]

_SIZES = ("spp", "n0", "n1", "n2", "nb", "sd0", "sd1")  # kept as one less
_FIELDS = (*_SIZES, "padneg", "pack", "abase", "ch0", "cstep", "k0", "k1", "k2", "a1", "a2",
           "lo0", "hi0", "lo1", "hi1")


def _field(instruction, name):
    field = LOAD[name]
    return instruction[32 * field.word + field.lo:][:field.width]


class LoadUnit(wiring.Component):
    """Executes LOAD instructions: docs/program.md, section 3.

    One beat per cycle, padding or not, as long as memory delivers, and one cycle more per
    instruction; 3 cycles from `i` to the first beat if it is padding. Reading begins when an
    instruction is offered, while the one before is still being written. No multipliers; the RAM of
    a ReadDMA.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In(stream.Signature(512))
        The instruction.
    done : Out(1)
        One cycle high per instruction completed, together with its last write.
    nonfinite : Out(1)
        One cycle high per beat read that holds an infinity or NaN.
    overflow : Out(1)
        Always 0: nothing is computed here.
    active : Out(1)
        A beat is written to the buffer.
    port : Out(ReadPort(beat_bits))
    buf : Out(BufferWrite(config))

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        super().__init__({
            "i": In(stream.Signature(8 * BYTES)),
            "done": Out(1),
            "nonfinite": Out(1),
            "overflow": Out(1),
            "active": Out(1),
            "port": Out(ReadPort(config.beat_bits)),
            "buf": Out(BufferWrite(config)),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        lane_bits, instruction = config.lane_bits, self.i.payload

        # the memory side starts once per instruction, maybe before it can be accepted
        m.submodules.dma = dma = ReadDMA(config)
        wiring.connect(m, dma.port, wiring.flipped(self.port))
        started = Signal()
        running = Signal()
        accept = Signal()
        m.d.comb += [
            dma.start.valid.eq(self.i.valid & ~started),
            self.i.ready.eq(~running & (started | dma.start.ready)),
            accept.eq(self.i.valid & self.i.ready),
        ]
        for name in ("base", "len", "n1", "s1", "n2", "s2", "n3", "s3"):
            m.d.comb += dma.start.payload[name].eq(_field(instruction, f"d_{name}"))
        with m.If(accept):
            m.d.sync += started.eq(0)
        with m.Elif(dma.start.valid & dma.start.ready):
            m.d.sync += started.eq(1)

        # the loops of the buffer side; skews count modulo Tn
        layout = {name: LOAD[name].width for name in _FIELDS}
        f = Signal(data.StructLayout(layout), reset_less=True)
        s, i0, i1, i2, b = (Signal.like(f[size], name=name, reset_less=True) for name, size in
                            (("s", "spp"), ("i0", "n0"), ("i1", "n1"), ("i2", "n2"), ("b", "nb")))
        over = Signal(5)
        m.d.comb += over.eq(Cat(index == f[size] for index, size in
                                ((s, "spp"), (i0, "n0"), (i1, "n1"), (i2, "n2"), (b, "nb"))))
        sub0, sub1 = Signal(8, reset_less=True), Signal(8, reset_less=True)
        skew0, skew1, skew2, channel = (Signal(lane_bits, name=name, reset_less=True)
                                        for name in ("skew0", "skew1", "skew2", "channel"))
        addr1, addr2 = Signal(16, reset_less=True), Signal(16, reset_less=True)
        nothing = Signal(reset_less=True)
        last = Signal()
        step = Signal()
        m.d.comb += last.eq(over.all() | nothing)

        def divided(over, sub, size, skew, amount):
            """Advance a loop index whose skew grows every `size + 1` iterations."""
            with m.If(over):
                m.d.sync += [sub.eq(0), skew.eq(0)]
            with m.Elif(sub == size):
                m.d.sync += [sub.eq(0), skew.eq(skew + amount)]
            with m.Else():
                m.d.sync += sub.eq(sub + 1)

        with m.If(step):
            m.d.sync += s.eq(Mux(over[0], 0, s + 1))
            with m.If(over[0]):
                m.d.sync += i0.eq(Mux(over[1], 0, i0 + 1))
                divided(over[1], sub0, f.sd0, skew0, f.k0)
            with m.If(over[:2].all()):
                m.d.sync += [i1.eq(Mux(over[2], 0, i1 + 1)), addr1.eq(addr1 + f.a1)]
                divided(over[2], sub1, f.sd1, skew1, f.k1)
            with m.If(over[:3].all()):
                row = Mux(over[3], f.abase, addr2 + f.a2)
                m.d.sync += [addr1.eq(row), addr2.eq(row)]
                m.d.sync += i2.eq(Mux(over[3], 0, i2 + 1))
                m.d.sync += skew2.eq(Mux(over[3], 0, skew2 + f.k2))
            with m.If(over[:4].all()):
                m.d.sync += [b.eq(b + 1), channel.eq(channel + f.cstep)]
            with m.If(last):
                m.d.sync += running.eq(0)

        with m.If(accept):
            m.d.sync += running.eq(1)
            m.d.sync += [f[name].eq(_field(instruction, name) - (name in _SIZES))
                         for name in _FIELDS]
            m.d.sync += [register.eq(0) for register in (s, i0, i1, i2, b, sub0, sub1,
                                                         skew0, skew1, skew2)]
            m.d.sync += [register.eq(_field(instruction, "abase")) for register in (addr1, addr2)]
            m.d.sync += channel.eq(_field(instruction, "ch0"))
            m.d.sync += nothing.eq(~Cat(_field(instruction, name).any()
                                        for name in ("spp", "n0", "n1", "n2", "nb")).all())

        # where the beat goes
        place_valid = Signal()
        place_last = Signal(reset_less=True)
        place_write = Signal(reset_less=True)
        place_inside = Signal(reset_less=True)
        place_addr = Signal(16, reset_less=True)
        place_bank = Signal(lane_bits, reset_less=True)
        place = Signal()
        first_channel = Cat(Const(0, config.beat_elems.bit_length() - 1), s)
        m.d.comb += step.eq(running & (~place_valid | place))
        with m.If(place):
            m.d.sync += place_valid.eq(0)
        with m.If(step):
            m.d.sync += [
                place_valid.eq(1),
                place_last.eq(last),
                place_write.eq(~nothing),
                place_inside.eq((f.lo1 <= i1) & (i1 < f.hi1) & (f.lo0 <= i0) & (i0 < f.hi0)),
                place_addr.eq(addr1 + Mux(f.pack, i0 >> (lane_bits - 2), i0)),
                place_bank.eq(channel + first_channel + (skew0 + skew1) + skew2),
            ]

        # the beat
        wanted = Signal()
        m.d.comb += [
            wanted.eq(place_valid & place_write & place_inside),
            dma.o.ready.eq(wanted),
            place.eq(place_valid & (dma.o.valid | ~wanted)),
        ]
        elements = [canonicalise(config.fmt, dma.o.payload.word_select(x, config.elem_bits))
                    for x in range(config.beat_elems)]
        lowest = (1 << config.elem_bits) - 1 - (1 << config.man_bits)
        padding = Signal(config.elem_bits, reset_less=True)
        with m.If(step):
            m.d.sync += padding.eq(Mux(f.padneg, lowest, 0))
        m.d.sync += [
            self.buf.en.eq(place & place_write),
            self.buf.addr.eq(place_addr),
            self.buf.bank.eq(place_bank),
            self.buf.data.eq(Mux(wanted, Cat(value for value, _ in elements),
                                 padding.replicate(config.beat_elems))),
            self.nonfinite.eq(place & wanted & Cat(bad for _, bad in elements).any()),
            self.done.eq(place & place_last),
        ]
        m.d.comb += self.active.eq(self.buf.en)

        return m
