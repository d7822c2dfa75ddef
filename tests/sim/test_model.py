"""The compiled model against the reference arithmetic and the literal interpreter."""

import ctypes
import dataclasses
import random
import struct

import numpy as np
import pytest
from gradgate.boards import MemoryTiming
from gradgate.errors import BusError, DeviceTimeout, NumericError, ProgramError
from gradgate.hw import numerics
from gradgate.hw.config import Config
from gradgate.hw.isa import Unit, encode
from gradgate.sim.model import ModelDevice, model_library

from tests.hw.operands import FloatSource
from tests.sim import programs
from tests.sim.reference import Reference

CONFIGS = [Config(tm=8, tn=16, a_depth=16, b_depth=32, acc_depth=16),
           Config(tm=2, tn=4, beat_bits=32, a_depth=16, b_depth=16, acc_depth=16),
           Config(tm=4, tn=8, fmt="fp32", beat_bits=64, a_depth=32, b_depth=16, acc_depth=16)]
MEMORY = 1 << 16
TAGS = 0x6000  # small ones, from here to SECOND
SECOND = 0x8000  # momenta and second outputs


def name(config):
    return config.name


def widen(fmt, bits):
    return bits << (0 if fmt == "fp32" else 16)


def floats(patterns):
    return np.array(patterns, np.uint32).view(np.float32)


def operands(rng, config, source):
    """tn pairs: anything, or all close together, or cancelling; some zero."""
    kind, tn = rng.randrange(4), config.tn
    if kind == 0:
        return [source.any() for _ in range(tn)], [source.any() for _ in range(tn)]
    if kind == 1:  # sums at an end of the range
        at = rng.choice([1, 20, 64, 128, 190, 240, 254])
        a, b = ([source.near(at, 12) for _ in range(tn)] for _ in range(2))
    else:
        a, b = ([source.near(127, 8 * kind) for _ in range(tn)] for _ in range(2))
    if kind == 3:  # products that cancel up to the last bits
        a[1::2], b[1::2] = ([source.relative(v) for v in x[::2]] for x in (a, b))
    zeros = rng.choice([0, 0, tn // 2, tn])
    for i in rng.sample(range(tn), zeros):
        rng.choice([a, b])[i] = 0
    return a, b


@pytest.mark.parametrize("config", [*CONFIGS, Config(tm=4, tn=64), Config(tm=16, fmt="fp32")],
                         ids=name)
def test_dotacc(config):
    rng, count = random.Random(config.name), 4000 // config.tm
    source, wide = FloatSource(rng, config.fmt), FloatSource(rng, "fp32")
    a, b, acc, expected, overflows = [], [], [], [], []
    for _ in range(count):
        moving = operands(rng, config, source)[1]
        sums = []
        for _ in range(config.tm):
            row, other = operands(rng, config, source)
            if rng.randrange(2):
                moving = other if not sums else moving
            alone, _ = numerics.dotacc(config, row, moving, 0)
            start = wide.relative(alone) if rng.randrange(3) else wide.any()
            a.append(row)
            acc.append(start)
            sums.append(numerics.dotacc(config, row, moving, start))
        b.append(moving)
        expected += [bits for bits, _ in sums]
        overflows.append(any(overflow for _, overflow in sums))
    assert any(overflows) and not all(overflows)

    out, flags = array_dotacc(config, a, b, acc)
    assert out == expected
    assert flags == overflows


def array_dotacc(config, a, b, acc):
    """Results and overflow flags of the compiled array: tm rows of `a` for each one of `b`."""
    arrays = [floats([[widen(config.fmt, v) for v in x] for x in rows]) for rows in (a, b)]
    start, out = floats(acc), np.zeros(len(acc), np.float32)
    flags = np.zeros(len(b), np.uint8)
    pointers = [x.ctypes.data for x in (*arrays, start, out, flags)]
    model_library(config).model_dotacc(len(b), *pointers)
    return out.view(np.uint32).tolist(), flags.astype(bool).tolist()


def pattern(config, value):
    """An operand, or with config None an fp32 number, of that value."""
    bits = int(np.float32(value).view(np.uint32))
    return bits >> 16 if config and config.fmt == "bf16" else bits


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_dotacc_rounds_once(config):
    """Ties that the last bit of the other term decides, and both sides of the smallest result."""
    cases = []
    for sign in (1, -1):
        for tiny in (2.0**-60, -2.0**-60, 2.0**-120, -2.0**-100, 0.0):
            cases.append((1 + 2.0**-12, sign * (1 + 2.0**-12), tiny))
            cases.append((1 + 2.0**-12 + 2.0**-23, sign * (1 + 2.0**-12), tiny))
        for low in range(-153, -146):
            cases.append((2.0**(low // 2), -sign * 2.0**(low - low // 2), sign * 2.0**-126))
        most = 2 - 2.0**-config.man_bits  # a little less than half a unit of the last place
        for acc in (1, 1 + 2.0**-23, 1 + 2.0**-22, 2 - 2.0**-23):
            cases += [(most, x * sign * most * 2.0**-26, acc) for x in (1, -1, 0.5, -0.5)]
    a, b, acc, expected = [], [], [], []
    for index, (x, y, start) in enumerate(cases):
        lane = index % config.tn
        b.append([pattern(config, y) if i == lane else 0 for i in range(config.tn)])
        for r in range(config.tm):
            used = r != index % config.tm  # one row of each tile only keeps its accumulator
            a.append([pattern(config, x) if i == lane and used else 0 for i in range(config.tn)])
            acc.append(pattern(None, start))
            expected.append(numerics.dotacc(config, a[-1], b[-1], acc[-1])[0])
    assert array_dotacc(config, a, b, acc)[0] == expected


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_dotacc_rounds_once_near_the_smallest(config):
    """A third lane, 54 bits below the accumulator, decides a tie that the first two make."""
    start = [pattern(None, 2.0**-126 + odd * 2.0**-149) for odd in (0, 1)]
    a, b, acc, expected = [], [], [], []
    for sign in (0, 1 << 31):
        for third in (2.0**-89, -2.0**-89):
            others = [0] * (config.tn - 3)
            lanes = [pattern(config, v) for v in (2.0**-75, 2.0**-75, third)] + others
            b.append([pattern(config, v) for v in (2.0**-76, 2.0**-76, 2.0**-90)] + others)
            if sign:
                b[-1] = [v | sign >> (32 - config.elem_bits) if v else v for v in b[-1]]
            for r in range(config.tm):
                a.append(lanes)
                acc.append(start[r % 2] | sign)
                expected.append(numerics.dotacc(config, a[-1], b[-1], acc[-1])[0])
    if config.fmt == "fp32":  # bf16 drops the third lane
        assert expected[0] != expected[config.tm] and expected[1] != expected[config.tm + 1]
    assert array_dotacc(config, a, b, acc)[0] == expected


@pytest.mark.parametrize("config", CONFIGS[1:], ids=name)
def test_scalars(config):
    rng = random.Random(5)
    source = FloatSource(rng, "fp32")
    library, overflow = model_library(config), ctypes.c_uint8()
    small = 0x3f7fffff  # times 2^-126 and the like: results around the smallest normal number
    pairs = [(0x00800000, v) for v in (small, small - 1, 0x3f000000, 0xbf7fffff, 0x3f800000)]
    for _ in range(20000):
        a = source.any()
        pairs.append((a, source.relative(a) if rng.randrange(2) else source.any()))
    for a, b in pairs:
        for operation, reference in enumerate((
                numerics.fadd, numerics.fmul,
                lambda a, b: numerics.to_operand(config.fmt, a))):
            x, y = (struct.unpack("<f", struct.pack("<I", v))[0] for v in (a, b))
            got = library.model_scalar(operation, x, y, ctypes.byref(overflow))
            assert (got, bool(overflow.value)) == reference(a, b), (operation, hex(a), hex(b))


# programs

def blob(instructions):
    return np.array([*instructions, encode(Unit.END)], np.uint32).tobytes()


def pixels(config, unit, rng, words):
    """A LOAD of all banks of `words` words; memory side split at random into runs."""
    beats = config.tn // config.beat_elems
    total = words * beats
    n1 = rng.choice([k for k in (1, 2, 4, 8) if total % k == 0])
    return encode(unit, d_base=0x1000, d_len=total // n1, d_n1=n1, d_n2=1, d_n3=1,
                  d_s1=total // n1 * config.beat_bytes, spp=beats, nb=1, n2=1, n1=1, n0=words,
                  hi1=1, hi0=words, sd1=1, sd0=1)


def random_load(config, rng, unit):
    elems = config.beat_elems
    pack = config.tn >= 8 and 4 % elems == 0 and rng.randrange(3) == 0
    n2, n1, n0 = rng.randint(1, 2), rng.randint(1, 4), rng.randint(1, 7)
    lo1, hi1 = sorted(rng.randint(0, n1 + 1) for _ in range(2))
    lo0, hi0 = sorted(rng.randint(0, n0 + 1) for _ in range(2))
    nb, spp = rng.randint(1, 2), 4 // elems if pack else rng.randint(1, config.tn // elems)
    per_image = max(min(hi1, n1) - lo1, 0) * max(min(hi0, n0) - lo0, 0) * spp
    beat = config.beat_bytes
    return encode(
        unit, padneg=rng.randrange(2), pack=pack, d_base=0x1000 + beat * rng.randrange(64),
        d_len=per_image, d_n1=n2, d_n2=nb, d_n3=1, d_s1=beat * rng.randint(-9, 9),
        d_s2=beat * rng.randint(0, 99), d_s3=0, abase=rng.randrange(65536), spp=spp,
        ch0=rng.randrange(config.tn), nb=nb, cstep=rng.randrange(config.tn), k2=rng.randrange(16),
        k1=rng.randrange(16), k0=4 if pack else rng.randrange(16), n2=n2, n1=n1, n0=n0,
        a2=rng.randrange(65536), a1=rng.randrange(99), lo1=lo1, hi1=hi1, lo0=lo0, hi0=hi0,
        sd1=rng.randint(1, 3), sd0=rng.randint(1, 3))


def random_unpool(config, rng, unit):
    """Windows that the map cuts off at any side, or that do not cover it; tags of any number."""
    u1, u0 = rng.randint(1, 4), rng.randint(1, 5)
    n2, n1, n0, nb = rng.randint(1, 2), rng.randint(1, 4), rng.randint(1, 5), rng.randint(1, 2)
    spp = rng.randint(1, config.tn // config.beat_elems)
    lo1, hi1 = sorted(rng.randint(0, n1 + 1) for _ in range(2))
    lo0, hi0 = sorted(rng.randint(0, n0 + 1) for _ in range(2))
    per_image = max(min(hi1, n1) - lo1, 0) * max(min(hi0, n0) - lo0, 0) * spp
    columns, rows = rng.randint(0, n0 * u0 + 2), rng.randint(0, n1 * u1 + 2)
    beat = config.beat_bytes
    return encode(
        unit, unpool=1, d_base=0x1000 + beat * rng.randrange(64), t_base=TAGS, d_len=per_image,
        d_n1=n2, d_n2=nb, d_n3=1, d_s1=beat * rng.randint(0, 9), d_s2=beat * rng.randint(0, 99),
        abase=rng.randrange(65536), spp=spp, ch0=rng.randrange(config.tn), nb=nb,
        cstep=rng.randrange(config.tn), k2=rng.randrange(256), k1=rng.randrange(256),
        k0=rng.randrange(256), n2=n2, n1=n1, n0=n0, a1=columns, lo1=lo1, hi1=hi1, lo0=lo0, hi0=hi0,
        a2=max(0, columns * rows - rng.randint(0, max(0, columns - 1))), u1=u1, u0=u0,
        v1=rng.randint(0, u1), v0=rng.randint(0, u0), x1=rng.randrange(u1), x0=rng.randrange(u0),
        # without effect
        padneg=rng.randrange(2), pack=rng.randrange(2), sd1=rng.randrange(3), sd0=rng.randrange(3))


def random_compute(config, rng):
    def step():
        return rng.choice([0, 1, 2, rng.randint(-5, 40), rng.randint(-32768, 32767)])

    q2, q1, q0 = rng.randint(1, 2), rng.randint(1, 3), rng.randint(1, 5)
    size = rng.choice([1, 2 * config.acc_depth - 1])
    fields = dict(
        abase=rng.randrange(65536), bbase=rng.randrange(65536), cbase=rng.randrange(65536),
        rows=rng.randint(1, config.tm), lanes_last=rng.randint(1, config.tn), ng=rng.randint(1, 2),
        t1=rng.randint(1, 3), t0=rng.randint(1, 3), q2=q2, q1=q1, q0=q0, rch0=rng.randrange(16),
        first=rng.randrange(2), sd1=rng.randint(1, 2), sd0=rng.randint(1, 2))
    fields |= {name: step() for name in ("ag", "bg", "at1", "at0", "bt1", "bt0", "bq2", "bq1",
                                         "bq0", "ar", "al0", "al1")}
    for axis in rng.sample(range(3), 3):  # no accumulator twice
        fields[f"cq{axis}"] = rng.choice([-1, 1]) * size
        size *= (q0, q1, q2)[axis]
    if rng.randrange(3) == 0:
        taps = fields["t1"] * fields["t0"]
        most = 2 * config.acc_depth // taps - 1 - (fields["ng"] - 1) * config.tn
        if most < 1:
            fields["ng"], most = 1, 2 * config.acc_depth // taps - 1
        fields["lanes_last"] = min(fields["lanes_last"], most)
        return encode(Unit.COMPUTE, **fields, dw=1, np=q2 * q1 * q0, rskew=q0 % config.tn,
                      ones=rng.randrange(2))
    ident = rng.randrange(4) == 0
    return encode(Unit.COMPUTE, **fields, ident=ident, sel=ident and rng.randrange(2),
                  zero=rng.randrange(8) == 0, a_pix=rng.randrange(2), fence=rng.randrange(2),
                  pack=config.tn >= 8 and rng.randrange(4) == 0, al_n=rng.randint(1, config.tn),
                  tag0=rng.choice([0, 127, rng.randrange(128)]), tg1=rng.choice([0, 127]),
                  tg0=rng.choice([0, 1, 255]))


def random_post(config, rng, memory_source):
    """Operands, sources and bias lie in 0x1000..0x7000, second output above, the first last."""
    beat = config.beat_bytes
    flags = {f: rng.randrange(2) for f in ("scale", "bias", "relu", "src_fp32", "out_fp32")}
    flags |= {"src_mem": 1} if memory_source else {"pool": rng.randrange(2)}
    operand = rng.choice(["opd_add", "mask", "sgd", None])
    if operand:
        flags[operand] = 1
        flags["opd_fp32"] = operand != "sgd" and flags["out_fp32"]
    if operand == "sgd":
        flags |= {"scale": 0, "bias": 0, "relu": 0, "mom": rng.randrange(2)}
    if operand == "opd_add":
        flags["bias"] = 0
    if flags.get("pool") and operand != "sgd":
        flags["tags"] = rng.randrange(3) > 0
    p2, p1, p0 = rng.randint(1, 2), rng.randint(1, 3), 2 * rng.randint(1, 3)

    size = 4 if operand == "sgd" or flags["out_fp32"] else config.elem_bytes
    total = p2 * p1 * p0 * config.tm * size // beat
    unit = 2 if flags.get("tags") and size > config.elem_bytes else 1  # beats
    o_n1 = rng.choice([k for k in (1, 2, 3, 6, total // unit) if total % (unit * k) == 0])
    length = total // o_n1
    imm2 = 0x1000 + beat * rng.randrange(99)
    source = FloatSource(rng, "fp32")
    return encode(
        Unit.POST, **flags, p2=p2, p1=p1, p0=p0, w1=rng.randint(1, 3), w0=rng.randint(1, 3),
        src_base=0x1000 + beat * rng.randrange(99) if memory_source else rng.randrange(65536),
        as2=rng.randint(-9, 9), as1=rng.randint(-9, 9), as0=rng.randint(-3, 3),
        aw1=rng.randint(-9, 9), aw0=rng.randint(-3, 3),
        imm2=source.near(120, 9) if operand == "sgd" else imm2,
        opd_base=0x1000 + beat * rng.randrange(99), aux_base=SECOND + beat * rng.randrange(99),
        out_base=0xa000 + beat * rng.randrange(99),
        o_len=length, o_n1=o_n1, o_s1=beat * (length + unit * rng.randrange(3)), o_n2=1,
        o_s2=beat * unit * rng.randint(-9, 9), imm0=source.near(127, 4), imm1=source.near(126, 2))


def random_memory(config, rng, nonfinite=0):
    """Operands with an occasional raw pattern, so that canonicalisation has work to do."""
    source, size = FloatSource(rng, config.fmt), config.elem_bytes
    words = []
    for _ in range(MEMORY // size):
        bits = source.near(127, 12)
        if rng.randrange(8) == 0:
            bits = rng.choice([0, 1 << (8 * size - 1), rng.getrandbits(config.man_bits)])
        elif nonfinite and rng.randrange(64) == 0:
            bits |= 255 << config.man_bits
        words.append(bits)
    for at in range(TAGS // size, SECOND // size):
        words[at] = numerics.tag(config.fmt, rng.randrange(9)) if rng.randrange(8) else words[at]
    return np.array(words, f"<u{size}").tobytes()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_random_programs(config, seed):
    rng = random.Random(f"{config.name} {seed}")
    drain = dict(p2=1, p1=1, p0=2 * config.acc_depth, as0=1, out_fp32=1, o_n1=1, o_n2=1,
                 o_len=2 * config.acc_depth * config.groups)
    program = [pixels(config, Unit.LOAD_A, rng, config.a_depth),
               pixels(config, Unit.LOAD_B, rng, config.b_depth),
               encode(Unit.COMPUTE, first=1, zero=1, ng=1, t1=1, t0=1, q2=1, q1=1,
                      q0=2 * config.acc_depth, cq0=1)]
    for index in range(16):
        kind = rng.randrange(5)
        if kind < 2:
            load = rng.choice((random_load, random_unpool))
            program.append(load(config, rng, (Unit.LOAD_A, Unit.LOAD_B)[kind]))
        elif kind < 4:
            program.append(random_compute(config, rng))
        else:
            program += [random_post(config, rng, index % 2), encode(Unit.LOAD_A)]
    program.append(encode(Unit.POST, out_base=0xc000, **drain))

    # each instruction waits for the one before it, when that is another unit's
    units = [words[0] & 15 for words in program]
    for words, unit, before in zip(program[1:], units[1:], units, strict=False):
        words[0] |= 0 if unit == before else 1 << (4 + before)
    for words, unit, after in zip(program, units, units[1:], strict=False):
        words[0] |= 0 if unit == after else 1 << (8 + after)

    memory = random_memory(config, rng, nonfinite=seed % 4 == 3)
    memory = blob(program) + memory[len(blob(program)):]
    reference = Reference(config, memory)
    reference.run(0)
    with ModelDevice(config, MEMORY, check=seed % 2) as device:
        device.write(0, memory)
        if reference.flags:
            with pytest.raises(NumericError) as caught:
                device.run(0)
            for flag, text in (("nonfinite", "NaN"), ("overflow", "overflowed")):
                assert (flag in reference.flags) == (text in str(caught.value))
        else:
            counters = device.run(0)
            assert counters.active == reference.active
            assert counters.read_bytes == reference.beats["read"] * config.beat_bytes
            assert counters.write_bytes == reference.beats["write"] * config.beat_bytes
            assert sum(counters.instructions.values()) == len(program)
            assert counters.cycles is None
        assert device.read(0, MEMORY) == bytes(reference.memory)


@pytest.mark.parametrize("config", [dataclasses.replace(c, acc_depth=128) for c in CONFIGS],
                         ids=name)
def test_concurrent_programs(config):
    """Units overlap as far as tokens allow: in the order of the model and at random."""
    for seed in range(8):
        program = programs.Generator(config, seed)
        program.grow(8)
        reference = Reference(config, program.image())
        reference.run(0)
        for check in (False, True):
            with ModelDevice(config, programs.MEMORY, check=check) as device:
                device.write(0, program.image())
                try:
                    device.run(0)
                except NumericError:
                    assert reference.flags
                else:
                    assert not reference.flags
                assert device.read(0, programs.MEMORY) == bytes(reference.memory), seed


# errors, tokens and the debug aid

SMALL = CONFIGS[0]
DRAIN = dict(p2=1, p1=1, p0=1, o_len=2, o_n1=1, o_n2=1, out_base=0x1000)
WINDOWS = dict(unpool=1, d_len=6, d_n1=1, d_n2=1, d_n3=1, d_base=0x1000, nb=1, n2=1, n1=1, n0=3,
               hi1=1, hi0=3, spp=2, u1=2, u0=2, v1=2, v0=2, a1=6, a2=12)


def start(device, *instructions, at=0):
    device.write(at, blob(instructions))
    return device.run(at)


@pytest.fixture
def device():
    with ModelDevice(SMALL, MEMORY) as device:
        yield device


def wait(*units):
    return {"wait": sum(1 << unit for unit in units)}


def signal(*units):
    return {"signal": sum(1 << unit for unit in units)}


def test_units_follow_tokens(device):
    """The drain stands before the sweep in the program, but waits for it."""
    clear = encode(Unit.COMPUTE, zero=1, first=1, ng=1, t1=1, t0=1, q2=1, q1=1, q0=1,
                   **signal(Unit.POST))
    drain = encode(Unit.POST, p2=1, p1=1, p0=1, out_base=0x100, out_fp32=1, o_n1=1, o_n2=1,
                   o_len=SMALL.groups, **wait(Unit.COMPUTE))
    device.write(0x100, b"\xff" * 4 * SMALL.tm)
    counters = start(device, drain, clear)
    assert device.read(0x100, 4 * SMALL.tm) == bytes(4 * SMALL.tm)
    assert counters.instructions == {"LOAD_A": 0, "LOAD_B": 0, "COMPUTE": 1, "POST": 1}
    assert counters.active["POST"] == SMALL.groups
    assert counters.read_bytes == 3 * 64 and counters.write_bytes == 4 * SMALL.tm


def test_deadlock_names_units_instructions_and_tokens(device):
    with pytest.raises(DeviceTimeout) as caught:
        start(device, encode(Unit.LOAD_A, **signal(Unit.COMPUTE)),
              encode(Unit.COMPUTE, rows=3, **wait(Unit.LOAD_A, Unit.POST)),
              encode(Unit.POST, relu=1, **wait(Unit.COMPUTE)))
    text = str(caught.value)
    assert "LOAD_A: idle after 1 instructions" in text
    assert "COMPUTE: waits for POST before instruction 1: COMPUTE wait=9 rows=3" in text
    assert "POST: waits for COMPUTE before instruction 2: POST wait=4 relu=1" in text
    assert "tokens: LOAD_A -> COMPUTE: 1" in text
    assert start(device).read_bytes == 64


@pytest.mark.parametrize(("error", "instructions", "words"), [
    (ProgramError, [[9] + [0] * 15], "unknown unit 9\nin instruction 0: 00000009"),
    (ProgramError, [encode(Unit.LOAD_B, **signal(Unit.POST))] * 256, "more than 255 tokens"),
    (ProgramError, [encode(Unit.LOAD_B, **signal(Unit.POST))], "at the end.*LOAD_B -> POST: 1"),
    (ProgramError, [encode(Unit.LOAD_A, d_len=2, d_n1=1, d_n2=1, d_n3=1)],
     "transfer has 2 beats, the pixels take 0.*LOAD_A d_len=2"),
    (ProgramError, [encode(Unit.COMPUTE, dw=1, np=4, q2=1, q1=1, q0=5)], "np is not q2"),
    (ProgramError, [encode(Unit.POST, p2=1, p1=1, p0=1, o_len=1, o_n1=1, o_n2=1)],
     "runs have 1 beats, the output takes 16 bytes"),
    (ProgramError, [encode(Unit.POST, mask=1, sgd=1)], "more than one of"),
    (ProgramError, [encode(Unit.POST, scale=1, sgd=1)], "sgd with another step"),
    (ProgramError, [encode(Unit.POST, bias=1, opd_add=1)], "bias with opd_add"),
    (ProgramError, [encode(Unit.POST, sgd=1, bias=1)], "sgd with another step"),
    (ProgramError, [encode(Unit.POST, mom=1)], "mom without sgd"),
    (ProgramError, [encode(Unit.POST, tags=1)], "tags without pool"),
    (ProgramError, [encode(Unit.POST, tags=1, pool=1, sgd=1)], "sgd with another step"),
    (ProgramError, [encode(Unit.POST, tags=1, pool=1, out_fp32=1, o_len=3)], "tags of half a beat"),
    (ProgramError, [encode(Unit.POST, **DRAIN, pool=1, w1=1, w0=1, tags=1, aux_base=2)],
     "output of tags address 0x00000002 is not"),
    (BusError, [encode(Unit.POST, **DRAIN, pool=1, w1=1, w0=1, tags=1, aux_base=MEMORY)],
     "output of tags of 16 bytes at 0x00010000"),
    (BusError, [encode(Unit.POST, **DRAIN | {"o_len": 4}, sgd=1, mom=1, aux_base=MEMORY - 8)],
     "momentum read of 32 bytes at 0x0000fff8"),
    (ProgramError, [encode(Unit.LOAD_A, unpool=1, u1=2)], "u1 or u0 is 0"),
    (ProgramError, [encode(Unit.LOAD_A, unpool=1, u1=2, u0=3, v0=4)], "larger than its stride"),
    (ProgramError, [encode(Unit.LOAD_A, unpool=1, u1=2, u0=3, x1=2)], "a whole stride"),
    (ProgramError, [encode(Unit.LOAD_A, **WINDOWS | {"d_len": 5})], "has 5 beats, .* take 6"),
    (BusError, [encode(Unit.LOAD_A, **WINDOWS, t_base=MEMORY - 40)], "load of tags of 48 bytes"),
    (ProgramError, [encode(Unit.POST, bias=1, imm2=4)], "0x00000004 is not a multiple of the beat"),
    (BusError, [encode(Unit.POST, bias=1, imm2=MEMORY - 8)], "bias read of 32 bytes at 0x0000fff8"),
    (BusError, [encode(Unit.LOAD_A, d_base=0, d_s1=-8, d_len=1, d_n1=2, d_n2=1, d_n3=1, nb=1, n2=1,
                       n1=1, n0=2, hi1=1, hi0=2, spp=1, sd1=1, sd0=1)], "at 0xfffffff8 is outside"),
])
def test_errors(device, error, instructions, words):
    with pytest.raises(error, match=f"(?s){words}"):
        start(device, *instructions)
    assert start(device).read_bytes == 64


def bf16(values):
    return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize("fp32", [0, 1])
def test_unpooling_undoes_pooling(device, fp32):
    """A 5 x 6 map of 8 channels through 2 x 2 windows, of which the last row is in none."""
    rng = np.random.default_rng(1)
    feature_map = rng.permutation(240).reshape(5, 6, 8) - 120.0
    windows = feature_map[:4].reshape(2, 2, 3, 2, 8).transpose(0, 2, 4, 1, 3).reshape(2, 3, 8, 4)
    tags, gradient = windows.argmax(3), 1.0 + np.arange(48).reshape(2, 3, 8)
    device.write(0x1000, bf16(feature_map))
    for row in range(2):
        device.write(0x4000 + 64 * row, bf16(gradient[row]))
    sweep = dict(first=1, ident=1, rows=8, lanes_last=8, ng=1, t1=1, t0=1, q2=1, q1=1, q0=30,
                 bq0=1, cq0=1)
    whole = dict(d_base=0x1000, d_len=60, d_n1=1, d_n2=1, d_n3=1, spp=2, nb=1, n2=1, n1=1, n0=30,
                 hi1=1, hi0=30, sd1=1, sd0=1)
    start(device, encode(Unit.LOAD_B, **whole))
    start(device, encode(Unit.COMPUTE, **sweep))
    counters = start(device, encode(
        Unit.POST, pool=1, tags=1, out_fp32=fp32, p2=1, p1=2, p0=3, w1=2, w0=2, as1=12, as0=2,
        aw1=6, aw0=1, out_base=0x2000, o_len=6 << fp32, o_n1=2, o_s1=64 << fp32, o_n2=1,
        aux_base=0x3000))
    assert counters.active["POST"] == 12 << fp32
    assert counters.write_bytes == 96 + (96 << fp32)
    for row in range(2):  # 16 bytes are left out between two
        pooled = device.read(0x2000 + (64 << fp32) * row, 48 << fp32)
        expected = windows.max(3)[row].astype(np.float32)
        assert pooled == (expected.tobytes() if fp32 else bf16(expected).tobytes())
        found = np.frombuffer(device.read(0x3000 + 64 * row, 48), np.uint16)
        assert (found == 0x4000 + tags[row].reshape(-1)).all()

    unpool = dict(
        WINDOWS, d_base=0x4000, t_base=0x3000, n1=3, hi1=2, a1=6, a2=30, d_len=6, d_n1=2, d_s1=64)
    counters = start(device, encode(Unit.LOAD_B, **unpool))
    assert counters.active["LOAD_B"] == 60
    start(device, encode(Unit.COMPUTE, **sweep))
    start(device, encode(Unit.POST, p2=1, p1=1, p0=30, as0=1, out_base=0x5000, o_len=60, o_n1=1,
                         o_n2=1))
    expected = np.zeros((2, 3, 8, 4))
    np.put_along_axis(expected, tags[..., None], gradient[..., None], 3)
    rows = expected.reshape(2, 3, 8, 2, 2).transpose(0, 3, 1, 4, 2).reshape(4, 6, 8)
    assert device.read(0x5000, 480) == bf16(np.append(rows, np.zeros((1, 6, 8)), 0)).tobytes()


def test_tags_are_taken_as_they_are(device):
    """Neither the exponent of a tag nor its sign matters, not even that of an infinity or zero."""
    words = np.array([0x4001, 0x7f81, 0x0001, 0x8001, 0xff80, 0x0000, 0x0002, 0x4081], np.uint16)
    device.write(0x2000, words)
    device.write(0x1000, bf16(np.arange(1, 9)))
    start(device, encode(Unit.LOAD_B, **WINDOWS | dict(d_len=2, n0=1, a1=2, a2=4), t_base=0x2000))
    start(device, encode(Unit.COMPUTE, first=1, ident=1, rows=8, lanes_last=8, ng=1, t1=1, t0=1,
                         q2=1, q1=1, q0=4, bq0=1, cq0=1))
    start(device, encode(Unit.POST, p2=1, p1=1, p0=4, as0=1, out_base=0x5000, o_len=8, o_n1=1,
                         o_n2=1))
    expected = np.zeros((4, 8))
    expected[[1, 1, 1, 1, 0, 0, 2, 1], range(8)] = range(1, 9)
    assert device.read(0x5000, 64) == bf16(expected).tobytes()


def test_255_tokens_are_allowed(device):
    start(device, *[encode(Unit.LOAD_B, **signal(Unit.POST))] * 255,
          *[encode(Unit.POST, **wait(Unit.LOAD_B))] * 255)


def test_program_outside_the_memory(device):
    with pytest.raises(ValueError, match="64 bytes at 0xffc1 are outside of the memory"):
        device.run(MEMORY - 63)
    device.write(0, bytes(MEMORY))  # no END: the fetch runs into the wall
    with pytest.raises(BusError, match=f"instruction {MEMORY // 64}"):
        device.run(0)


def test_numeric_error_names_the_first_culprit(device):
    device.write(0x1000, np.full(32, 0x7f80, np.uint16))  # infinities
    load = pixels(SMALL, Unit.LOAD_A, random.Random(1), 1)
    with pytest.raises(NumericError, match="NaN was read, first in instruction 1: LOAD_A"):
        start(device, encode(Unit.LOAD_B), load, encode(Unit.COMPUTE))
    assert start(device).instructions["LOAD_A"] == 0


def test_memory_access(device):
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    device.write(MEMORY - 24, data)
    assert device.read(MEMORY - 24, 24) == data.tobytes()
    for address, size in ((MEMORY - 23, 24), (-1, 2), (0, -1)):
        with pytest.raises(ValueError, match="outside of the memory"):
            device.read(address, size)
    with pytest.raises(ValueError, match="outside of the memory"):
        device.write(MEMORY - 1, b"ab")


def test_constructor_and_close():
    with pytest.raises(TypeError, match="memory_size must be int, not 1.0"):
        ModelDevice(SMALL, 1.0)
    with pytest.raises(ValueError, match="memory_size must be at most 65536 as addr_bits is 16, "
                                         "not 65537"):
        ModelDevice(dataclasses.replace(SMALL, addr_bits=16), 65537)
    with pytest.raises(ValueError, match="memory_size must be in 1..2\\^32, not 0"):
        ModelDevice(SMALL, 0)
    with pytest.raises(TypeError, match="timing must be a MemoryTiming, not 3"):
        ModelDevice(SMALL, 64, timing=3)
    timing = MemoryTiming(latency=3)
    assert ModelDevice(SMALL, 64, timing=timing).timing is timing
    device = ModelDevice(SMALL, 64)
    assert device.timing == MemoryTiming()
    device.close()
    device.close()
    with pytest.raises(ValueError, match="closed"):
        device.run(0)


SWEEP = dict(first=1, rows=1, lanes_last=2, ng=1, t1=1, t0=1, q2=1, q1=1, q0=1)
FILL = [pixels(SMALL, unit, random.Random(2), 1) for unit in (Unit.LOAD_A, Unit.LOAD_B)]


@pytest.mark.parametrize(("instructions", "words"), [
    (FILL[:1] + [encode(Unit.COMPUTE, **SWEEP)], "buffer B, word 0, bank 0"),
    (FILL[1:] + [encode(Unit.COMPUTE, **SWEEP)], "buffer A, word 0, bank 0"),
    (FILL + [encode(Unit.COMPUTE, **SWEEP | {"first": 0})], "accumulator 0 is added to"),
    (FILL[1:] + [encode(Unit.COMPUTE, **SWEEP, ident=1, sel=1)], "a tag of buffer A, word 0"),
    ([encode(Unit.POST, p2=1, p1=1, p0=1, o_len=2, o_n1=1, o_n2=1)], "accumulator 0 is drained"),
])
def test_check_finds_undefined_words(instructions, words):
    with ModelDevice(SMALL, MEMORY, check=True) as device:
        device.write(0x1000, np.full(64, 0x3f80, np.uint16))
        for instruction in instructions[:-1]:
            start(device, instruction)
        with pytest.raises(ProgramError, match=words):
            start(device, instructions[-1])
        start(device, *FILL)
        start(device, encode(Unit.COMPUTE, **SWEEP))


def test_check_allows_undefined_words_that_do_not_count():
    with ModelDevice(SMALL, MEMORY, check=True) as device:
        device.write(0x1000, np.full(64, 0x3f80, np.uint16))
        start(device, FILL[0])
        start(device, encode(Unit.COMPUTE, **SWEEP | {"rows": 0}))
        device.write(0x1000, bytes(128))
        start(device, FILL[0])  # zeros against unwritten words
        start(device, encode(Unit.COMPUTE, **SWEEP))


CLEAR = SWEEP | {"zero": 1, "q0": 2, "cq0": 1}
POOL = DRAIN | dict(pool=1, w1=1, w0=1, tags=1)


@pytest.mark.parametrize(("instructions", "words"), [
    ([encode(Unit.COMPUTE, **SWEEP), FILL[0]], "word 0x0: .* with (COMPUTE|LOAD_A)"),
    ([encode(Unit.COMPUTE, **SWEEP), FILL[1]], "word 0x0: .* with (COMPUTE|LOAD_B)"),
    ([encode(Unit.COMPUTE, ident=1, sel=1, **SWEEP), FILL[0]], "word 0x0: .* (COMPUTE|LOAD_A)"),
    ([encode(Unit.COMPUTE, **CLEAR), encode(Unit.POST, src_base=3, **DRAIN)],
     "accumulator 0x[013]: .* with (COMPUTE|POST)"),
    ([encode(Unit.POST, src_base=3, **DRAIN), FILL[0]], "0x1000: .* with (POST|LOAD_A)"),
    ([encode(Unit.POST, src_base=3, **DRAIN), encode(Unit.LOAD_B, **WINDOWS, t_base=0x2000)],
     "0x1000: .* with (POST|LOAD_B)"),
    ([encode(Unit.POST, src_base=3, **DRAIN),
      encode(Unit.LOAD_B, **WINDOWS | {"d_base": 0x2000}, t_base=0x1000)],
     "0x1000: .* with (POST|LOAD_B)"),
    ([encode(Unit.POST, src_base=3, **POOL, aux_base=0x2000),
      encode(Unit.LOAD_B, **WINDOWS | {"d_base": 0x3000}, t_base=0x2000)],
     "0x2000: .* with (POST|LOAD_B)"),
    ([encode(Unit.POST, src_base=3, sgd=1, mom=1, aux_base=0x2000,
             **DRAIN | {"out_base": 0x4000, "o_len": 4}),
      encode(Unit.LOAD_B, **WINDOWS | {"d_base": 0x3000}, t_base=0x2000)],
     "0x2000: .* with (POST|LOAD_B)"),
    ([encode(Unit.LOAD_A, **WINDOWS, t_base=0x2000), encode(Unit.COMPUTE, **SWEEP)],
     "word 0x0: .* with (COMPUTE|LOAD_A)"),
    # tokens, but in the other direction, or to another unit
    ([encode(Unit.POST, src_base=3, **DRAIN, **wait(Unit.LOAD_A)),
      encode(Unit.LOAD_A, **signal(Unit.POST)), FILL[0]], "0x1000: .* with (POST|LOAD_A)"),
])
def test_check_finds_races(instructions, words):
    with ModelDevice(SMALL, MEMORY, check=True) as device:
        device.write(0x1000, np.full(64, 0x3f80, np.uint16))
        start(device, *FILL, encode(Unit.COMPUTE, **CLEAR | {"q0": 2 * SMALL.acc_depth}))
        for _ in range(4):  # in whatever order they run
            with pytest.raises(ProgramError, match=words):
                start(device, *instructions)
        for instruction in instructions:  # one after the other there is nothing wrong with them
            if not instruction[0] & 0xff0:
                start(device, instruction)


def test_check_follows_tokens_over_other_units():
    """LOAD_A rewrites what POST has written: POST -> COMPUTE -> LOAD_A is order enough."""
    with ModelDevice(SMALL, MEMORY, check=True) as device:
        start(device, encode(Unit.COMPUTE, **CLEAR | {"q0": 2 * SMALL.acc_depth}))
        relay = encode(Unit.COMPUTE, **wait(Unit.POST), **signal(Unit.LOAD_A))
        load = list(FILL[0])
        load[0] |= wait(Unit.COMPUTE)["wait"] << 4
        start(device, encode(Unit.POST, src_base=3, **DRAIN, **signal(Unit.COMPUTE)), relay, load)


UPDATE = DRAIN | dict(o_len=4, sgd=1, opd_base=0x1000, out_base=0x1000)


@pytest.mark.parametrize(("before", "after", "words"), [
    (DRAIN, DRAIN | dict(mask=1, opd_base=0x1008, out_base=0x3000), "operand read 0x1008: the one"),
    (UPDATE, UPDATE, "operand read 0x1000: the one"),
    (UPDATE | dict(mom=1, aux_base=0x2000),
     UPDATE | dict(opd_base=0x3000, mom=1, aux_base=0x2018), "momentum read 0x2018: the one"),
    (POOL | dict(aux_base=0x2000), DRAIN | dict(bias=1, imm2=0x2008), "bias read 0x2008: the one"),
])
def test_check_finds_reads_ahead_of_writes(before, after, words):
    """Of one unit; a token that goes round by another one helps, and so does a read that waits."""
    before, after = before | {"src_base": 3}, after | {"src_base": 3}
    with ModelDevice(SMALL, MEMORY, check=True) as device:
        start(device, encode(Unit.COMPUTE, **CLEAR | {"q0": 2 * SMALL.acc_depth}))
        with pytest.raises(ProgramError, match=words):
            start(device, encode(Unit.POST, **before), encode(Unit.POST, **after))
        start(device, encode(Unit.POST, **before, **signal(Unit.LOAD_B)),
              encode(Unit.LOAD_B, **wait(Unit.POST), **signal(Unit.POST)),
              encode(Unit.POST, **after, **wait(Unit.LOAD_B)))
        for waits in ({"opd_add": 1}, {"src_mem": 1}):
            between = encode(Unit.POST, **DRAIN | dict(out_base=0x5000), src_base=0x6000, **waits)
            start(device, encode(Unit.POST, **before), between, encode(Unit.POST, **after))
        add = dict(opd_add=1, opd_base=0x1000, src_base=3)
        start(device, encode(Unit.POST, **before), encode(Unit.POST, **DRAIN | add))


def test_check_finds_a_sweep_that_visits_twice():
    with ModelDevice(SMALL, MEMORY, check=True) as device:
        with pytest.raises(ProgramError, match="accumulator 0 is visited twice in a sweep"):
            start(device, encode(Unit.COMPUTE, **CLEAR | {"cq0": 2 * SMALL.acc_depth}))


def test_check_brings_out_missing_tokens():
    """Without tokens the drain may overtake the sweep: sometimes it does, sometimes not."""
    with ModelDevice(SMALL, MEMORY, check=True) as device:
        caught = 0
        for c in range(2 * SMALL.acc_depth):
            try:
                start(device, encode(Unit.COMPUTE, zero=1, **SWEEP, cbase=c),
                      encode(Unit.POST, p2=1, p1=1, p0=1, o_len=2, o_n1=1, o_n2=1, src_base=c,
                             out_base=0x1000))
            except ProgramError as error:
                early = f"accumulator {c} is drained but was never written" in str(error)
                assert early or "no token puts this in order" in str(error)
                caught += early
        assert 0 < caught < 2 * SMALL.acc_depth
