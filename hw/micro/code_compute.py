"""Microcode of COMPUTE: docs/program.md, section 4."""

from gradgate.hw.isa import COMPUTE
from gradgate.hw.micro.array import Mode
from gradgate.hw.micro.assembler import Condition, Port

__all__ = ["compute"]

_LANES = (Port.LANE0, Port.LANE1, Port.LANE2, Port.LANE3)


def compute(asm, done):
    """The code from label `compute` on; ends at label `done`, with all accumulators written.

    A run, in convolution mode over q0, in weight-gradient mode over the channels of a group, takes
    a handful of words, while the array works on the one before.
    """
    f = asm.fields(COMPUTE)
    overwrite, limit, counted = asm.scratch("overwrite limit counted")
    asm.label("compute")
    asm.move(overwrite, asm.zero)
    asm.unless(COMPUTE["first"], "compute adds")
    asm.move(overwrite, asm.constant(Mode.OVERWRITE))
    asm.label("compute adds")
    asm.unless(COMPUTE["dw"], "convolve")
    _gradient(asm, f, overwrite, limit, counted)
    _convolve(asm, f, overwrite, limit, counted)
    asm.label("compute end")
    asm.move(None, asm.zero, port=Port.MODE, to=done)


def _tile(asm, f, name, address0, address1, limit):
    """The stationary tile, rows from words `address0` and `address1` of buffer A."""
    row = asm.scratch("row")[0]
    asm.move(row, f["rch0"])
    asm.move(None, row, port=Port.ROTATE)
    asm.move(None, limit, port=Port.LIMIT)
    asm.add(None, address0, asm.zero, port=Port.ROW0)
    asm.add(None, row, asm.constant(1), port=Port.ROTATE)
    asm.move(row, f["rows"])
    asm.sub(None, row, asm.constant(2), when=Condition.CARRY, to=f"{name} rows")
    asm.move(None, asm.zero, port=Port.LIMIT)
    asm.label(f"{name} rows")
    asm.add(None, address1, asm.zero, port=Port.ROW1)
    asm.move(None, asm.zero, port=Port.ROTATE)


def _convolve(asm, f, overwrite, limit, counted):
    one, four = asm.constant(1), asm.constant(4)
    (lanes1, lanes2, lanes3, left_al, al, a_g, b_g, left_g, a_r, b_r, tag_r, left_r, a, b, tag,
     left_c, mode, a_row, b2, c2, left2, b1, c1, left1) = asm.scratch(
        "lanes1 lanes2 lanes3 left_al al a_g b_g left_g a_r b_r tag_r left_r a b tag left_c mode "
        "a_row b2 c2 left2 b1 c1 left1")
    asm.label("convolve")
    for name in ("ng", "t1", "t0", "q2", "q1", "q0"):
        asm.move(None, f[name], when=Condition.ZERO, to="compute end")
    asm.move(None, f["q0"], port=Port.COUNT)
    asm.move(counted, asm.zero)
    asm.move(left2, f["q2"])
    asm.label("convolve count2")
    asm.move(left1, f["q1"])
    asm.label("convolve count1")
    asm.add(counted, counted, f["q0"])
    asm.count_down(left1, "convolve count1")
    asm.count_down(left2, "convolve count2")
    asm.move(None, f["bq0"], port=Port.B_STEP)
    asm.move(None, f["cq0"], port=Port.C_STEP)
    asm.move(a_g, f["abase"])
    asm.sub(None, a_g, f["bbase"], port=Port.TAGS)
    asm.move(b_g, f["bbase"])
    asm.move(left_g, f["ng"])
    asm.move(None, asm.zero, port=Port.ROTATE)
    for port in _LANES:
        asm.move(None, asm.zero, port=port)

    # what the lanes of a pixel vector add to its address, lane 0 nothing
    asm.unless(COMPUTE["a_pix"], "convolve g")
    asm.move(left_al, f["al_n"])
    asm.move(al, asm.zero)
    for before, lanes in ((asm.zero, lanes1), (lanes1, lanes2), (lanes2, lanes3)):
        asm.add(lanes, before, f["al0"])
        label = f"convolve lane {lanes.register}"
        asm.sub(left_al, left_al, one, when=Condition.NONZERO, to=label)
        asm.move(left_al, f["al_n"])
        asm.add(al, al, f["al1"])
        asm.move(lanes, al)
        asm.label(label)

    asm.label("convolve g")
    asm.move(a_r, a_g)
    asm.move(b_r, b_g)
    asm.move(tag_r, f["tag0"])
    asm.move(left_r, f["t1"])
    asm.label("convolve r")
    asm.move(a, a_r)
    asm.move(b, b_r)
    asm.move(tag, tag_r)
    asm.move(left_c, f["t0"])
    asm.label("convolve c")

    # how many lanes are live
    asm.move(limit, four)
    asm.move(a_row, left_g)
    asm.unless(COMPUTE["pack"], "convolve last")
    asm.move(a_row, left_c)
    asm.label("convolve last")
    asm.sub(None, a_row, one, when=Condition.NONZERO, to="convolve limited")
    asm.move(a_row, f["lanes_last"])
    asm.sub(None, a_row, four, when=Condition.CARRY, to="convolve limited")
    asm.move(limit, a_row)
    asm.label("convolve limited")

    # the tile
    asm.both(mode, tag, asm.constant(Mode.TAG))
    asm.add(mode, mode, overwrite)
    asm.unless(COMPUTE["zero"], "convolve numbers")
    asm.move(limit, asm.zero, to="convolve sweep")
    asm.label("convolve numbers")
    asm.unless(COMPUTE["ident"], "convolve sweep")
    asm.move(None, limit, when=Condition.ZERO, to="convolve identity")
    asm.add(mode, mode, asm.constant(Mode.IDENTITY0))
    asm.sub(None, limit, one, when=Condition.ZERO, to="convolve identity")
    asm.move(a_row, f["rows"])
    asm.sub(None, a_row, asm.constant(2), when=Condition.NO_CARRY, to="convolve identity")
    asm.add(mode, mode, asm.constant(Mode.IDENTITY1))
    asm.label("convolve identity")
    asm.move(limit, asm.zero)
    asm.unless(COMPUTE["sel"], "convolve sweep")
    asm.add(mode, mode, asm.constant(Mode.SELECT))
    asm.label("convolve sweep")
    asm.move(None, mode, port=Port.MODE)
    asm.add(a_row, a, f["ar"])
    asm.unless(COMPUTE["a_pix"], "convolve tile")
    asm.move(a_row, a)
    for lanes, port in zip((lanes1, lanes2, lanes3), _LANES[1:], strict=True):
        asm.move(None, lanes, port=port)
    asm.label("convolve tile")
    _tile(asm, f, "convolve", a, a_row, limit)
    asm.unless(COMPUTE["a_pix"], "convolve vectors")
    for port in _LANES[1:]:
        asm.move(None, asm.zero, port=port)
    asm.label("convolve vectors")

    asm.move(b2, b)
    asm.move(c2, f["cbase"])
    asm.move(left2, f["q2"])
    asm.label("convolve q2")
    asm.move(b1, b2)
    asm.move(c1, c2)
    asm.move(left1, f["q1"])
    asm.label("convolve q1")
    asm.add(None, b1, c1, port=Port.RUN)
    asm.add(b1, b1, f["bq1"])
    asm.add(c1, c1, f["cq1"])
    asm.count_down(left1, "convolve q1")
    asm.add(b2, b2, f["bq2"])
    asm.add(c2, c2, f["cq2"])
    asm.count_down(left2, "convolve q2")
    asm.move(overwrite, asm.zero)
    _count(asm, counted)

    asm.add(a, a, f["at0"])
    asm.add(b, b, f["bt0"])
    asm.add(tag, tag, f["tg0"])
    asm.count_down(left_c, "convolve c")
    asm.add(a_r, a_r, f["at1"])
    asm.add(b_r, b_r, f["bt1"])
    asm.add(tag_r, tag_r, f["tg1"])
    asm.count_down(left_r, "convolve r")
    asm.add(a_g, a_g, f["ag"])
    asm.add(b_g, b_g, f["bg"])
    asm.count_down(left_g, "convolve g")


def _gradient(asm, f, overwrite, limit, counted):
    one, four = asm.constant(1), asm.constant(4)
    (taps, taps4, ones_c, left, a, mode, pixel, pixel1, pixel2, left_q0, left_q1, back, b_g, c_g,
     left_g, b_r, c, skew_r, left_r, steps1, b, skew, left_c, steps0) = asm.scratch(
        "taps taps4 ones_c left a mode pixel pixel1 pixel2 left_q0 left_q1 back b_g c_g left_g b_r "
        "c skew_r left_r steps1 b skew left_c steps0")
    # of accumulators: a channel has `taps`, a group four times as many; then come the ones
    asm.move(taps, asm.zero)
    asm.move(left, f["t1"], when=Condition.ZERO, to="gradient taps end")
    asm.label("gradient taps")
    asm.add(taps, taps, f["t0"])
    asm.count_down(left, "gradient taps")
    asm.label("gradient taps end")
    asm.add(taps4, taps, taps)
    asm.add(taps4, taps4, taps4)
    asm.sub(ones_c, asm.zero, taps4)
    asm.move(left, f["lanes_last"], when=Condition.ZERO, to="gradient channels end")
    asm.label("gradient channels")
    asm.add(ones_c, ones_c, taps)
    asm.count_down(left, "gradient channels")
    asm.label("gradient channels end")

    asm.move(left, f["np"], when=Condition.ZERO, to="compute end")
    asm.move(a, f["abase"])
    asm.move(pixel, asm.zero)
    asm.move(pixel1, asm.zero)
    asm.move(pixel2, asm.zero)
    asm.move(left_q0, f["q0"])
    asm.move(left_q1, f["q1"])
    asm.move(None, taps, port=Port.C_STEP)
    asm.move(None, asm.zero, port=Port.B_STEP)
    asm.label("gradient chunk")
    asm.move(limit, four)
    asm.sub(None, left, four, when=Condition.CARRY, to="gradient limited")
    asm.move(limit, left)
    asm.label("gradient limited")
    asm.add(mode, overwrite, asm.constant(Mode.ROTATING), port=Port.MODE)
    asm.move(None, asm.zero, port=Port.ROTATE)
    for lane, port in enumerate(_LANES):
        asm.move(None, asm.constant(lane), port=port)
    _tile(asm, f, "gradient", a, a, limit)
    for port in _LANES:
        asm.move(None, pixel, port=port)
        asm.call(back, "gradient pixel")

    asm.move(c_g, f["cbase"])
    asm.move(b_g, f["bbase"])
    asm.move(left_g, f["ng"], when=Condition.ZERO, to="gradient ones")
    asm.label("gradient g")
    asm.move(counted, four)
    asm.sub(None, left_g, one, when=Condition.NONZERO, to="gradient group")
    asm.move(counted, f["lanes_last"])
    asm.label("gradient group")
    asm.move(None, counted, port=Port.COUNT)
    asm.move(b_r, b_g)
    asm.move(c, c_g)
    asm.move(skew_r, asm.zero)
    asm.move(steps1, f["sd1"])
    asm.move(left_r, f["t1"])
    asm.label("gradient r")
    asm.move(b, b_r)
    asm.move(skew, skew_r)
    asm.move(steps0, f["sd0"])
    asm.move(left_c, f["t0"])
    asm.label("gradient c")
    asm.move(None, skew, port=Port.ROTATE)
    asm.add(None, b, c, port=Port.RUN)
    asm.add(b, b, f["bt0"])
    asm.add(c, c, one)
    asm.sub(steps0, steps0, one, when=Condition.NONZERO, to="gradient skewed")
    asm.move(steps0, f["sd0"])
    asm.add(skew, skew, one)
    asm.label("gradient skewed")
    asm.count_down(left_c, "gradient c")
    asm.add(b_r, b_r, f["bt1"])
    asm.sub(steps1, steps1, one, when=Condition.NONZERO, to="gradient row skewed")
    asm.move(steps1, f["sd1"])
    asm.add(skew_r, skew_r, f["rskew"])
    asm.label("gradient row skewed")
    asm.count_down(left_r, "gradient r")
    asm.add(b_g, b_g, f["bg"])
    asm.add(c_g, c_g, taps4)
    asm.count_down(left_g, "gradient g")

    asm.add(c_g, c_g, ones_c)
    asm.label("gradient ones")
    asm.unless(COMPUTE["ones"], "gradient next")
    asm.add(None, mode, asm.constant(Mode.ONES), port=Port.MODE)
    asm.move(None, one, port=Port.COUNT)
    asm.add(None, b_g, c_g, port=Port.RUN)
    asm.add(c_g, c_g, one)
    asm.label("gradient next")
    asm.sub(c_g, c_g, f["cbase"])
    _count(asm, c_g)
    asm.move(overwrite, asm.zero)
    asm.add(a, a, four)
    asm.sub(left, left, four, when=Condition.ZERO, to="compute end")
    asm.move(None, left, when=Condition.NEGATIVE, to="compute end")
    asm.jump("gradient chunk")

    # the next pixel
    asm.label("gradient pixel")
    asm.add(pixel, pixel, f["bq0"])
    asm.sub(left_q0, left_q0, one, when=Condition.NONZERO, to="gradient pixel end")
    asm.move(left_q0, f["q0"])
    asm.add(pixel1, pixel1, f["bq1"])
    asm.sub(left_q1, left_q1, one, when=Condition.NONZERO, to="gradient row end")
    asm.move(left_q1, f["q1"])
    asm.add(pixel2, pixel2, f["bq2"])
    asm.move(pixel1, pixel2)
    asm.label("gradient row end")
    asm.move(pixel, pixel1)
    asm.label("gradient pixel end")
    asm.ret(back)


def _count(asm, vectors):
    """Count moving vectors in ACTIVE of the unit."""
    active = asm.host("ACTIVE_COMPUTE")
    asm.add(active, active, vectors)
