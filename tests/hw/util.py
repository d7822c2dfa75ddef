"""docs/program.md, section 4, as plain loops; random COMPUTE instructions; the cycles they take."""

from dataclasses import dataclass, field

from gradgate.hw import isa
from gradgate.hw.numerics import dotacc

__all__ = ["Tiles", "execute", "visits", "schedule", "random_operand", "random_instruction"]


def random_operand(random, config, spread=6, middle=127):
    """A canonical operand with an exponent near `middle`, zero with a chance of 1 in 8."""
    if not random.randrange(8):
        return 0
    exponent = middle + random.randint(-spread, spread)
    return (random.getrandbits(1) << 8 | exponent) << config.man_bits \
        | random.getrandbits(config.man_bits)


@dataclass
class Tiles:
    """Buffers [bank][word] and accumulators [c][row]."""

    config: object
    a: list
    b: list
    acc: list = field(default_factory=list)

    @classmethod
    def random(cls, random, config, **options):
        a, b = ([[random_operand(random, config, **options) for _ in range(depth)]
                 for _ in range(config.tn)] for depth in (config.a_depth, config.b_depth))
        return cls(config, a, b,
                   [[0] * config.tm for _ in range(2 * config.acc_depth)])

    def channels(self, buffer, address):
        return [bank[address % 65536 % len(bank)] for bank in buffer]

    def pixels(self, buffer, addresses, rot):
        banks = [buffer[(i + rot) % self.config.tn] for i in range(self.config.tn)]
        return [bank[a % 65536 % len(bank)] for bank, a in zip(banks, addresses, strict=True)]

    def packed(self, buffer, pixel):
        tn = self.config.tn
        word, inner = divmod(pixel % 65536, tn // 4)
        return self.pixels(buffer, [word + (4 * inner + i >= tn) for i in range(tn)], 4 * inner)

    def accumulate(self, a, b, c, overwrite):
        """Returns whether anything overflowed."""
        row = self.acc[c % 65536 % len(self.acc)]
        results = [dotacc(self.config, tile_row, b, 0 if overwrite else old)
                   for tile_row, old in zip(a, row, strict=True)]
        row[:] = [bits for bits, _ in results]
        return any(overflow for _, overflow in results)


def execute(tiles, f):
    """Execute the COMPUTE instruction with fields `f`; returns how many vectors overflowed."""
    return (_weight_gradient if f["dw"] else _convolution)(tiles, f)


def _loops(*counts):
    if not counts:
        yield ()
        return
    for first in range(counts[0]):
        for rest in _loops(*counts[1:]):
            yield (first, *rest)


def _convolution(tiles, f):
    config, overflows = tiles.config, 0
    lanes, one = range(config.tn), 127 << config.man_bits
    for g, kr, kc in _loops(f["ng"], f["t1"], f["t0"]):
        base = f["abase"] + g * f["ag"] + kr * f["at1"] + kc * f["at0"]
        shortened = kc == f["t0"] - 1 if f["pack"] else g == f["ng"] - 1
        limit = f["lanes_last"] if shortened else config.tn
        tile = []
        for r in range(config.tm):
            if f["zero"] or r >= f["rows"]:
                row = [0 for _ in lanes]
            elif f["ident"]:
                row = [one if i == r else 0 for i in lanes]
            elif f["a_pix"]:
                row = tiles.pixels(tiles.a, [base + i % f["al_n"] * f["al0"]
                                             + i // f["al_n"] * f["al1"] for i in lanes],
                                   f["rch0"] + r)
            else:
                row = tiles.pixels(tiles.a, [base + r * f["ar"] for _ in lanes], f["rch0"] + r)
            tile.append([x if i < limit else 0 for i, x in enumerate(row)])

        tag = (f["tag0"] + kr * f["tg1"] + kc * f["tg0"]) % 128
        for i2, i1, i0 in _loops(f["q2"], f["q1"], f["q0"]):
            offset = g * f["bg"] + kr * f["bt1"] + kc * f["bt0"] \
                + i2 * f["bq2"] + i1 * f["bq1"] + i0 * f["bq0"]
            read = tiles.packed if f["pack"] else tiles.channels
            vector = read(tiles.b, f["bbase"] + offset)
            if f["sel"]:
                tags = tiles.channels(tiles.a, f["abase"] + offset)
                vector = [x if t >> config.man_bits - 7 & 127 == tag else 0
                          for x, t in zip(vector, tags, strict=True)]
            c = f["cbase"] + i2 * f["cq2"] + i1 * f["cq1"] + i0 * f["cq0"]
            overwrite = f["first"] and g == kr == kc == 0
            overflows += tiles.accumulate(tile, vector, c, overwrite)
    return overflows


def _weight_gradient(tiles, f):
    config, overflows = tiles.config, 0
    tn, lanes, one = config.tn, range(config.tn), 127 << config.man_bits
    for ch in range(-(-f["np"] // tn)):
        tile = []
        for r in range(config.tm):
            row = tiles.pixels(tiles.a, [f["abase"] + ch * tn + i for i in lanes], f["rch0"] + r)
            tile.append([x if ch * tn + i < f["np"] and r < f["rows"] else 0
                         for i, x in enumerate(row)])
        pixels = []
        for i in lanes:
            rest, i0 = divmod(ch * tn + i, f["q0"])
            i2, i1 = divmod(rest, f["q1"])
            pixels.append(f["bbase"] + i2 * f["bq2"] + i1 * f["bq1"] + i0 * f["bq0"])

        vectors = []
        for g in range(f["ng"]):
            for n, kr, kc in _loops(f["lanes_last"] if g == f["ng"] - 1 else tn, f["t1"], f["t0"]):
                offset = g * f["bg"] + kr * f["bt1"] + kc * f["bt0"]
                rot = n + kr // f["sd1"] * f["rskew"] + kc // f["sd0"]
                vectors.append(tiles.pixels(tiles.b, [p + offset for p in pixels], rot))
        if f["ones"]:
            vectors.append([one] * tn)
        for j, vector in enumerate(vectors):
            overflows += tiles.accumulate(tile, vector, f["cbase"] + j, f["first"] and ch == 0)
    return overflows


def visits(config, f):
    """Accumulators in the order of one sweep or chunk."""
    if f["dw"]:
        n = ((f["ng"] - 1) * config.tn + f["lanes_last"]) * f["t1"] * f["t0"] + f["ones"]
        order = [f["cbase"] + j for j in range(n)]
    else:
        order = [f["cbase"] + i2 * f["cq2"] + i1 * f["cq1"] + i0 * f["cq0"]
                 for i2, i1, i0 in _loops(f["q2"], f["q1"], f["q0"])]
    return [c % 65536 % (2 * config.acc_depth) for c in order]


def schedule(config, program, offered, loop):
    """When ComputeUnit works, by the formulas of its docstring.

    Parameters
    ----------
    program : list of dict
    offered : list of int
        First cycle in which each instruction is on the stream.
    loop : int

    Returns
    -------
    (accepted, issues) : the cycle of each acceptance, and for each instruction all cycles in which
    a moving vector is issued.
    """
    tm, tn = config.tm, config.tn
    accepted, issues = [], []
    start = last_issue = -1000  # of the sweep before
    sel_until = -1000
    for f, when in zip(program, offered, strict=True):
        begin = max(when, start + 1)
        accepted.append(begin)
        issues.append([])
        n = len(visits(config, f))
        sweeps = -(-f["np"] // tn) if f["dw"] else f["ng"] * f["t1"] * f["t0"]
        reads = f["dw"] or not (f["ident"] or f["zero"])
        lanes_made = begin + (tn - 1 if f["dw"] or f["a_pix"] else 0)
        for sweep in range(sweeps):
            first_row = (begin if f["dw"] else max(begin, lanes_made)) + 1
            if reads:
                first_row = max(first_row, sel_until + 1)
            ready = first_row + tm - 1
            if f["dw"]:
                ready = max(ready, begin + tn)
            earliest = max(ready, last_issue, start + loop)
            if f["fence"] and sweep == 0:
                earliest = max(earliest, last_issue + loop - 1)
            start = begin = earliest
            issues[-1] += range(start + 1, start + n + 1)
            last_issue = start + n
            if f["sel"] and not f["dw"] and not f["zero"]:
                sel_until = last_issue
    return accepted, issues


def random_instruction(random, config, mode, limit=12):
    """Fields of a random instruction.

    `mode` is one of conv, pixels (a_pix), ident, sel, zero, pack, dw. At most `limit` moving
    vectors a sweep, or nearly so; any address, as every word of the buffers is defined.
    """
    f = dict.fromkeys(isa.COMPUTE, 0) | {"unit": isa.Unit.COMPUTE}
    for name in ("abase", "bbase"):
        f[name] = random.choice([random.getrandbits(16), random.getrandbits(6)])
    for name in ("ag", "bg", "at1", "at0", "bt1", "bt0", "bq2", "bq1", "bq0", "ar", "al0", "al1"):
        f[name] = random.choice([random.randint(-40, 40), random.randint(-2**15, 2**15 - 1)])
    f["first"], f["cbase"] = random.getrandbits(1), random.getrandbits(16)
    f["rows"] = random.choice([config.tm, random.randint(1, config.tm)])
    f["lanes_last"] = random.choice([config.tn, random.randint(1, config.tn)])
    f["rch0"] = random.randrange(config.tn)
    f["al_n"] = random.choice([1, random.randint(1, config.tn), random.randint(1, 999)])

    if mode == "dw":
        f |= {"dw": 1, "ng": random.randint(1, 2), "t1": random.randint(1, 4),
              "t0": random.randint(1, 4), "ones": random.getrandbits(1),
              "rskew": random.randrange(config.tn), "sd1": random.randint(1, 3),
              "sd0": random.randint(1, 3)}
        f["q2"], f["q1"], f["q0"] = (random.randint(1, high) for high in (2, 4, 7))
        f["np"] = f["q2"] * f["q1"] * f["q0"]
        while len(visits(config, f)) > max(limit, config.tn) + 1:
            names = [name for name in ("ng", "lanes_last") if f[name] > 1] or ["t1", "t0"]
            f[random.choice(names)] -= 1
        # without effect here
        return f | {name: random.getrandbits(1)
                    for name in ("ident", "sel", "zero", "a_pix", "pack")}

    f |= {"ng": random.randint(1, 3), "t1": random.randint(1, 3), "t0": random.randint(1, 3),
          "ones": random.getrandbits(1)}  # without effect here
    while f["ng"] * f["t1"] * f["t0"] > 8:
        f[random.choice(["ng", "t1", "t0"])] = 1
    f["q2"], f["q1"], f["q0"] = (random.randint(1, high) for high in (2, 3, limit // 3))
    order = random.sample([("cq2", f["q2"]), ("cq1", f["q1"]), ("cq0", f["q0"])], 3)
    # no accumulator twice in a sweep
    stride = random.choice([1, 2]) if f["q2"] * f["q1"] * f["q0"] <= config.acc_depth else 1
    for name, count in order:
        f[name] = stride * random.choice([1, -1])
        stride *= count
    if mode == "sel":
        f |= {"tag0": random.getrandbits(8), "tg1": random.getrandbits(8),
              "tg0": random.getrandbits(8), "sel": 1, "ident": 1}
    elif mode != "conv":
        f[{"pixels": "a_pix"}.get(mode, mode)] = 1
    if mode in ("ident", "zero"):
        f |= {name: random.getrandbits(1) for name in ("pack", "a_pix")}
    return f
