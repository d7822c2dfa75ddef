"""Where each beat of a LOAD goes: the loops of its buffer side.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.isa import BYTES, LOAD
from gradgate.hw.stage import Skid

__all__ = ["Place", "Places", "field"]

_SIZES = ("u0", "u1", "spp", "n0", "n1", "n2", "nb", "sd0", "sd1")  # kept as one less
_UNPOOL = ("u0", "u1", "x0", "x1")  # kept as 0 without `unpool`
_PLAIN = ("padneg", "pack", "sd0", "sd1")  # kept as 0 with `unpool`
_FIELDS = (*_SIZES, "unpool", "padneg", "pack", "abase", "ch0", "cstep", "k0", "k1", "k2", "a1",
           "a2", "lo0", "hi0", "lo1", "hi1", "v0", "v1", "x0", "x1")


def field(instruction, name):
    """The bits of a field of a LOAD instruction."""
    return instruction[32 * LOAD[name].word + LOAD[name].lo:][:LOAD[name].width]


class Place(data.StructLayout):
    """One position of the loops: what is written there, and where.

    `last`: of its instruction. `write`: whether anything is written. `wanted`: whether the beat of
    the stream is; else `padding`, one operand. `take`: the beat is not wanted once more. `select`:
    only elements whose tag is `tap` are, and those only if `live`; the others are 0. The word is
    `base + offset`, the first bank is `bank`.
    """

    def __init__(self, config):
        super().__init__({
            "last": 1, "write": 1, "wanted": 1, "take": 1, "select": 1, "live": 1, "tap": 8,
            "base": 16, "offset": 16, "bank": config.lane_bits, "padding": config.elem_bits})


class Places(wiring.Component):
    """Turns LOAD instructions into places, in the order of docs/program.md, section 3.

    The first place of an instruction is there 2 cycles after the instruction is accepted, then one
    per cycle; one more is made while one is on `o`. The next instruction is accepted in the cycle
    after the last place has been made. An instruction without places makes one that writes nothing.
    Additions only.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In(stream.Signature(512))
        The instruction.
    o : Out(stream.Signature(Place(config)))

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
            "o": Out(stream.Signature(Place(config))),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        lane_bits, instruction = config.lane_bits, self.i.payload

        running = Signal()
        m.d.comb += self.i.ready.eq(~running)

        # the loops, innermost first; whether an index is its last is known from a register
        layout = {name: LOAD[name].width for name in _FIELDS}
        f = Signal(data.StructLayout(layout), reset_less=True)
        sizes = ("u0", "u1", "spp", "n0", "n1", "n2", "nb")
        indices = [Signal.like(f[size], name=f"index_{size}", reset_less=True) for size in sizes]
        j0, j1, s, i0, i1, _, _ = indices
        over = Signal(len(sizes), reset_less=True)
        nothing = Signal(reset_less=True)
        last = Signal()
        step = Signal()
        m.d.comb += last.eq(over.all() | nothing)
        for k, (index, size) in enumerate(zip(indices, sizes, strict=True)):
            with m.If(step & over[:k].all()):
                m.d.sync += index.eq(Mux(over[k], 0, index + 1))
                m.d.sync += over[k].eq(Mux(over[k], f[size] == 0, index + 1 == f[size]))

        # a window is walked once per beat: its first row and column are kept to come back to
        cleared = [*indices]

        def walk(axis, end, advance, begin, back, position, following, size, amount):
            """Rows or columns, and their skew, which grows every `size + 1` of them.

            `end`: to 0; `advance`: to the next, which with `begin` is the first of a window;
            `back`: to the first of this window. Returns the skew.
            """
            first = Signal.like(position, name=f"first_{axis}", reset_less=True)
            sub = Signal(8, name=f"sub_{axis}", reset_less=True)
            skew = Signal(lane_bits, name=f"skew_{axis}", reset_less=True)
            first_skew = Signal.like(skew, name=f"first_skew_{axis}", reset_less=True)
            registers = (position, first, sub, skew, first_skew)
            cleared.extend(registers)
            skewed = (skew + Mux(sub == size, amount, 0))[:lane_bits]
            with m.If(step & end):
                m.d.sync += [register.eq(0) for register in registers]
            with m.Elif(step & advance):
                m.d.sync += [position.eq(following), skew.eq(skewed)]
                m.d.sync += sub.eq(Mux(sub == size, 0, sub + 1))
                with m.If(begin):
                    m.d.sync += [first.eq(following), first_skew.eq(skewed)]
            with m.Elif(step & back):
                m.d.sync += [position.eq(first), skew.eq(first_skew)]
            return skew

        column = Signal(20, reset_less=True)  # as many as n0*u0
        row = Signal(17, reset_less=True)  # its first word; the top bit stays once it is set
        below = row[:16] + f.a1
        off0, off1 = Signal(), Signal()  # the position is cut off
        m.d.comb += [off0.eq((i0 == 0) & (j0 < f.x0)), off1.eq((i1 == 0) & (j1 < f.x1))]
        window, pixel, line, image = (over[:k].all() for k in (2, 3, 4, 5))
        skew0 = walk("column", line, pixel | ~(over[0] | off0), pixel, over[0],
                     column, column + 1, f.sd0, f.k0)
        skew1 = walk("row", image, line | (over[0] & ~(window | off1)), line, window,
                     row, Cat(below[:16], below[16] | row[16]), f.sd1, f.k1)

        # images and channel blocks
        base = Signal(16, reset_less=True)
        skew2 = Signal(lane_bits, reset_less=True)
        channel = Signal(lane_bits, reset_less=True)
        with m.If(step & image):
            m.d.sync += base.eq(Mux(over[5], f.abase, base + f.a2))
            m.d.sync += skew2.eq(Mux(over[5], 0, skew2 + f.k2))
        with m.If(step & over[:6].all()):
            m.d.sync += channel.eq(channel + f.cstep)

        # the tag that wins at a position
        tap = Signal(8, reset_less=True)
        tap_row = Signal(8, reset_less=True)
        with m.If(step):
            m.d.sync += tap.eq(tap + 1)
            with m.If(over[0]):
                m.d.sync += [reg.eq(Mux(window, 0, tap_row + f.v0)) for reg in (tap, tap_row)]
        cleared += [skew2, tap, tap_row]

        # taken whenever there may be one: that there is comes late
        with m.If(~running):
            m.d.sync += running.eq(self.i.valid)
            for name in _FIELDS:
                value = field(instruction, name) - (name in _SIZES)
                if name in _UNPOOL:
                    value = Mux(field(instruction, "unpool"), value, 0)
                if name in _PLAIN:
                    value = Mux(field(instruction, "unpool"), 0, value)
                m.d.sync += f[name].eq(value)
                if name in sizes:
                    m.d.sync += over[sizes.index(name)].eq(~value[:LOAD[name].width].any())
            m.d.sync += [register.eq(0) for register in cleared]
            m.d.sync += [
                base.eq(field(instruction, "abase")),
                channel.eq(field(instruction, "ch0")),
                nothing.eq(~Cat(field(instruction, name).any()
                                for name in ("spp", "n0", "n1", "n2", "nb")).all()),
            ]
        with m.Elif(step & last):
            m.d.sync += running.eq(0)

        # the place; whether the one before goes is known late, and very much takes a step
        m.submodules.skid = skid = Skid(Place(config))
        place = skid.i.payload
        wiring.connect(m, skid.o, wiring.flipped(self.o))
        first_channel = Cat(Const(0, config.beat_elems.bit_length() - 1), s)
        on_map = ~(off0 | off1) & (column < f.a1) & (row < f.a2)
        lowest = (1 << config.elem_bits) - 1 - (1 << config.man_bits)
        m.d.comb += [
            skid.i.valid.eq(running),
            step.eq(running & skid.i.ready),
            place.last.eq(last),
            place.write.eq(~nothing & (on_map | ~f.unpool)),
            place.wanted.eq(~nothing & (f.lo1 <= i1) & (i1 < f.hi1)
                            & (f.lo0 <= i0) & (i0 < f.hi0)),
            place.take.eq(window),
            place.select.eq(f.unpool),
            place.live.eq((j1 < f.v1) & (j0 < f.v0)),
            place.tap.eq(tap),
            place.base.eq(base),
            place.offset.eq(row + Mux(f.pack, column >> (lane_bits - 2), column)),
            place.bank.eq(channel + first_channel + (skew0 + skew1) + skew2),
            place.padding.eq(Mux(f.padneg, lowest, 0)),
        ]
        return m
