"""POST by docs/program.md, section 5, and docs/numerics.md, section 3, in plain Python."""

from types import SimpleNamespace

from gradgate.hw import numerics
from gradgate.hw.isa import POST, Unit

from tests.hw.operands import FloatSource

__all__ = ["MODES", "Flags", "Layout", "execute", "fill", "instruction", "places"]

ACC = {"as2": 37, "as1": -5, "as0": 3, "src_base": 70}
POOL = ACC | {"aw1": 11, "aw0": -7, "pool": 1}
MEMORY = {"src_mem": 1}
SGD = {"sgd": 1, "imm0": 0x3a03126f, "imm1": 0x3f666666, "imm2": 0x3d4ccccd}
MODES = {
    "forward": ACC | {"bias": 1, "relu": 1},
    "forward_pooled": POOL | {"bias": 1, "relu": 1},
    "forward_pooled_tags": POOL | {"bias": 1, "relu": 1, "tags": 1},
    "logits_pooled_tags": POOL | {"bias": 1, "out_fp32": 1, "tags": 1},
    "logits": ACC | {"bias": 1, "out_fp32": 1},
    "masked": ACC | {"mask": 1},
    "scaled_and_masked": ACC | {"scale": 1, "mask": 1, "imm0": 0x3e2aaaab},
    "all_but_sum": ACC | {"scale": 1, "bias": 1, "relu": 1, "mask": 1, "imm0": 0xbf19999a},
    "mask_of_fp32": ACC | {"mask": 1, "opd_fp32": 1, "out_fp32": 1},
    "gradient": ACC | {"out_fp32": 1},
    "sum": ACC | {"opd_add": 1, "opd_fp32": 1, "out_fp32": 1},
    "sum_of_operands": ACC | {"opd_add": 1, "relu": 1},
    "relu": ACC | {"relu": 1},
    "update": ACC | SGD,
    "update_with_momentum": ACC | SGD | {"mom": 1, "out_fp32": 1, "opd_fp32": 1},
    "update_from_memory": MEMORY | SGD | {"mom": 1, "src_fp32": 1, "imm0": 0x3dcccccd,
                                          "imm1": 0x3f333333, "imm2": 0x3f000000},
    "plain_update_from_memory": MEMORY | SGD | {"src_fp32": 1, "imm1": 0x7f7fffff},
    "update_with_odd_constants": ACC | SGD | {"mom": 1, "imm0": 0x00000001, "imm1": 0x7f800000,
                                              "imm2": 0xbd4ccccd},
    "compute_copy": MEMORY | {"src_fp32": 1},
    "loss_mask": MEMORY | {"mask": 1},
    "copy_to_fp32": MEMORY | {"out_fp32": 1},
    "memory_sum": MEMORY | {"opd_add": 1},
}


class Flags:
    """Arithmetic that remembers overflows and what was not finite."""

    def __init__(self):
        self.nonfinite = self.overflow = False

    def op(self, function, *args):
        bits, overflow = function(*args)
        self.overflow |= overflow
        return bits

    def load(self, fmt, stream, at):
        size = 4 if fmt == "fp32" else 2
        bits, bad = numerics.canonicalise(fmt, int.from_bytes(stream[at:at + size], "little"))
        self.nonfinite |= bad
        return bits << 32 - 8 * size


def greater(a, b):
    """a > b for canonical fp32."""
    def key(bits):
        return -(bits & 0x7fffffff) if bits >> 31 else bits
    return key(a) > key(b)


def places(config, insn, base, half=False):
    """(address, bytes) of the runs of the output, or of half of them, from `base`."""
    f, size = SimpleNamespace(**insn), config.beat_bytes
    shift = 1 if half else 0
    return [(base + i2 * (f.o_s2 >> shift) + i1 * (f.o_s1 >> shift), (f.o_len >> shift) * size)
            for i2 in range(f.o_n2) for i1 in range(f.o_n1)]


def half_tags(config, insn):
    return insn["tags"] and insn["out_fp32"] and config.fmt == "bf16"


def outputs(config, insn):
    """The runs of the first output, and of the second or None."""
    second = None
    if insn["tags"] or insn["mom"]:
        second = places(config, insn, insn["aux_base"], half_tags(config, insn))
    return places(config, insn, insn["out_base"]), second


def gather(memory, runs):
    return b"".join(bytes(memory[start:start + length]) for start, length in runs)


def scatter(memory, runs, stream):
    position = 0
    for start, length in runs:
        memory[start:start + length] = stream[position:position + length]
        position += length
    assert position == len(stream)


def execute(config, insn, acc, memory):
    """Execute `insn`, with every field, on `memory`; returns its Flags."""
    f, flags = SimpleNamespace(**insn), Flags()
    src_fmt = "fp32" if f.src_fp32 else config.fmt
    opd_fmt = "fp32" if f.opd_fp32 or f.sgd else config.fmt
    width = {"fp32": 4, "bf16": 2}
    imm0, imm1, lr = (numerics.canonicalise("fp32", insn[f"imm{k}"])[0] for k in range(3))
    biases = [flags.load("fp32", memory, f.imm2 + 4 * ch)
              for ch in range(config.tm)] if f.bias else []
    operands = gather(memory, places(config, insn, f.opd_base))
    momenta = gather(memory, places(config, insn, f.aux_base)) if f.mom else b""
    windows = [(j1, j0) for j1 in range(f.w1) for j0 in range(f.w0)] if f.pool else [(0, 0)]

    first, second = bytearray(), bytearray()
    pixels = [(i2, i1, i0) for i2 in range(f.p2) for i1 in range(f.p1) for i0 in range(f.p0)]
    for number, (i2, i1, i0) in enumerate(pixels):
        for ch in range(config.tm):
            index, tag = number * config.tm + ch, 0
            if f.src_mem:
                x = flags.load(src_fmt, memory, f.src_base + index * width[src_fmt])
            else:
                at = f.src_base + i2 * f.as2 + i1 * f.as1 + i0 * f.as0
                values = [acc[(at + j1 * f.aw1 + j0 * f.aw0) % (2 * config.acc_depth)][ch]
                          for j1, j0 in windows]
                x = values[0]
                for k, value in enumerate(values):
                    if greater(value, x):
                        tag, x = k, value
            if f.scale:
                x = flags.op(numerics.fmul, x, imm0)
            if f.bias:
                x = flags.op(numerics.fadd, x, biases[ch])
            if f.opd_add or f.mask or f.sgd:
                y = flags.load(opd_fmt, operands, index * width[opd_fmt])
            if f.opd_add:
                x = flags.op(numerics.fadd, x, y)
            if f.relu and not greater(x, 0):
                x = 0
            if f.mask and not greater(y, 0):
                x = 0
            if f.sgd:
                mom = flags.load("fp32", momenta, index * 4) if f.mom else 0
                g1 = flags.op(numerics.fadd, x, flags.op(numerics.fmul, imm0, y))
                mom = flags.op(numerics.fadd, flags.op(numerics.fmul, imm1, mom), g1)
                x = flags.op(numerics.fsub, y, flags.op(numerics.fmul, lr, mom))
                if f.mom:
                    second += mom.to_bytes(4, "little")
            if f.sgd or f.out_fp32:
                first += x.to_bytes(4, "little")
            else:
                bits = flags.op(numerics.to_operand, config.fmt, x)
                first += bits.to_bytes(config.elem_bytes, "little")
            if f.tags:
                second += numerics.tag(config.fmt, tag).to_bytes(config.elem_bytes, "little")

    out, aux = outputs(config, insn)
    scatter(memory, out, first)
    if aux is not None:
        scatter(memory, aux, second)
    return flags


class Layout:
    """Gives every tensor a place of its own, with gaps."""

    def __init__(self, config):
        self.config, self.end = config, 0xfe0

    def take(self, beats):
        start = self.end
        self.end += (beats + 3) * self.config.beat_bytes
        return start


def instruction(config, layout, mode, shape, window=(1, 1)):
    """All fields of a POST of a mode, p2, p1, p0 = shape; rows of output in runs with gaps."""
    insn = dict.fromkeys(POST, 0) | {"unit": int(Unit.POST)} | MODES[mode]
    insn |= dict(zip(("p2", "p1", "p0"), shape, strict=True))
    insn |= dict(zip(("w1", "w0"), window, strict=True))
    beat = config.beat_bytes
    size = 4 if insn["sgd"] or insn["out_fp32"] else config.elem_bytes
    row = insn["p0"] * config.tm * size // beat
    insn |= {"o_len": row, "o_n1": insn["p1"], "o_s1": (row + 4) * beat, "o_n2": insn["p2"]}
    insn["o_s2"] = insn["o_s1"] * insn["p1"] - 4 * beat  # touches
    extent = (row + 4) * insn["p1"] * insn["p2"]
    insn["out_base"] = layout.take(extent)
    insn["aux_base"] = layout.take(extent)
    if insn["opd_add"] or insn["mask"] or insn["sgd"]:
        insn["opd_base"] = layout.take(extent)
    if insn["bias"]:
        insn["imm2"] = layout.take(config.groups)
    if insn["src_mem"]:
        insn["src_base"] = layout.take(config.groups * shape[0] * shape[1] * shape[2])
    return insn


def fill(config, insn, memory, rng, tame=True):
    """Numbers where `insn` reads: moderate ones when tame, else the corners of the formats."""
    def numbers(start, length, fmt):
        source, size = FloatSource(rng, fmt), 4 if fmt == "fp32" else 2
        for address in range(start, start + length, size):
            bits = number(rng, source, tame)
            memory[address:address + size] = bits.to_bytes(size, "little")

    src_fmt = "fp32" if insn["src_fp32"] else config.fmt
    opd_fmt = "fp32" if insn["opd_fp32"] or insn["sgd"] else config.fmt
    if insn["src_mem"]:
        elements = insn["p2"] * insn["p1"] * insn["p0"] * config.tm
        numbers(insn["src_base"], elements * (4 if src_fmt == "fp32" else 2), src_fmt)
    if insn["opd_base"]:
        for start, length in places(config, insn, insn["opd_base"]):
            numbers(start, length, opd_fmt)
    if insn["mom"]:
        for start, length in places(config, insn, insn["aux_base"]):
            numbers(start, length, "fp32")
    if insn["bias"]:
        numbers(insn["imm2"], 4 * config.tm, "fp32")


def number(rng, source, tame=True, canonical=False):
    if tame:
        return source.near(127, 8) if rng.random() < 0.9 else 0
    return source.any() if canonical or rng.random() < 0.98 else rng.getrandbits(source.width)
