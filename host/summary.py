"""What a program will do, counted from its instructions: bytes moved and cycles of the array."""

from dataclasses import dataclass

from gradgate.hw.isa import BYTES, Unit

__all__ = ["Usage", "pass_order", "summarise"]


@dataclass
class Usage:
    """Totals over some instructions of a program.

    `array_cycles` is how long the array alone needs: one cycle per moving vector, and no sweep
    shorter than docs/program.md section 4 allows; memory, draining and starting up come on top.
    """

    instructions: int = 0
    array_cycles: int = 0
    read_bytes: int = 0
    write_bytes: int = 0

    def __iadd__(self, other):
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


def _array_cycles(f, config):
    if f["dw"]:
        vectors = ((f["ng"] - 1) * config.tn + f["lanes_last"]) * f["t1"] * f["t0"] + f.get(
            "ones", 0
        )
        return -(-f["np"] // config.tn) * max(vectors, config.tn)
    return f["ng"] * f["t1"] * f["t0"] * max(f["q2"] * f["q1"] * f["q0"], config.tm)


def _post_bytes(f, config):
    output = f["o_len"] * f["o_n1"] * f["o_n2"] * config.beat_bytes
    read = output if any(f.get(k) for k in ("opd_add", "mask", "sgd")) else 0
    written = output
    if f.get("mom"):
        read += output
        written += output
    if f.get("tags"):
        written += output * config.elem_bytes // 4 if f.get("out_fp32") else output
    if f.get("bias"):
        read += config.tm * 4
    if f.get("src_mem"):
        word = 4 if f.get("src_fp32") else config.elem_bytes
        read += f["p2"] * f["p1"] * f["p0"] * config.tm * word
    return read, written


def _usage(unit, fields, config):
    f = {"dw": 0, **fields}
    if unit in (Unit.LOAD_A, Unit.LOAD_B):
        beats = f["d_len"] * f["d_n1"] * f["d_n2"] * f["d_n3"] * (2 if f.get("unpool") else 1)
        return Usage(1, 0, BYTES + beats * config.beat_bytes, 0)
    if unit == Unit.COMPUTE:
        return Usage(1, _array_cycles(f, config), BYTES, 0)
    read, written = _post_bytes(f, config)
    return Usage(1, 0, BYTES + read, written)


def pass_order(program):
    """All (layer name, pass) of a Program, in the order of what they compute or store: loads may be
    for a pass to come."""
    loads = (Unit.LOAD_A, Unit.LOAD_B)
    units = [unit in loads for unit, _ in program.instructions]
    pairs = zip(units, program.labels, strict=True)
    return list(dict.fromkeys(label for _, label in sorted(pairs, key=lambda pair: pair[0])))


def summarise(program, config):
    """{(layer name, pass): Usage} of a Program, in `pass_order`."""
    found = {label: Usage() for label in pass_order(program)}
    for (unit, fields), label in zip(program.instructions, program.labels, strict=True):
        found[label] += _usage(unit, fields, config)
    return found
