"""Microcode of POST: docs/program.md, section 5, with the steps of docs/numerics.md, section 3."""

from gradgate.hw.isa import POST
from gradgate.hw.micro.assembler import Condition, Cut, Port

__all__ = ["post"]

_SIGN, _EXPONENT, _HIGH = 0x80000000, 0x7f800000, 0xffff0000
_LARGEST = 0x7f7f0000  # finite operand
_STEPS = ("scale", "bias", "opd_add", "relu", "mask", "sgd")
_TAGS = 0x40004000  # a beat of two tags that are 0


def post(asm, done):
    """The code from label `post` on; ends at label `done`.

    A pixel, of two elements, takes about 60 words and what its arithmetic takes.
    """
    f, one, four = asm.fields(POST), asm.constant(1), asm.constant(4)
    (imm0, imm1, minus_lr, bias0, bias1, bias, back, c2, c1, c, left2, left1, left0, row, x, x1,
     first, other, other1, tag, tag0, index, best, value, w1, left_w1, w0, left_w0) = asm.scratch(
        "imm0 imm1 minus_lr bias0 bias1 bias back c2 c1 c left2 left1 left0 row x x1 first other "
        "other1 tag tag0 index best value w1 left_w1 w0 left_w0")
    (out2, out1, out, left_o1, left, aux2, aux1, aux, step2, step1, from_opd, from_aux,
     momentum) = asm.scratch(
        "out2 out1 out left_o1 left aux2 aux1 aux step2 step1 from_opd from_aux momentum")

    asm.label("post")
    for name in ("p2", "p1", "p0"):
        asm.move(None, f[name], when=Condition.ZERO, to=done)
    asm.number(imm0, f["imm0"][Cut.FP32])
    asm.number(imm1, f["imm1"][Cut.FP32])
    asm.number(minus_lr, f["imm2"][Cut.FP32])
    asm.xor(minus_lr, minus_lr, asm.constant(_SIGN))
    asm.unless(POST["bias"], "post no bias")
    asm.move(x, f["imm2"])
    asm.add(x, x, four, port=Port.READ)
    asm.number(bias0, asm.memory[Cut.FP32])
    asm.add(x, x, four, port=Port.READ)
    asm.number(bias1, asm.memory[Cut.FP32])
    asm.label("post no bias")
    _begin_streams(asm, f, out2, out1, out, left_o1, left, aux2, aux1, aux, step2, step1, from_opd,
                   from_aux, x, left0)

    # the pixels; of a memory source, c is the address
    asm.move(c2, f["src_base"])
    asm.move(left2, f["p2"])
    asm.label("post p2")
    asm.move(c1, c2)
    asm.move(left1, f["p1"])
    asm.label("post p1")
    asm.move(c, c1)
    asm.move(left0, f["p0"])
    asm.label("post p0")
    asm.move(row, asm.zero)
    asm.move(bias, bias0)
    asm.call(back, "post source")
    asm.move(tag0, tag)
    asm.call(back, "post operand")
    asm.call(back, "post steps")
    asm.call(back, "post write")
    asm.move(row, one)
    asm.move(bias, bias1)
    asm.call(back, "post source")
    asm.call(back, "post operand")
    asm.call(back, "post steps")
    asm.call(back, "post write")
    asm.unless(POST["tags"], "post next")
    asm.both(tag, tag, asm.constant(_HIGH))
    asm.add(tag, tag, tag0[Cut.LOW])
    asm.add(tag, tag, asm.constant(_TAGS))
    asm.add(None, aux, tag, port=Port.WRITE)
    asm.add(aux, aux, four)
    asm.label("post next")
    asm.both(None, asm.instruction[0], asm.constant(1 << POST["src_mem"].lo),
             when=Condition.NONZERO, to="post memory")
    asm.add(c, c, f["as0"])
    asm.count_down(left0, "post p0")
    asm.add(c1, c1, f["as1"])
    asm.count_down(left1, "post p1")
    asm.add(c2, c2, f["as2"])
    asm.count_down(left2, "post p2")
    asm.jump(done)
    asm.label("post memory")
    asm.count_down(left0, "post p0")
    asm.move(left0, f["p0"])
    asm.count_down(left1, "post p0")
    asm.move(left1, f["p1"])
    asm.count_down(left2, "post p0")
    asm.jump(done)

    _source(asm, f, back, c, row, x, x1, tag, index, best, value, w1, left_w1, w0, left_w0)
    _operand(asm, f, back, row, other, other1, out2, out1, out, left_o1, left, aux2, aux1, aux,
             step2, step1, from_opd, from_aux, momentum)
    _steps(asm, back, x, other, bias, imm0, imm1, minus_lr, momentum, value)
    _write(asm, back, row, x, first, out, from_aux, momentum, value)


def _unless_wide(asm, to):
    """To `to` unless outputs and operands are fp32."""
    asm.both(None, asm.instruction[0],
             asm.constant(1 << POST["out_fp32"].lo | 1 << POST["sgd"].lo),
             when=Condition.ZERO, to=to)


def _begin_streams(asm, f, out2, out1, out, left_o1, left, aux2, aux1, aux, step2, step1, from_opd,
                   from_aux, x, times):
    """Pointers of the first run. Operands and momenta lie at fixed distances from the output; tags
    may have strides of their own."""
    one = asm.constant(1)
    asm.move(out2, f["out_base"])
    asm.move(aux2, f["aux_base"])
    asm.move(from_opd, f["opd_base"])
    asm.sub(from_opd, from_opd, out2)
    asm.sub(from_aux, aux2, out2)
    for register, base in ((out1, out2), (out, out2), (aux1, aux2), (aux, aux2)):
        asm.move(register, base)
    asm.move(left_o1, f["o_n1"])
    asm.move(left, f["o_len"])
    asm.move(step2, f["o_s2"])
    asm.move(step1, f["o_s1"])
    asm.unless(POST["tags"], "post streams")
    _unless_wide(asm, "post streams")
    # half of a stride: all its bits but the lowest, behind copies of its sign
    for step, name in ((step2, "post half2"), (step1, "post half1")):
        asm.move(times, asm.constant(31))
        asm.move(x, step)
        asm.move(step, asm.constant(-1))
        asm.move(None, x, when=Condition.NEGATIVE, to=name)
        asm.move(step, asm.zero)
        asm.label(name)
        asm.add(step, step, step)
        asm.add(x, x, x, when=Condition.NO_CARRY, to=f"{name} bit")
        asm.add(step, step, one)
        asm.label(f"{name} bit")
        asm.count_down(times, name)
    asm.label("post streams")


def _source(asm, f, back, c, row, x, x1, tag, index, best, value, w1, left_w1, w0, left_w0):
    """x = the next element, `tag` its tag in both halves; c moves on over a memory source."""
    four = asm.constant(4)
    asm.label("post source")
    asm.unless(POST["src_mem"], "post drain")
    asm.unless(POST["src_fp32"], "post source operands")
    asm.add(c, c, four, port=Port.READ)
    asm.number(x, asm.memory[Cut.FP32])
    asm.ret(back)
    asm.label("post source operands")
    asm.move(x, x1)
    asm.move(None, row, when=Condition.NONZERO, to="post source end")
    asm.add(c, c, four, port=Port.READ)
    asm.number(x, asm.memory[Cut.BF16_LOW])
    asm.number(x1, asm.memory[Cut.BF16_HIGH])
    asm.label("post source end")
    asm.ret(back)

    asm.label("post drain")
    asm.add(None, c, row, port=Port.ACCUMULATOR)
    asm.move(x, asm.accumulator)
    asm.both(None, asm.instruction[0], asm.constant(1 << POST["pool"].lo),
             when=Condition.ZERO, to="post source end")
    # numbers in an order that unsigned integers have as well; 0 is before all of them
    asm.move(best, asm.zero)
    asm.move(index, asm.zero)
    asm.move(w1, c)
    asm.move(left_w1, f["w1"])
    asm.label("post w1")
    asm.move(w0, w1)
    asm.move(left_w0, f["w0"])
    asm.label("post w0")
    asm.add(None, w0, row, port=Port.ACCUMULATOR)
    asm.move(value, asm.accumulator, when=Condition.NEGATIVE, to="post negative")
    asm.xor(value, value, asm.constant(_SIGN), to="post ordered")
    asm.label("post negative")
    asm.xor(value, value, asm.constant(-1))
    asm.label("post ordered")
    asm.sub(None, best, value, when=Condition.CARRY, to="post no better")
    asm.move(best, value)
    asm.move(x, asm.accumulator)
    asm.move(tag, index)
    asm.label("post no better")
    asm.add(index, index, asm.constant(0x10001))
    asm.add(w0, w0, f["aw0"])
    asm.count_down(left_w0, "post w0")
    asm.add(w1, w1, f["aw1"])
    asm.count_down(left_w1, "post w1")
    asm.ret(back)


def _operand(asm, f, back, row, other, other1, out2, out1, out, left_o1, left, aux2, aux1, aux,
             step2, step1, from_opd, from_aux, momentum):
    """Makes `out` the address of the element's beat; reads its operand and its momentum."""
    one = asm.constant(1)
    asm.label("post operand")
    _unless_wide(asm, "post operand narrow")
    asm.label("post beat")
    asm.sub(left, left, one, when=Condition.NO_CARRY, to="post run")
    asm.label("post beat begin")
    asm.both(None, asm.instruction[0],
             asm.constant(sum(1 << POST[name].lo for name in ("opd_add", "mask", "sgd"))),
             when=Condition.ZERO, to="post operand end")
    asm.add(other, out, from_opd)
    asm.add(None, other, asm.zero, port=Port.READ)
    _unless_wide(asm, "post operands")
    asm.number(other, asm.memory[Cut.FP32])
    asm.unless(POST["mom"], "post operand end")
    asm.add(momentum, out, from_aux)
    asm.add(None, momentum, asm.zero, port=Port.READ)
    asm.number(momentum, asm.memory[Cut.FP32])
    asm.ret(back)
    asm.label("post operands")
    asm.number(other, asm.memory[Cut.BF16_LOW])
    asm.number(other1, asm.memory[Cut.BF16_HIGH])
    asm.label("post operand end")
    asm.ret(back)
    asm.label("post operand narrow")
    asm.move(None, row, when=Condition.ZERO, to="post beat")
    asm.move(other, other1)
    asm.ret(back)

    asm.label("post run")
    asm.move(left, f["o_len"])
    asm.sub(left, left, one)
    asm.sub(left_o1, left_o1, one, when=Condition.ZERO, to="post run2")
    asm.add(out1, out1, f["o_s1"])
    asm.add(aux1, aux1, step1)
    asm.label("post run begin")
    asm.move(out, out1)
    asm.move(aux, aux1, to="post beat begin")
    asm.label("post run2")
    asm.move(left_o1, f["o_n1"])
    asm.add(out2, out2, f["o_s2"])
    asm.add(aux2, aux2, step2)
    asm.move(out1, out2)
    asm.move(aux1, aux2, to="post run begin")


def _steps(asm, back, x, other, bias, imm0, imm1, minus_lr, momentum, value):
    """x through the steps."""
    asm.label("post steps")
    asm.both(None, asm.instruction[0],
             asm.constant(sum(1 << POST[name].lo for name in _STEPS)),
             when=Condition.ZERO, to="post steps end")
    asm.both(None, asm.instruction[0], asm.constant(1 << POST["sgd"].lo), when=Condition.NONZERO,
             to="post sgd")
    asm.unless(POST["scale"], "post bias")
    asm.fmul(x, x, imm0)
    asm.label("post bias")
    asm.unless(POST["bias"], "post add")
    asm.fadd(x, x, bias)
    asm.label("post add")
    asm.unless(POST["opd_add"], "post relu")
    asm.fadd(x, x, other)
    asm.label("post relu")
    asm.unless(POST["relu"], "post mask")
    asm.move(None, x, when=Condition.NEGATIVE, to="post off")
    asm.label("post mask")
    asm.unless(POST["mask"], "post steps end")
    asm.move(None, other, when=Condition.NEGATIVE, to="post off")
    asm.move(None, other, when=Condition.NONZERO, to="post steps end")
    asm.label("post off")
    asm.move(x, asm.zero)
    asm.label("post steps end")
    asm.ret(back)

    asm.label("post sgd")
    asm.fmul(value, imm0, other)
    asm.fadd(x, x, value)
    asm.unless(POST["mom"], "post update")
    asm.fmul(momentum, imm1, momentum)
    asm.fadd(momentum, momentum, x)
    asm.move(x, momentum)
    asm.label("post update")
    asm.fmul(x, minus_lr, x)
    asm.fadd(x, other, x)
    asm.ret(back)


def _write(asm, back, row, x, first, out, from_aux, momentum, value):
    """x, and the momentum, to memory; operands two at a time."""
    one, four = asm.constant(1), asm.constant(4)
    asm.label("post write")
    _unless_wide(asm, "post round")
    asm.add(None, out, x, port=Port.WRITE)
    asm.unless(POST["mom"], "post written")
    asm.add(value, out, from_aux)
    asm.add(None, value, momentum, port=Port.WRITE)
    asm.label("post written")
    asm.add(out, out, four)
    asm.ret(back)

    asm.label("post round")
    asm.both(None, x, asm.constant(1 << 16), when=Condition.ZERO, to="post even")
    asm.add(x, x, one)
    asm.label("post even")
    asm.add(x, x, asm.constant(0x7fff))
    asm.both(value, x, asm.constant(_EXPONENT))
    asm.xor(None, value, asm.constant(_EXPONENT), when=Condition.NONZERO, to="post rounded")
    asm.both(x, x, asm.constant(_SIGN))
    asm.add(x, x, asm.constant(_LARGEST), port=Port.OVERFLOW)
    asm.label("post rounded")
    asm.move(None, row, when=Condition.NONZERO, to="post both")
    asm.move(first, x)
    asm.ret(back)
    asm.label("post both")
    asm.both(x, x, asm.constant(_HIGH))
    asm.add(x, x, first[Cut.HIGH])
    asm.add(None, out, x, port=Port.WRITE)
    asm.add(out, out, four)
    asm.ret(back)
