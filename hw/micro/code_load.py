"""Microcode of LOAD_A and LOAD_B: docs/program.md, section 3."""

from gradgate.hw.isa import LOAD
from gradgate.hw.micro.assembler import Condition, Cut, Port

__all__ = ["load"]

_PADDING = 0xff7f0000  # the most negative finite operand


def load(asm, done):
    """The code from label `load` on; ends at label `done`.

    A pixel of a beat takes 12 words or more, a position of a pooling window about 20.
    """
    f, one = asm.fields(LOAD), asm.constant(1)
    (base1, base2, base3, left1, left2, pointer, left, back, bank_b, bank_2, address_2, left_b,
     left_i2) = asm.scratch("base1 base2 base3 left1 left2 pointer left back bank_b bank_2 "
                            "address_2 left_b left_i2")

    asm.label("load")
    for name in ("nb", "n2", "n1", "n0", "spp"):
        asm.move(None, f[name], when=Condition.ZERO, to=done)
    asm.move(base3, f["d_base"])
    for register in (base2, base1, pointer):
        asm.move(register, base3)
    asm.move(left1, f["d_n1"])
    asm.move(left2, f["d_n2"])
    asm.move(left, f["d_len"])
    # what is valid, counted from the first valid one: it is less than the span
    start0, start1, end0, end1, span0, span1, place0, place1, span = asm.scratch(
        "start0 start1 end0 end1 span0 span1 place0 place1 span")
    for start, end, length, axis in ((start0, end0, span0, "0"), (start1, end1, span1, "1")):
        asm.sub(start, asm.zero, f[f"lo{axis}"])
        asm.add(end, start, f[f"n{axis}"])
        asm.add(length, start, f[f"hi{axis}"], when=Condition.CARRY, to=f"load span{axis}")
        asm.move(None, f[f"lo{axis}"], when=Condition.ZERO, to=f"load span{axis}")
        asm.move(length, asm.zero)
        asm.label(f"load span{axis}")
    asm.move(bank_b, f["ch0"])
    asm.move(left_b, f["nb"])
    asm.label("load b")
    asm.move(address_2, f["abase"])
    asm.move(bank_2, bank_b)
    asm.move(left_i2, f["n2"])
    asm.label("load i2")
    asm.move(place1, start1)
    asm.unless(LOAD["unpool"], "load copy")
    _unpool(asm, f, address_2, bank_2, start0, start1, end0, end1, span0, span1, place0, place1,
            span, pointer, left, back)
    _copy(asm, f, address_2, bank_2, start0, end0, end1, span0, span1, place0, place1, span,
          pointer, left, back)
    asm.label("load i2 end")
    asm.add(address_2, address_2, f["a2"])
    asm.add(bank_2, bank_2, f["k2"])
    asm.count_down(left_i2, "load i2")
    asm.add(bank_b, bank_b, f["cstep"])
    asm.count_down(left_b, "load b")
    asm.jump(done)

    # the next run of beats
    asm.label("load run")
    asm.sub(left1, left1, one, when=Condition.ZERO, to="load run2")
    asm.add(base1, base1, f["d_s1"])
    asm.label("load run begin")
    asm.move(pointer, base1)
    asm.move(left, f["d_len"])
    asm.sub(left, left, one)
    asm.ret(back)
    asm.label("load run2")
    asm.move(left1, f["d_n1"])
    asm.sub(left2, left2, one, when=Condition.ZERO, to="load run3")
    asm.add(base2, base2, f["d_s2"])
    asm.move(base1, base2, to="load run begin")
    asm.label("load run3")
    asm.move(left2, f["d_n2"])
    asm.add(base3, base3, f["d_s3"])
    asm.move(base2, base3)
    asm.move(base1, base3, to="load run begin")


def _row(asm, name, span, span0, span1, place1):
    """`span`, that of a row: that of its pixels, or 0."""
    asm.move(span, span0)
    asm.sub(None, place1, span1, when=Condition.NO_CARRY, to=f"{name} row")
    asm.move(span, asm.zero)
    asm.label(f"{name} row")


def _copy(asm, f, address_2, bank_2, start0, end0, end1, span0, span1, place0, place1, span,
          pointer, left, back):
    one, four = asm.constant(1), asm.constant(4)
    address_1, bank_1, skew_1, address_0, bank_0, skew_0, beats, padding = asm.scratch(
        "address_1 bank_1 skew_1 address_0 bank_0 skew_0 beats padding")
    asm.label("load copy")
    asm.move(padding, asm.constant(_PADDING))
    asm.both(None, asm.instruction[0], asm.constant(1 << LOAD["padneg"].lo),
             when=Condition.NONZERO, to="copy begin")
    asm.move(padding, asm.zero)
    asm.label("copy begin")
    asm.move(address_1, address_2)
    asm.move(bank_1, bank_2)
    asm.move(skew_1, f["sd1"])
    asm.label("copy i1")
    _row(asm, "copy", span, span0, span1, place1)
    asm.move(place0, start0)
    asm.move(address_0, address_1)
    asm.move(bank_0, bank_1)
    asm.move(skew_0, f["sd0"])

    asm.label("copy pixel")
    asm.move(None, bank_0, port=Port.BANK)
    asm.move(beats, f["spp"])
    asm.sub(None, place0, span, when=Condition.CARRY, to="copy padding")
    asm.label("copy beat")
    asm.sub(left, left, one, when=Condition.NO_CARRY, to="copy run")
    asm.label("copy read")
    asm.add(pointer, pointer, four, port=Port.READ)
    asm.store(address_0, asm.memory[Cut.BF16_LOW])
    asm.store(address_0, asm.memory[Cut.BF16_HIGH])
    asm.count_down(beats, "copy beat")
    asm.label("copy next")
    asm.add(address_0, address_0, one)
    asm.sub(skew_0, skew_0, one, when=Condition.NONZERO, to="copy skewed")
    asm.move(skew_0, f["sd0"])
    asm.add(bank_0, bank_0, f["k0"])
    asm.label("copy skewed")
    asm.add(place0, place0, one)
    asm.sub(None, place0, end0, when=Condition.NONZERO, to="copy pixel")

    asm.add(address_1, address_1, f["a1"])
    asm.sub(skew_1, skew_1, one, when=Condition.NONZERO, to="copy row skewed")
    asm.move(skew_1, f["sd1"])
    asm.add(bank_1, bank_1, f["k1"])
    asm.label("copy row skewed")
    asm.add(place1, place1, one)
    asm.sub(None, place1, end1, when=Condition.NONZERO, to="copy i1")
    asm.jump("load i2 end")

    asm.label("copy run")
    asm.call(back, "load run")
    asm.jump("copy read")
    asm.label("copy padding")
    asm.store(address_0, padding)
    asm.store(address_0, padding)
    asm.count_down(beats, "copy padding")
    asm.jump("copy next")


def _unpool(asm, f, address_2, bank_2, start0, start1, end0, end1, span0, span1, place0, place1,
            span, pointer, left, back):
    one, four = asm.constant(1), asm.constant(4)
    (address_0, bank_0, column_0, skew_0, bank_s, beats, value0, value1, tag0, tag1, address, bank,
     row, index_1, column, skew, left_j0, index, at, times) = asm.scratch(
        "address_0 bank_0 column_0 skew_0 bank_s beats value0 value1 tag0 tag1 address bank row "
        "index_1 column skew left_j0 index at times")
    # address and bank of the first row of a window: back by what is cut off
    asm.move(address_0, asm.zero)
    asm.move(bank_0, asm.zero)
    asm.move(times, f["x1"], when=Condition.ZERO, to="unpool i1")
    asm.label("unpool cut1")
    asm.sub(address_0, address_0, f["a1"])
    asm.sub(bank_0, bank_0, f["k1"])
    asm.count_down(times, "unpool cut1")
    asm.label("unpool i1")
    _row(asm, "unpool", span, span0, span1, place1)
    asm.move(place0, start0)
    asm.sub(column_0, asm.zero, f["x0"])
    asm.move(skew_0, asm.zero)
    asm.move(times, f["x0"], when=Condition.ZERO, to="unpool i0")
    asm.label("unpool cut0")
    asm.sub(skew_0, skew_0, f["k0"])
    asm.count_down(times, "unpool cut0")
    asm.label("unpool i0")
    asm.move(beats, f["spp"])
    asm.move(bank_s, bank_2)

    # the gradients of a beat and their tags
    asm.label("unpool beat")
    asm.move(value0, asm.zero)
    asm.move(value1, asm.zero)
    asm.sub(None, place0, span, when=Condition.CARRY, to="unpool window")
    asm.sub(left, left, one, when=Condition.CARRY, to="unpool read")
    asm.call(back, "load run")
    asm.label("unpool read")
    asm.sub(at, pointer, f["d_base"])
    asm.add(pointer, pointer, four, port=Port.READ)
    asm.add(at, at, f["t_base"])
    asm.number(value0, asm.memory[Cut.BF16_LOW])
    asm.number(value1, asm.memory[Cut.BF16_HIGH])
    asm.add(None, at, four, port=Port.READ)
    asm.both(tag0, asm.constant(127), asm.memory[Cut.BYTE0])
    asm.both(tag1, asm.constant(127), asm.memory[Cut.BYTE2])

    # the positions of its window; what is before the map is far behind it, as unsigned
    asm.label("unpool window")
    asm.move(address, address_0)
    asm.add(bank, bank_0, bank_s)
    asm.move(row, asm.zero)
    asm.move(index_1, asm.zero)
    asm.label("unpool j1")
    asm.sub(None, address, f["a2"], when=Condition.CARRY, to="unpool row end")
    asm.sub(None, row, f["v1"], when=Condition.NO_CARRY, to="unpool kernel")
    asm.move(index_1, asm.constant(1 << 16))  # the tag of no element
    asm.label("unpool kernel")
    asm.move(column, column_0)
    asm.move(skew, skew_0)
    asm.move(index, index_1)
    asm.move(left_j0, f["v0"], when=Condition.ZERO, to="unpool rest")
    asm.label("unpool j0")
    asm.sub(None, column, f["a1"], when=Condition.CARRY, to="unpool next")
    asm.add(None, bank, skew, port=Port.BANK)
    asm.add(at, address, column)
    asm.add(at, at, address_2)
    for tag, value, name in ((tag0, value0, "unpool zero0"), (tag1, value1, "unpool zero1")):
        asm.xor(None, tag, index, when=Condition.NONZERO, to=name)
        asm.store(at, value, to=f"{name} stored")
        asm.label(name)
        asm.store(at, asm.zero)
        asm.label(f"{name} stored")
    asm.label("unpool next")
    asm.add(column, column, one)
    asm.add(skew, skew, f["k0"])
    asm.add(index, index, one)
    asm.count_down(left_j0, "unpool j0")
    # what the stride is longer than the kernel
    asm.label("unpool rest")
    asm.move(left_j0, f["u0"])
    asm.sub(left_j0, left_j0, f["v0"], when=Condition.NONZERO, to="unpool zeros")
    asm.label("unpool row end")
    asm.add(address, address, f["a1"])
    asm.add(bank, bank, f["k1"])
    asm.add(index_1, index_1, f["v0"])
    asm.add(row, row, one)
    asm.sub(None, row, f["u1"], when=Condition.NONZERO, to="unpool j1")

    asm.add(bank_s, bank_s, asm.constant(2))
    asm.count_down(beats, "unpool beat")
    # the next window begins where this one has ended
    asm.add(column_0, column_0, f["u0"])
    asm.move(times, f["u0"])
    asm.label("unpool skew")
    asm.add(skew_0, skew_0, f["k0"])
    asm.count_down(times, "unpool skew")
    asm.add(place0, place0, one)
    asm.sub(None, place0, end0, when=Condition.NONZERO, to="unpool i0")
    asm.move(address_0, address)
    asm.sub(bank_0, bank, bank_s)
    asm.add(bank_0, bank_0, asm.constant(2))
    asm.add(place1, place1, one)
    asm.sub(None, place1, end1, when=Condition.NONZERO, to="unpool i1")
    asm.jump("load i2 end")

    asm.label("unpool zeros")
    asm.sub(None, column, f["a1"], when=Condition.CARRY, to="unpool outside")
    asm.add(None, bank, skew, port=Port.BANK)
    asm.add(at, address, column)
    asm.add(at, at, address_2)
    asm.store(at, asm.zero)
    asm.store(at, asm.zero)
    asm.label("unpool outside")
    asm.add(column, column, one)
    asm.add(skew, skew, f["k0"])
    asm.count_down(left_j0, "unpool zeros")
    asm.jump("unpool row end")
