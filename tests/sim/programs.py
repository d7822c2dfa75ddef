"""Random legal programs at the level of instructions, for comparing two devices bit by bit.

Programs are legal by docs/program.md and otherwise as wild as the fields allow: addresses wrap,
strides are odd or negative, units run at once wherever they do not touch the same words.
"""

import itertools
import math
import random
from dataclasses import dataclass, field

import numpy as np
from gradgate.hw import isa
from gradgate.hw.isa import Unit

__all__ = ["MEMORY", "Generator"]

MEMORY = 0x14000  # bytes: program, then random data, then room for results
PROGRAM, DATA, TAGS, RESULTS = 0x0000, 0x4000, 0xb000, 0xc000  # TAGS: data, mostly tags
STEPS = ("scale", "bias", "opd_add", "mask", "sgd", "mom", "relu", "imm0", "imm1", "imm2",
         "opd_base", "opd_fp32")  # fields that ask for steps of the vector unit
SLOTS = (DATA - PROGRAM) // isa.BYTES


@dataclass
class Instruction:
    """One instruction with what it touches, from which its tokens follow."""

    unit: Unit
    fields: dict
    reads: dict = field(default_factory=dict)  # resource -> set of words
    writes: dict = field(default_factory=dict)
    order: tuple = ()  # COMPUTE: the accumulators of one sweep, in order
    wait: int = 0
    signal: int = 0

    def conflicts(self, other):
        """Whether the two must not run at the same time."""
        return any(not words.isdisjoint(theirs.get(resource, ()))
                   for mine, theirs in ((self.writes, other.reads), (self.reads, other.writes),
                                        (self.writes, other.writes))
                   for resource, words in mine.items())


class Generator:
    """Programs for devices of `config`; the same seed gives the same memory and instructions.

    A shorter program of the same seed is a prefix of a longer one.
    """

    def __init__(self, config, seed):
        self.config = config
        self.random = random.Random(f"{config.name} {seed}")
        self.seed = seed
        self.program = []
        self.defined = set()  # accumulators that have a value
        self.posted = (set(), set())  # outputs of POSTs that the next one need not wait for
        self._fill_buffers()
        if self.coin():
            self._add(self._clear())

    def coin(self, chance=0.5):
        return self.random.random() < chance

    def grow(self, count):
        """Append `count` random instructions."""
        for _ in range(count):
            kinds = [self.load_a, self.load_b, self.convolve, self.convolve, self.gradient,
                     self.vectors]
            if self.defined:
                kinds += [self.drain, self.drain]
            self._add(self.random.choice(kinds)())

    def image(self):
        """Device memory with the program at address 0 and random data, as bytes."""
        memory = np.zeros(MEMORY, np.uint8)
        memory[DATA:] = self._numbers(MEMORY - DATA)
        words = np.array(self.words(), "<u4").reshape(-1)
        memory[:words.nbytes] = words.view(np.uint8)
        return memory.tobytes()

    def words(self):
        """The program with its END, as a list of instructions of 16 words."""
        program = [Instruction(x.unit, x.fields) for x in self.program]
        _synchronise(self.program, program)
        return [isa.encode(x.unit, wait=x.wait, signal=x.signal, **x.fields) for x in program] \
            + [isa.encode(Unit.END)]

    def listing(self):
        """The program as text, one instruction a line."""
        lines = []
        for number, words in enumerate(self.words()):
            fields = isa.decode(words)
            shown = " ".join(f"{k}={v}" for k, v in fields.items() if v and k != "unit")
            lines.append(f"{number:3} {fields['unit'].name} {shown}")
        return "\n".join(lines)

    def _numbers(self, size):
        """Random operands that also make sense as fp32: mostly moderate, some zero or subnormal."""
        rng = np.random.default_rng(self.seed)
        width = self.config.elem_bits
        bits = np.uint16 if width == 16 else np.uint32
        count = size // (width // 8)
        exponent = rng.integers(112, 136, count)
        exponent[rng.random(count) < 0.1] = 0
        mantissa = rng.integers(0, 1 << self.config.man_bits, count)
        sign = rng.integers(0, 2, count)
        values = sign << (width - 1) | exponent << self.config.man_bits | mantissa
        values[rng.random(count) < 0.05] = 0
        share = np.full(count, 0.2 if width == 16 else 0)  # of tags
        share[(TAGS - DATA) * 8 // width:(RESULTS - DATA) * 8 // width] = 0.8
        tags = rng.random(count) < share
        values[tags] = 0x4000 << (width - 16) | (rng.integers(0, 12, count)[tags] << (width - 16))
        return values.astype(bits).view(np.uint8)

    def _add(self, instruction):
        if len(self.program) + 1 >= SLOTS:
            raise ValueError("the program is too long")
        self.program.append(instruction)

    # memory streams

    def _runs(self, beats, low, high, *, overlap=True, loops=3, multiple=1):
        """Runs of `beats` beats in low..high: (base, [len, n1, ...], [s1, ...], beats touched).

        Lengths and strides are multiples of `multiple` beats.
        """
        unit = self.config.beat_bytes
        shape = _factors(self.random, beats // multiple, loops + 1)
        shape[0] *= multiple
        extent = [shape[0] * unit]  # of everything inside the loop, contiguous
        for count in shape[1:]:
            extent.append(extent[-1] * count)
        for attempt in itertools.count():
            slack = 0 if attempt > 20 else multiple * self.random.choice(
                (0, 0, unit, 3 * unit, 4096 // multiple))
            strides = [sign * (size + slack) for size, sign in
                       zip(extent, self.random.choices((1, 1, -1), k=loops), strict=False)]
            if overlap and self.coin(0.2):
                strides[self.random.randrange(loops)] = 0
            starts = set(_offsets(shape[1:], strides))
            span = max(starts) - min(starts) + shape[0] * unit
            if span > high - low or not overlap and len(starts) < math.prod(shape[1:]):
                continue
            base = low - min(starts) + unit * self.random.randrange((high - low - span) // unit + 1)
            touched = {base + s + unit * i for s in starts for i in range(shape[0])}
            if overlap or len(touched) == beats:
                return base, shape, strides, touched
        raise AssertionError

    def _source(self):
        return (RESULTS, MEMORY) if self.coin(0.1) else (DATA, RESULTS)

    # LOAD

    def _fill_buffers(self):
        """Give every word of both buffers a value."""
        config = self.config
        for unit, depth in ((Unit.LOAD_A, config.a_depth), (Unit.LOAD_B, config.b_depth)):
            spp = config.tn // config.beat_elems
            base, shape, strides, touched = self._runs(depth * spp, DATA, RESULTS)
            self._add(Instruction(unit, {
                **_descriptor(base, shape, strides), "spp": spp, "nb": 1, "n2": 1, "n1": 1,
                "n0": depth, "hi1": 1, "hi0": depth, "sd1": 1, "sd0": 1,
            }, {"memory": touched}, {unit: set(range(depth))}))

    def load_a(self):
        return self._load(Unit.LOAD_A, self.config.a_depth)

    def load_b(self):
        return self._load(Unit.LOAD_B, self.config.b_depth)

    def _load(self, unit, depth):
        return (self._unpool if self.coin(0.4) else self._copy)(unit, depth)

    def _copy(self, unit, depth):
        """A LOAD of words as they are."""
        tn, rnd = self.config.tn, self.random
        pack = tn >= 8 and self.coin(0.3)
        n2, n1, n0 = rnd.randint(1, 3), rnd.randint(1, 5), rnd.randint(1, 9)
        fields = self._loops(n2, n1, n0, pack) | {
            "pack": pack, "padneg": self.coin(0.05), "abase": self._address(depth),
            "k2": rnd.randint(0, 255), "k1": rnd.randint(0, tn),
            "k0": 4 if pack else rnd.randint(0, 3),
            "a2": self._address(depth), "a1": rnd.choice((n0, self._address(depth))),
            "sd1": rnd.randint(1, 3), "sd0": 1 if pack else rnd.randint(1, 3)}
        touched = self._transfer(fields)
        words = {(fields["abase"] + i2 * fields["a2"] + i1 * fields["a1"]
                  + (i0 // (tn // 4) if pack else i0)) % depth
                 for i2 in range(n2) for i1 in range(n1) for i0 in range(n0)}
        return Instruction(unit, fields, {"memory": touched}, {unit: words})

    def _unpool(self, unit, depth):
        """A LOAD of pooling windows of a map that cuts some off, or is larger than all of them."""
        rnd = self.random
        n2, n, u, v, cut, size = rnd.randint(1, 2), [], [], [], [], []
        for most in (3, 4):
            n.append(rnd.randint(1, most))
            u.append(rnd.randint(1, 15) if n[-1] == 1 else rnd.randint(1, 3))
            v.append(u[-1] if self.coin(0.7) else rnd.randint(0, u[-1]))
            cut.append(rnd.choice((0, rnd.randrange(u[-1]))))
            size.append(max(0, n[-1] * u[-1] - cut[-1] + rnd.choice((0, 0, -1, -2, -3, 3))))
        rows, columns = size
        fields = self._loops(n2, *n, few=True) | {
            "unpool": 1, "abase": self._address(depth), "a1": columns,
            "a2": rnd.choice((rows * columns, rows * columns, rnd.randint(0, rows * columns))),
            **{name: rnd.randint(0, 255) for name in ("k2", "k1", "k0")},
            "u1": u[0], "u0": u[1], "v1": v[0], "v0": v[1], "x1": cut[0], "x0": cut[1],
            # without effect
            "padneg": self.coin(), "pack": self.coin(), "sd1": rnd.randint(1, 3),
            "sd0": rnd.randint(1, 3)}
        touched = self._transfer(fields)
        if touched:
            low, high = (TAGS, RESULTS) if self.coin(0.7) else self._source()
            move = self._shift(touched, low, high)
            if move is None:
                move = self._shift(touched, DATA, RESULTS) or 0
            fields["t_base"] = fields["d_base"] + move
            touched |= {address + move for address in touched}
        words = {(fields["abase"] + i2 * fields["a2"] + r * columns + c) % depth
                 for i2 in range(n2) for r in range(n[0] * u[0] - cut[0])
                 for c in range(min(columns, n[1] * u[1] - cut[1]))
                 if r * columns < fields["a2"]}
        return Instruction(unit, fields, {"memory": touched}, {unit: words})

    def _loops(self, n2, n1, n0, pack=False, few=False):
        """The fields of the loops over n2 * n1 * n0 pixels or windows, and of what is valid."""
        config, rnd = self.config, self.random
        e, tn = config.beat_elems, config.tn
        spp = 4 // e if pack else rnd.randint(1, min(2, tn // e) if few else tn // e)
        nb = 1 if pack else rnd.randint(1, 2 if few else 3)
        room = tn - spp * e
        cstep = rnd.randint(0, room // (nb - 1)) if nb > 1 else 0
        lo1, lo0 = (rnd.choice((0, 0, 0, 1) if few else (0, 0, 1, 2)) for _ in range(2))
        return {"ch0": rnd.randint(0, room - (nb - 1) * cstep), "cstep": cstep, "spp": spp,
                "nb": nb, "n2": n2, "n1": n1, "n0": n0, "lo1": lo1, "lo0": lo0,
                "hi1": max(lo1, n1 - rnd.choice((0, 0, 0, 1) if few else (0, 0, 1))),
                "hi0": max(lo0, n0 - rnd.choice((-1, 0, 0, 1) if few else (-1, 0, 0, 2)))}

    def _transfer(self, fields):
        """Add the memory side of a LOAD with these loops to its fields; the beats it reads."""
        valid = math.prod(max(0, min(fields[f"hi{i}"], fields[f"n{i}"]) - fields[f"lo{i}"])
                          for i in range(2))
        beats = fields["nb"] * fields["n2"] * valid * fields["spp"]
        if not beats:
            return set()
        base, shape, strides, touched = self._runs(beats, *self._source())
        fields |= _descriptor(base, shape, strides)
        return touched

    def _shift(self, touched, low, high):
        """How far to move beats so that they lie in low..high, at random; None if they cannot."""
        unit = self.config.beat_bytes
        least, most = min(touched), max(touched) + unit
        if most - least > high - low:
            return None
        return low - least + unit * self.random.randrange((high - low - (most - least)) // unit + 1)

    def _address(self, depth):
        return self.random.randrange(65536 if self.coin(0.2) else depth)

    # COMPUTE

    def _step(self):
        return self.random.randint(-32768, 32767) if self.coin(0.1) else self.random.randint(-3, 12)

    def _clear(self):
        count = 2 * self.config.acc_depth
        self.defined = set(range(count))
        return Instruction(Unit.COMPUTE, {
            "zero": 1, "first": 1, "rows": self.config.tm, "lanes_last": self.config.tn, "ng": 1,
            "t1": 1, "t0": 1, "q2": 1, "q1": 1, "q0": count, "np": count, "cq0": 1, "al_n": 1,
            "sd1": 1, "sd0": 1,
        }, {}, {"region": {0, 1}}, tuple(range(count)))

    def convolve(self):
        config, rnd = self.config, self.random
        ng, t1, t0 = rnd.randint(1, 2), rnd.randint(1, 3), rnd.randint(1, 3)
        q = [rnd.randint(1, 2), rnd.randint(1, 4), rnd.randint(1, 7)]
        kind = rnd.choice(("plain", "plain", "a_pix", "a_pix", "ident", "sel", "zero"))
        pack = config.tn >= 8 and kind != "sel" and self.coin(0.3)
        fields = {
            "pack": pack, "ident": kind in ("ident", "sel"), "sel": kind == "sel",
            "zero": kind == "zero", "a_pix": kind == "a_pix",
            "abase": self._address(config.a_depth),
            "bbase": self._address(config.b_depth), "rows": rnd.randint(1, config.tm),
            "lanes_last": rnd.randint(1, config.tn), "ng": ng, "t1": t1, "t0": t0,
            "q2": q[0], "q1": q[1], "q0": q[2], "np": math.prod(q),
            **{name: self._step() for name in ("ag", "bg", "at1", "at0", "bt1", "bt0", "bq2", "bq1",
                                               "bq0", "ar", "al0", "al1")},
            "al_n": rnd.randint(1, config.tn), "rch0": rnd.randrange(config.tn),
            "tag0": rnd.randrange(12), "tg1": rnd.randrange(128), "tg0": rnd.randrange(3),
            "sd1": 1, "sd0": 1}
        fields["cbase"], cq = self._visits(q)
        fields |= dict(zip(("cq2", "cq1", "cq0"), cq, strict=True))
        order = tuple((fields["cbase"] + x) % (2 * config.acc_depth) for x in _offsets(q, cq))
        a, b = self._convolution_words(fields)
        return self._compute(fields, order, a, b)

    def _visits(self, q):
        """(cbase, strides) so that one sweep visits no accumulator twice."""
        count = 2 * self.config.acc_depth
        while True:
            axes = self.random.sample(range(3), 3)
            strides, size = [0, 0, 0], self.random.choice((1, 1, 1, 2))
            for axis in axes:
                strides[axis] = size * self.random.choice((1, 1, -1))
                size *= q[axis]
            if size <= count:
                return self.random.randrange(count), strides

    def _convolution_words(self, f):
        config = self.config
        a, b = set(), set()
        for g, kr, kc in itertools.product(range(f["ng"]), range(f["t1"]), range(f["t0"])):
            off_a = f["abase"] + g * f["ag"] + kr * f["at1"] + kc * f["at0"]
            if f["a_pix"]:
                a |= {off_a + i % f["al_n"] * f["al0"] + i // f["al_n"] * f["al1"]
                      for i in range(config.tn)}
            elif not f["ident"]:
                a |= {off_a + r * f["ar"] for r in range(config.tm)}
            for i2, i1, i0 in itertools.product(*(range(f[k]) for k in ("q2", "q1", "q0"))):
                off_b = (g * f["bg"] + kr * f["bt1"] + kc * f["bt0"] + i2 * f["bq2"] + i1 * f["bq1"]
                         + i0 * f["bq0"])
                if f["pack"]:
                    word = (f["bbase"] + off_b) % 65536 // (config.tn // 4)
                    b |= {word, word + 1}
                else:
                    b.add(f["bbase"] + off_b)
                if f["sel"]:
                    a.add(f["abase"] + off_b)
        if f["zero"]:
            return set(), set()
        return {x % config.a_depth for x in a}, {x % config.b_depth for x in b}

    def gradient(self):
        config, rnd = self.config, self.random
        count = 2 * config.acc_depth
        t1, t0 = rnd.randint(1, 3), rnd.randint(1, 3)
        ng, lanes_last = rnd.randint(1, 2), rnd.randint(1, config.tn)
        vectors = ((ng - 1) * config.tn + lanes_last) * t1 * t0 + 1
        if vectors > count:
            ng, t1, t0 = 1, 1, 1
            lanes_last = min(lanes_last, count - 1)
            vectors = lanes_last + 1
        ones = self.coin()
        q = [rnd.randint(1, 2), rnd.randint(1, 5), rnd.randint(1, 7)]
        fields = {
            "dw": 1, "ones": ones, "abase": self._address(config.a_depth),
            "bbase": self._address(config.b_depth), "cbase": rnd.randrange(count),
            "rows": rnd.randint(1, config.tm), "lanes_last": lanes_last,
            "ng": ng, "t1": t1, "t0": t0, "q2": q[0], "q1": q[1], "q0": q[2], "np": math.prod(q),
            **{name: self._step() for name in ("bg", "bt1", "bt0", "bq2", "bq1", "bq0")},
            "rch0": rnd.randrange(config.tn),
            "rskew": q[2] % config.tn if self.coin() else rnd.randrange(256),
            "al_n": 1, "sd1": rnd.randint(1, 3), "sd0": rnd.randint(1, 3)}
        order = tuple((fields["cbase"] + j) % count for j in range(vectors - 1 + ones))
        lanes = math.ceil(fields["np"] / config.tn) * config.tn
        a = {(fields["abase"] + i) % config.a_depth for i in range(lanes)}
        return self._compute(fields, order, a, set(range(config.b_depth)))

    def _compute(self, fields, order, a, b):
        fields["first"] = self.coin(0.4) or not self.defined.issuperset(order)
        before = next((x for x in reversed(self.program) if x.unit == Unit.COMPUTE), None)
        overlap = before is not None and not set(before.order).isdisjoint(order)
        fields["fence"] = overlap and before.order != order or self.coin(0.2)
        self.defined.update(order)
        return Instruction(Unit.COMPUTE, fields, {Unit.LOAD_A: a, Unit.LOAD_B: b},
                           {"region": self._regions(order)}, order)

    def _regions(self, words):
        return {word // self.config.acc_depth for word in words}

    # POST

    def drain(self):
        """Accumulators through the vector unit into memory."""
        config, rnd = self.config, self.random
        count = 2 * config.acc_depth
        pool = self.coin(0.4)
        while True:
            p = [rnd.randint(1, 2), rnd.randint(1, 3), rnd.randint(1, 6)]
            w = [rnd.randint(1, 3), rnd.randint(1, 3)] if pool else [1, 1]
            strides = [rnd.randint(-2, 7) for _ in range(5)]
            base = rnd.choice(sorted(self.defined))
            words = {(base + x) % count for x in _offsets(p + w, strides)}
            if self.defined.issuperset(words):
                break
        fields = {"src_base": base, "pool": pool, "w1": w[0], "w0": w[1],
                  **dict(zip(("as2", "as1", "as0", "aw1", "aw0"), strides, strict=True))}
        return self._post(fields, p, {"region": self._regions(words)}, pool and self.coin(0.6))

    def vectors(self):
        """A memory stream through the vector unit into memory."""
        config, rnd = self.config, self.random
        p = [rnd.randint(1, 2), rnd.randint(1, 4), rnd.randint(1, 6)]
        fp32 = config.fmt == "fp32" or self.coin()
        size = math.prod(p) * config.tm * (4 if fp32 else config.elem_bytes)
        low, high = self._source()
        base = low + config.beat_bytes * rnd.randrange((high - low - size) // config.beat_bytes)
        fields = {"src_mem": 1, "src_fp32": fp32, "src_base": base, "w1": 1, "w0": 1}
        source = set(range(base, base + size, config.beat_bytes))
        return self._post(fields, p, {"memory": source}, False)

    def _post(self, fields, p, reads, tags):
        config, rnd = self.config, self.random
        fields |= {"p2": p[0], "p1": p[1], "p0": p[2], "tags": tags}
        operand = rnd.choice((None, None, "opd_add", "mask", None if tags else "sgd"))
        if operand == "sgd":
            fields |= {"sgd": 1, "mom": self.coin(), "imm0": self._number(-12, -4),
                       "imm1": self._number(-2, 0), "imm2": self._number(-10, 0)}
        else:
            fields |= {"scale": self.coin(0.3), "imm0": self._number(-8, 2),
                       "relu": self.coin(0.3), "bias": operand != "opd_add" and self.coin(0.3)}
        fields["out_fp32"] = self.coin()
        ahead = set()  # read before the POSTs before are complete
        if fields.get("bias"):
            size = config.groups * config.beat_bytes
            fields["imm2"] = DATA + config.beat_bytes * rnd.randrange((RESULTS - DATA - size)
                                                                      // config.beat_bytes)
            ahead |= set(range(fields["imm2"], fields["imm2"] + size, config.beat_bytes))

        wide = config.fmt == "fp32" or fields["out_fp32"] or operand == "sgd"
        written, second = self._outputs(fields, math.prod(p), wide)
        touched = reads.get("memory", set()) | ahead
        operands = set()
        if operand:
            fields |= {operand: 1, "opd_fp32": wide}
            move = None
            if operand != "sgd" or self.coin():
                move = self._shift(written, *self._source())
            if move is None or abs(move) < max(written) + config.beat_bytes - min(written):
                move = 0  # in place
            fields["opd_base"] = fields["out_base"] + move
            operands = {address + move for address in written}
            if move:
                touched |= operands
        waits = operand == "opd_add" or bool(fields.get("src_mem"))
        if operand != "opd_add":
            ahead |= operands
        if fields.get("mom"):
            ahead |= second
        if not (touched.isdisjoint(written | second) and ahead.isdisjoint(set.union(*self.posted))):
            bare = {name: value for name, value in fields.items() if name not in STEPS}
            return self._post(bare, p, reads, tags)
        earlier = (set(), set()) if waits else self.posted
        self.posted = (earlier[0] | written, earlier[1] | second)
        return Instruction(Unit.POST, fields, reads | {"memory": touched | ahead | operands},
                           {"memory": written | second})

    def _outputs(self, fields, pixels, wide):
        """Add the runs and bases of the outputs to the fields; the beats of both outputs."""
        config = self.config
        beats = pixels * config.tm * (4 if wide else config.elem_bytes) // config.beat_bytes
        share = 2 if fields["tags"] and wide and config.fmt == "bf16" else 1
        while True:
            base, shape, strides, written = self._runs(
                beats, RESULTS, MEMORY, overlap=False, loops=2, multiple=share)
            fields |= {"out_base": base, "o_len": shape[0], "o_n1": shape[1], "o_n2": shape[2],
                       "o_s1": strides[0], "o_s2": strides[1]}
            if not written.isdisjoint(self.posted[1]):  # writers do not wait for each other
                continue
            if not fields["tags"] and not fields.get("mom"):
                return written, set()
            starts = [x // share for x in _offsets(shape[1:], strides)]
            second = {start + config.beat_bytes * i for start in starts
                      for i in range(shape[0] // share)}
            move = self._shift(second, RESULTS, MEMORY)
            second = {move + address for address in second}
            if second.isdisjoint(written | self.posted[0]):
                fields["aux_base"] = move
                return written, second

    def _number(self, low, high):
        """Bits of a random fp32 number of magnitude 2^low..2^high."""
        value = np.float32(self.random.choice((1, 1, -1)) * 2.0 ** self.random.uniform(low, high))
        return int(value.view(np.uint32))


def _descriptor(base, shape, strides):
    return {"d_base": base, "d_len": shape[0], "d_n1": shape[1], "d_n2": shape[2], "d_n3": shape[3],
            "d_s1": strides[0], "d_s2": strides[1], "d_s3": strides[2]}


def _offsets(counts, strides):
    """The offsets of nested loops, in order, the innermost last."""
    return [sum(i * s for i, s in zip(index, strides, strict=True))
            for index in itertools.product(*map(range, counts))]


def _factors(rnd, product, count):
    """`count` positive integers of the given product, in random order."""
    shape = [1] * count
    for prime in range(2, product + 1):
        while product % prime == 0:
            shape[rnd.choice((0, rnd.randrange(count)))] *= prime
            product //= prime
    return shape


def _synchronise(program, result):
    """Set `wait` and `signal` in `result` so that conflicts in `program` keep their order.

    Tokens from one unit to another are taken in the order in which they are given, so a pair is
    needed only when it is newer, at its producer, than all pairs so far.
    """
    paired = {}  # (producer, consumer) -> number of the last producing instruction
    for number, instruction in enumerate(program):
        for unit in (Unit.LOAD_A, Unit.LOAD_B, Unit.COMPUTE, Unit.POST):
            if unit == instruction.unit:
                continue
            culprit = next((i for i in range(number - 1, -1, -1)
                            if program[i].unit == unit and instruction.conflicts(program[i])), None)
            if culprit is not None and culprit > paired.get((unit, instruction.unit), -1):
                paired[unit, instruction.unit] = culprit
                result[culprit].signal |= 1 << instruction.unit
                result[number].wait |= 1 << unit
