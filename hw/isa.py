"""Instruction encoding: one table, used by the assembler, the gateware, and the model's C++ header.

An instruction is 16 little-endian 32-bit words. docs/program.md says what the fields mean.
"""

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["Unit", "Field", "COMMON", "LOAD", "COMPUTE", "POST", "LAYOUTS", "WORDS", "BYTES",
           "encode", "decode", "c_header"]

WORDS = 16
BYTES = 4 * WORDS


class Unit(IntEnum):
    """Who executes an instruction; also the bit number in its `wait` and `signal` masks."""

    LOAD_A = 0
    LOAD_B = 1
    COMPUTE = 2
    POST = 3
    END = 15


@dataclass(frozen=True)
class Field:
    """Bits `lo .. lo+width-1` of word `word`."""

    word: int
    lo: int
    width: int
    signed: bool = False

    @property
    def range(self):
        """Smallest and largest value."""
        if self.signed:
            return -(1 << (self.width - 1)), (1 << (self.width - 1)) - 1
        return 0, (1 << self.width) - 1


def _u(word, lo, width):
    return Field(word, lo, width)


def _s(word, lo, width):
    return Field(word, lo, width, signed=True)


COMMON = {"unit": _u(0, 0, 4), "wait": _u(0, 4, 4), "signal": _u(0, 8, 4)}

LOAD = COMMON | {
    "padneg": _u(0, 12, 1), "pack": _u(0, 13, 1), "unpool": _u(0, 14, 1),
    # memory side: runs of d_len beats
    "d_base": _u(1, 0, 32),
    "d_len": _u(2, 0, 16), "d_n1": _u(2, 16, 16),
    "d_s1": _s(3, 0, 32),
    "d_n2": _u(4, 0, 16), "d_n3": _u(4, 16, 16),
    "d_s2": _s(5, 0, 32),
    "d_s3": _s(6, 0, 32),
    # buffer side: pixels of spp beats
    "abase": _u(7, 0, 16), "spp": _u(7, 16, 8), "ch0": _u(7, 24, 8),
    "nb": _u(8, 0, 8), "cstep": _u(8, 8, 8), "k2": _u(8, 16, 8), "k1": _u(8, 24, 8),
    "n2": _u(9, 0, 16), "n1": _u(9, 16, 16),
    "n0": _u(10, 0, 16), "k0": _u(10, 16, 8),
    "a2": _u(11, 0, 16), "a1": _u(11, 16, 16),
    "lo1": _u(12, 0, 16), "hi1": _u(12, 16, 16),
    "lo0": _u(13, 0, 16), "hi0": _u(13, 16, 16),
    "sd1": _u(14, 0, 8), "sd0": _u(14, 8, 8),
    # pooling windows: kernel, stride, rows and columns of the first ones that are cut off
    "v1": _u(0, 16, 4), "v0": _u(0, 20, 4),
    "u1": _u(14, 16, 4), "u0": _u(14, 20, 4), "x1": _u(14, 24, 4), "x0": _u(14, 28, 4),
    "t_base": _u(15, 0, 32),  # tags
}

COMPUTE = COMMON | {
    "dw": _u(0, 12, 1), "first": _u(0, 13, 1), "ident": _u(0, 14, 1), "sel": _u(0, 15, 1),
    "zero": _u(0, 16, 1), "fence": _u(0, 17, 1), "a_pix": _u(0, 18, 1), "pack": _u(0, 19, 1),
    "ones": _u(0, 20, 1),
    "abase": _u(1, 0, 16), "bbase": _u(1, 16, 16),
    "cbase": _u(2, 0, 16), "rows": _u(2, 16, 8), "lanes_last": _u(2, 24, 8),
    "ng": _u(3, 0, 16), "t1": _u(3, 16, 8), "t0": _u(3, 24, 8),
    "q2": _u(4, 0, 16), "q1": _u(4, 16, 16),
    "q0": _u(5, 0, 16), "np": _u(5, 16, 16),
    "ag": _s(6, 0, 16), "bg": _s(6, 16, 16),
    "at1": _s(7, 0, 16), "at0": _s(7, 16, 16),
    "bt1": _s(8, 0, 16), "bt0": _s(8, 16, 16),
    "bq2": _s(9, 0, 16), "bq1": _s(9, 16, 16),
    "bq0": _s(10, 0, 16), "ar": _s(10, 16, 16),
    "cq2": _s(11, 0, 16), "cq1": _s(11, 16, 16),
    "cq0": _s(12, 0, 16), "al_n": _u(12, 16, 16),
    "al0": _s(13, 0, 16), "al1": _s(13, 16, 16),
    "tag0": _u(14, 0, 8), "tg1": _u(14, 8, 8), "tg0": _u(14, 16, 8), "rch0": _u(14, 24, 8),
    "rskew": _u(15, 0, 8), "sd1": _u(15, 8, 8), "sd0": _u(15, 16, 8),
}

POST = COMMON | {
    "src_mem": _u(0, 12, 1), "src_fp32": _u(0, 13, 1), "pool": _u(0, 14, 1), "tags": _u(0, 15, 1),
    "scale": _u(0, 16, 1), "bias": _u(0, 17, 1), "opd_add": _u(0, 18, 1), "relu": _u(0, 19, 1),
    "mask": _u(0, 20, 1), "sgd": _u(0, 21, 1), "mom": _u(0, 22, 1), "out_fp32": _u(0, 23, 1),
    "opd_fp32": _u(0, 24, 1),
    "src_base": _u(1, 0, 32),  # memory address, or accumulator address
    "p2": _u(2, 0, 16), "p1": _u(2, 16, 16),
    "p0": _u(3, 0, 16), "w1": _u(3, 16, 8), "w0": _u(3, 24, 8),
    "as2": _s(4, 0, 16), "as1": _s(4, 16, 16),
    "as0": _s(5, 0, 16), "aw1": _s(5, 16, 16),
    "aux_base": _u(6, 0, 32),  # second output: tags, or momentum
    "imm2": _u(7, 0, 32),  # lr (sgd), or the byte address of the bias (bias)
    "opd_base": _u(8, 0, 32),
    "out_base": _u(9, 0, 32),
    "o_len": _u(10, 0, 16), "o_n1": _u(10, 16, 16),
    "o_s1": _s(11, 0, 32),
    "o_n2": _u(12, 0, 16), "aw0": _s(12, 16, 16),
    "o_s2": _s(13, 0, 32),
    "imm0": _u(14, 0, 32),  # scale, or weight decay (sgd): fp32 bits
    "imm1": _u(15, 0, 32),  # momentum factor (mom): fp32 bits
}

LAYOUTS = {Unit.LOAD_A: LOAD, Unit.LOAD_B: LOAD, Unit.COMPUTE: COMPUTE, Unit.POST: POST,
           Unit.END: COMMON}


def encode(unit, **values):
    """One instruction as a list of 16 words; fields left out are 0.

    Raises KeyError for a field the unit does not have, ValueError for a value out of its range.
    """
    words = [0] * WORDS
    for name, value in {"unit": int(unit), **values}.items():
        field = LAYOUTS[Unit(unit)][name]
        low, high = field.range
        if not low <= value <= high:
            raise ValueError(f"{Unit(unit).name}.{name} must be in {low}..{high}, not {value!r}")
        words[field.word] |= (int(value) & ((1 << field.width) - 1)) << field.lo
    return words


def decode(words):
    """The fields of one instruction (16 words) as a dict, `unit` as a Unit."""
    unit = Unit(words[0] & 15)
    values = {}
    for name, field in LAYOUTS[unit].items():
        value = (words[field.word] >> field.lo) & ((1 << field.width) - 1)
        values[name] = value - (1 << field.width) if value > field.range[1] else value
    values["unit"] = unit
    return values


def c_header():
    """The same table as a C++ header: one struct and one decode function per unit."""
    lines = ["// generated from hw/isa.py", "#pragma once", "#include <cstdint>", "namespace isa {",
             f"constexpr int WORDS = {WORDS};"]
    lines += [f"constexpr uint32_t {unit.name} = {int(unit)};" for unit in Unit]
    for name, layout in (("Load", LOAD), ("Compute", COMPUTE), ("Post", POST)):
        members = "".join(f" {'u' * (not f.signed)}int32_t {n};" for n, f in layout.items())
        lines += [f"struct {name} {{{members}}};",
                  f"inline {name} decode_{name}(const uint32_t *w) {{", f"  {name} x;"]
        for n, f in layout.items():
            if f.signed:
                left, right = 32 - f.lo - f.width, 32 - f.width
                lines.append(f"  x.{n} = (int32_t)(w[{f.word}] << {left}) >> {right};")
            else:
                lines.append(f"  x.{n} = (w[{f.word}] >> {f.lo}) & 0x{(1 << f.width) - 1:x}u;")
        lines += ["  return x;", "}"]
    return "\n".join(lines + ["}", ""])
