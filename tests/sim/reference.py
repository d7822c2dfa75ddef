"""docs/program.md read literally: a slow interpreter in plain Python, to check fast ones."""

from fractions import Fraction
from itertools import product, repeat

from gradgate.hw import isa
from gradgate.hw.isa import Unit
from gradgate.hw.numerics import canonicalise, dotacc, fadd, fmul, fsub, tag, to_operand

ONE = {"bf16": 0x3f80, "fp32": 0x3f800000}
LOWEST = {"bf16": 0xff7f, "fp32": 0xff7fffff}


def box(*counts):
    return product(*map(range, counts))


def greater(a, b):
    """a > b for canonical fp32 patterns."""
    def key(bits):
        return -(bits & 0x7fffffff) if bits >> 31 else bits
    return key(a) > key(b)


class Reference:
    """Executes instructions one after the other; state starts as zero.

    Attributes: `memory` (bytearray), `flags` (set of names), `active` and `beats` (counts per unit,
    of POST those of the first output, and of "read" and "write").
    """

    def __init__(self, config, memory):
        self.config = config
        self.memory = bytearray(memory)
        self.a = [[0] * config.tn for _ in range(config.a_depth)]
        self.b = [[0] * config.tn for _ in range(config.b_depth)]
        self.acc = [[0] * config.tm for _ in range(2 * config.acc_depth)]
        self.flags = set()
        self.active = dict.fromkeys(("LOAD_A", "LOAD_B", "COMPUTE", "POST"), 0)
        self.beats = {"read": 0, "write": 0}

    def run(self, address):
        while True:
            raw = self.memory[address:address + isa.BYTES]
            self.beats["read"] += isa.BYTES // self.config.beat_bytes
            x = isa.decode([int.from_bytes(raw[i:i + 4], "little") for i in range(0, 64, 4)])
            if x["unit"] == Unit.END:
                return
            getattr(self, x["unit"].name.split("_")[0].lower())(x)
            address += isa.BYTES

    # memory

    def elements(self, address, fmt):
        """The raw elements of one beat."""
        size = 4 if fmt == "fp32" else 2
        return [int.from_bytes(self.memory[a:a + size], "little")
                for a in range(address, address + self.config.beat_bytes, size)]

    def canonical(self, fmt, bits):
        value, nonfinite = canonicalise(fmt, bits)
        self.note("nonfinite", nonfinite)
        return value

    def note(self, flag, raised):
        if raised:
            self.flags.add(flag)

    def rounded(self, result):
        bits, overflow = result
        self.note("overflow", overflow)
        return bits

    # LOAD_A, LOAD_B

    def load(self, x):
        fmt, tn, e = self.config.fmt, self.config.tn, self.config.beat_elems
        if x["unpool"]:
            self.unpool(x)
            return
        stream = self.transfer(x, x["d_base"])
        for b, i2, i1, i0 in box(x["nb"], x["n2"], x["n1"], x["n0"]):
            valid = x["lo1"] <= i1 < x["hi1"] and x["lo0"] <= i0 < x["hi0"]
            sk = (i2 * x["k2"] + i1 // x["sd1"] * x["k1"] + i0 // x["sd0"] * x["k0"]) % tn
            ad = x["abase"] + i2 * x["a2"] + i1 * x["a1"] + (i0 // (tn // 4) if x["pack"] else i0)
            for s in range(x["spp"]):
                beat = [LOWEST[fmt] if x["padneg"] else 0] * e
                if valid:
                    beat = [self.canonical(fmt, v) for v in self.elements(next(stream), fmt)]
                self.put(x, ad, sk, x["ch0"] + b * x["cstep"] + s * e, beat)
        assert next(stream, None) is None

    def unpool(self, x):
        fmt, e = self.config.fmt, self.config.beat_elems
        stream, tags = self.transfer(x, x["d_base"]), self.transfer(x, x["t_base"])
        for b, i2, i1, i0, s in box(x["nb"], x["n2"], x["n1"], x["n0"], x["spp"]):
            beat = tag = [0] * e
            if valid := x["lo1"] <= i1 < x["hi1"] and x["lo0"] <= i0 < x["hi0"]:
                beat = [self.canonical(fmt, v) for v in self.elements(next(stream), fmt)]
                tag = [v >> (self.config.man_bits - 7) & 127
                       for v in self.elements(next(tags), fmt)]
            for j1, j0 in box(x["u1"], x["u0"]):
                r, c = i1 * x["u1"] + j1 - x["x1"], i0 * x["u0"] + j0 - x["x0"]
                here = valid and j1 < x["v1"] and j0 < x["v0"]
                values = [v if here and t == j1 * x["v0"] + j0 else 0
                          for v, t in zip(beat, tag, strict=True)]
                if r >= 0 and c >= 0 and c < x["a1"] and r * x["a1"] < x["a2"]:
                    self.put(x, x["abase"] + i2 * x["a2"] + r * x["a1"] + c,
                             i2 * x["k2"] + r * x["k1"] + c * x["k0"],
                             x["ch0"] + b * x["cstep"] + s * e, values)
        assert next(stream, None) is next(tags, None) is None

    def transfer(self, x, base):
        """The addresses of the beats that a LOAD reads from `base` on."""
        addresses = [base + i3 * x["d_s3"] + i2 * x["d_s2"] + i1 * x["d_s1"]
                     + k * self.config.beat_bytes
                     for i3, i2, i1, k in box(x["d_n3"], x["d_n2"], x["d_n1"], x["d_len"])]
        self.beats["read"] += len(addresses)
        return iter(addresses)

    def put(self, x, address, skew, channel, values):
        buffer = self.a if x["unit"] == Unit.LOAD_A else self.b
        for i, value in enumerate(values):
            buffer[address % 65536 % len(buffer)][(skew + channel + i) % self.config.tn] = value
        self.active[x["unit"].name] += 1

    # COMPUTE

    def dot(self, rows, vector, c, overwrite):
        acc = self.acc[c % 65536 % len(self.acc)]
        for r, row in enumerate(rows):
            acc[r] = self.rounded(dotacc(self.config, row, vector, 0 if overwrite else acc[r]))
        self.active["COMPUTE"] += 1

    def compute(self, x):
        (self.gradient if x["dw"] else self.convolve)(x)

    def convolve(self, x):
        config, tn = self.config, self.config.tn
        group = tn // 4
        for g, kr, kc in box(x["ng"], x["t1"], x["t0"]):
            off_a = g * x["ag"] + kr * x["at1"] + kc * x["at0"]
            last = kc == x["t0"] - 1 if x["pack"] else g == x["ng"] - 1
            limit = x["lanes_last"] if last else tn
            rows = [[0] * tn for _ in range(config.tm)]
            for r, i in box(config.tm, tn):
                if x["zero"] or r >= x["rows"] or i >= limit:
                    continue
                if x["ident"]:
                    rows[r][i] = ONE[config.fmt] if i == r else 0
                    continue
                if x["a_pix"]:
                    ad = x["abase"] + off_a + i % x["al_n"] * x["al0"] + i // x["al_n"] * x["al1"]
                else:
                    ad = x["abase"] + off_a + r * x["ar"]
                rows[r][i] = self.a[ad % 65536 % len(self.a)][(i + x["rch0"] + r) % tn]
            for i2, i1, i0 in box(x["q2"], x["q1"], x["q0"]):
                off_b = (g * x["bg"] + kr * x["bt1"] + kc * x["bt0"]
                         + i2 * x["bq2"] + i1 * x["bq1"] + i0 * x["bq0"])
                at = (x["bbase"] + off_b) % 65536
                if x["pack"]:
                    first, word = 4 * (at % group), at // group
                    vector = [self.b[(word + (first + i >= tn)) % len(self.b)][(first + i) % tn]
                              for i in range(tn)]
                else:
                    vector = list(self.b[at % len(self.b)])
                if x["sel"]:
                    tags = self.a[(x["abase"] + off_b) % 65536 % len(self.a)]
                    want = (x["tag0"] + kr * x["tg1"] + kc * x["tg0"]) % 128
                    vector = [v if t >> (config.man_bits - 7) & 127 == want else 0
                              for v, t in zip(vector, tags, strict=True)]
                c = x["cbase"] + i2 * x["cq2"] + i1 * x["cq1"] + i0 * x["cq0"]
                self.dot(rows, vector, c, x["first"] and g == kr == kc == 0)

    def gradient(self, x):
        config, tn = self.config, self.config.tn
        for ch in range(-(-x["np"] // tn)):
            rows = [[0] * tn for _ in range(config.tm)]
            for r, i in box(config.tm, tn):
                if ch * tn + i < x["np"] and r < x["rows"]:
                    ad = x["abase"] + ch * tn + i
                    rows[r][i] = self.a[ad % 65536 % len(self.a)][(i + x["rch0"] + r) % tn]
            vectors = []
            for g in range(x["ng"]):
                lanes = x["lanes_last"] if g == x["ng"] - 1 else tn
                for n, kr, kc in box(lanes, x["t1"], x["t0"]):
                    vector = []
                    rot = n + kr // x["sd1"] * x["rskew"] + kc // x["sd0"]
                    for i in range(tn):
                        p = ch * tn + i
                        i2, i1, i0 = p // x["q0"] // x["q1"], p // x["q0"] % x["q1"], p % x["q0"]
                        ad = (x["bbase"] + g * x["bg"] + kr * x["bt1"] + kc * x["bt0"]
                              + i2 * x["bq2"] + i1 * x["bq1"] + i0 * x["bq0"])
                        vector.append(self.b[ad % 65536 % len(self.b)][(i + rot) % tn])
                    vectors.append(vector)
            if x["ones"]:
                vectors.append([ONE[config.fmt]] * tn)
            for j, vector in enumerate(vectors):
                self.dot(rows, vector, x["cbase"] + j, x["first"] and ch == 0)

    # POST

    def stream(self, address, beats, fmt):
        """Canonical elements of contiguous beats, as fp32, each read when it is asked for."""
        for k in range(beats):
            for bits in self.elements(address + k * self.config.beat_bytes, fmt):
                yield self.canonical(fmt, bits) << (0 if fmt == "fp32" else 16)

    def runs(self, x, base, share=1):
        """(address, beats) of each run of an output or operand, `share` of its size."""
        return [(int(base + share * (i2 * x["o_s2"] + i1 * x["o_s1"])), int(share * x["o_len"]))
                for i2, i1 in box(x["o_n2"], x["o_n1"])]

    def gather(self, x, base, fmt):
        """Canonical elements of the runs from `base`, as fp32."""
        runs = self.runs(x, base)
        self.beats["read"] += sum(beats for _, beats in runs)
        return (value for at, beats in runs for value in self.stream(at, beats, fmt))

    def store(self, runs, elements):
        """Write (format, bits) pairs to runs that have just room for them."""
        data = b"".join(bits.to_bytes(4 if fmt == "fp32" else 2, "little")
                        for fmt, bits in elements)
        for at, beats in runs:
            size = beats * self.config.beat_bytes
            self.memory[at:at + size] = data[:size]
            assert len(data) >= size
            data = data[size:]
            self.beats["write"] += beats
        assert not data

    def post(self, x):
        config, v = self.config, self.config.vlanes
        bias = [0] * config.tm
        if x["bias"]:
            self.beats["read"] += config.groups
            bias = list(self.stream(x["imm2"], config.groups, "fp32"))
        operands = momenta = repeat(None)
        if x["opd_add"] or x["mask"] or x["sgd"]:
            operands = self.gather(x, x["opd_base"],
                                   "fp32" if x["opd_fp32"] or x["sgd"] else config.fmt)
        if x["sgd"]:
            momenta = self.gather(x, x["aux_base"], "fp32") if x["mom"] else repeat(0)

        wide = config.fmt == "fp32" or x["out_fp32"] or x["sgd"]
        out, momentum, tags = [], [], []
        for vector, winners, group in self.source(x):
            for value, winner, b in zip(vector, winners, bias[group * v:group * v + v],
                                        strict=True):
                y, mom = self.steps(x, value, b, next(operands), next(momenta))
                out.append(("fp32", y) if wide else
                           (config.fmt, self.rounded(to_operand(config.fmt, y))))
                momentum.append(("fp32", mom))
                tags.append((config.fmt, tag(config.fmt, winner)))

        runs = self.runs(x, x["out_base"])
        self.store(runs, out)
        self.active["POST"] += sum(beats for _, beats in runs)
        if x["mom"]:
            self.store(self.runs(x, x["aux_base"]), momentum)
        if x["tags"]:
            half = wide and config.fmt == "bf16"
            self.store(self.runs(x, x["aux_base"], Fraction(1, 2) if half else 1), tags)

    def source(self, x):
        """(vector, tags, group of channels) in the order of docs/program.md."""
        config, v = self.config, self.config.vlanes
        if x["src_mem"]:
            count = x["p2"] * x["p1"] * x["p0"] * config.groups
            fmt = "fp32" if x["src_fp32"] else config.fmt
            beats = count * v * (4 if fmt == "fp32" else 2) // config.beat_bytes
            self.beats["read"] += beats
            elements = self.stream(x["src_base"], beats, fmt)
            for k in range(count):
                yield [next(elements) for _ in range(v)], [0] * v, k % config.groups
            return
        window = (x["w1"], x["w0"]) if x["pool"] else (1, 1)
        for i2, i1, i0, group in box(x["p2"], x["p1"], x["p0"], config.groups):
            best = None
            for j1, j0 in box(*window):
                c = (x["src_base"] + i2 * x["as2"] + i1 * x["as1"] + i0 * x["as0"]
                     + j1 * x["aw1"] + j0 * x["aw0"])
                new = self.acc[c % 65536 % len(self.acc)][group * v:group * v + v]
                if best is None:
                    best, tags = list(new), [0] * v
                for i in range(v):
                    if greater(new[i], best[i]):
                        best[i], tags[i] = new[i], j1 * window[1] + j0
            yield best, tags, group

    def steps(self, x, value, bias, operand, momentum):
        if x["scale"]:
            value = self.rounded(fmul(value, x["imm0"]))
        if x["bias"]:
            value = self.rounded(fadd(value, bias))
        if x["opd_add"]:
            value = self.rounded(fadd(value, operand))
        if x["relu"]:
            value = value if greater(value, 0) else 0
        if x["mask"]:
            value = value if greater(operand, 0) else 0
        if x["sgd"]:
            g = self.rounded(fadd(value, self.rounded(fmul(x["imm0"], operand))))
            momentum = self.rounded(fadd(self.rounded(fmul(x["imm1"], momentum)), g))
            value = self.rounded(fsub(operand, self.rounded(fmul(x["imm2"], momentum))))
        return value, momentum
