# amaranth: UnusedElaboratable=no
"""hw/load.py against docs/program.md, section 3, in plain Python; and the cycles it takes."""

import random
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import FORMATS, Config
from gradgate.hw.isa import Unit, encode
from gradgate.hw.load import LoadUnit

from tests.hw.memory import Memory, feed, watch

CONFIGS = {
    "bf16 64": Config(tm=8, tn=16, max_burst=8),
    "bf16 32": Config(tm=2, tn=8, beat_bits=32, max_burst=16),
    "bf16 32, 4 lanes": Config(tm=4, tn=4, beat_bits=32, max_burst=4),
    "fp32 128": Config(tm=4, tn=32, fmt="fp32", beat_bits=128, max_burst=8),
    "fp32 32": Config(tm=4, tn=8, fmt="fp32", beat_bits=32, max_burst=64),
}


def canonical(config, word):
    bits, man = FORMATS[config.fmt]
    exponent = word >> man & 255
    return (word, False) if 0 < exponent < 255 else (0, exponent == 255)


def reference(config, memory, f):
    """The writes of one instruction: [(addr, bank, elements, from memory with infinity or NaN)]."""
    beats = [f["d_base"] + i3 * f["d_s3"] + i2 * f["d_s2"] + i1 * f["d_s1"] + n * config.beat_bytes
             for i3 in range(f["d_n3"]) for i2 in range(f["d_n2"]) for i1 in range(f["d_n1"])
             for n in range(f["d_len"])]
    beats = iter(beats)
    bits, man = FORMATS[config.fmt]
    e, padding = config.beat_elems, 0
    if f["padneg"]:
        padding = (1 << bits) - 1 - (1 << man)
    writes = []
    for b in range(f["nb"]):
        for i2 in range(f["n2"]):
            for i1 in range(f["n1"]):
                for i0 in range(f["n0"]):
                    valid = f["lo1"] <= i1 < f["hi1"] and f["lo0"] <= i0 < f["hi0"]
                    skew = i2 * f["k2"] + i1 // f["sd1"] * f["k1"] + i0 // f["sd0"] * f["k0"]
                    column = i0 // (config.tn // 4) if f["pack"] else i0
                    addr = f["abase"] + i2 * f["a2"] + i1 * f["a1"] + column
                    for s in range(f["spp"]):
                        channel = f["ch0"] + b * f["cstep"] + s * e
                        words, bad = [padding] * e, False
                        if valid:
                            beat = memory.beat(next(beats))
                            pairs = [canonical(config, beat >> x * bits & (1 << bits) - 1)
                                     for x in range(e)]
                            words, bad = [p[0] for p in pairs], any(p[1] for p in pairs)
                        writes.append((addr % 65536, (skew + channel) % config.tn, words, bad))
    assert next(beats, None) is None, "the stream has beats left"
    return writes


def random_instruction(config, rng):
    """A tile whose runs are the valid part of a row."""
    pack = rng.random() < 0.2
    spp = 4 // config.beat_elems if pack else rng.randint(1, 4)
    n0, n1, n2, nb = rng.randint(1, 9), rng.randint(1, 5), rng.randint(1, 3), rng.randint(1, 3)
    lo0, lo1 = rng.randint(0, 2), rng.randint(0, 2)
    hi0, hi1 = rng.randint(0, n0 + 1), rng.randint(0, n1 + 1)
    rows, columns = max(0, min(hi1, n1) - lo1), max(0, min(hi0, n0) - lo0)
    beats = columns * spp
    size = config.beat_bytes
    gap = size * rng.choice([beats, beats + 3, -beats, -beats - 1])
    f = dict(
        d_base=rng.randrange(1 << 14, 1 << 15, size), d_len=beats, d_n1=rows, d_s1=gap,
        d_n2=n2, d_s2=size * rng.randint(-50, 50), d_n3=nb, d_s3=size * rng.randint(-50, 50),
        abase=rng.choice([rng.randrange(1000), 65500]), spp=spp, ch0=rng.randrange(config.tn),
        nb=nb, cstep=rng.randrange(256), n2=n2, n1=n1, n0=n0,
        k2=rng.randrange(256), k1=rng.randrange(256), k0=4 if pack else rng.randrange(256),
        a2=rng.randrange(1 << 16), a1=rng.randrange(300), lo1=lo1, hi1=hi1, lo0=lo0, hi0=hi0,
        sd1=rng.randint(1, 3), sd0=1 if pack else rng.randint(1, 4),
        padneg=rng.randrange(2), pack=int(pack))
    if rng.random() < 0.15:
        f[rng.choice(["nb", "n2", "n1", "n0", "spp"])] = f["d_n1"] = 0
    return f


def run(config, instructions, seed, latency=1, stall=0.0, special=0.2, limit=20000):
    """Execute `instructions`, compare with `reference`: (memory, cycles of the writes)."""
    rng = random.Random(seed)
    memory = Memory(config, rng, latency=latency, stall=stall)
    width = config.elem_bytes
    for place in range(0, len(memory.data), width):
        if rng.random() < special:
            man = FORMATS[config.fmt][1]
            word = rng.choice([0, 255]) << man | rng.choice([0, rng.getrandbits(man)])
            word |= rng.randrange(2) << (8 * width - 1)
            memory.data[place:place + width] = word.to_bytes(width, "little")
    dut = LoadUnit(config)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    events, stamps = [], []

    async def observe(ctx):
        now = 0
        while True:
            _, _, en, addr, bank, beat, done, bad, active = await ctx.tick().sample(
                dut.buf.en, dut.buf.addr, dut.buf.bank, dut.buf.data, dut.done, dut.nonfinite,
                dut.active)
            now += 1
            assert active == en
            assert en or not bad
            if en:
                bits = config.elem_bits
                events.append((addr, bank, [beat >> x * bits & (1 << bits) - 1
                                            for x in range(config.beat_elems)], bool(bad)))
                stamps.append(now)
            if done:
                events.append(None)

    async def wait(ctx):
        await watch(ctx, lambda: events.count(None) >= len(instructions), limit)
        await ctx.tick().repeat(20)

    words = [encode(Unit.LOAD_A, **f) for f in instructions]
    items = [sum(w << 32 * i for i, w in enumerate(ws)) for ws in words]
    sim.add_testbench(partial(memory.serve_reads, port=dut.port), background=True)
    sim.add_testbench(observe, background=True)
    sim.add_testbench(partial(feed, stream=dut.i, items=items, rng=rng, stall=stall))
    sim.add_testbench(wait)
    sim.run()
    expected = []
    for f in instructions:
        expected += reference(config, memory, f) + [None]
    assert events == expected
    return memory, stamps


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_random(name, stall):
    config = CONFIGS[name]
    seed = sorted(CONFIGS).index(name)
    print("seed", seed)
    rng = random.Random(seed)
    run(config, [random_instruction(config, rng) for _ in range(12)], seed, 5, stall)


def plain(**changes):
    """16 pixels of one beat, 4 rows of 4, all valid, from one run."""
    return dict(d_base=0, d_len=16, d_n1=1, d_s1=0, d_n2=1, d_s2=0, d_n3=1, d_s3=0, abase=0, spp=1,
                ch0=0, nb=1, cstep=0, n2=1, n1=4, n0=4, k2=0, k1=0, k0=0, a2=0, a1=4, lo1=0, hi1=4,
                lo0=0, hi0=4, sd1=1, sd0=1, padneg=0, pack=0) | changes


def test_one_beat_per_cycle():
    config = Config()
    _, stamps = run(config, [plain(d_len=300, n0=30, n1=10, hi0=30, hi1=10, a1=30)], 1, latency=12)
    assert stamps[-1] - stamps[0] == 299


def test_padding_takes_one_cycle_per_beat():
    config = Config()
    f = plain(n0=12, n1=6, lo0=1, hi0=11, lo1=1, hi1=5, a1=12, spp=2, d_len=20, d_n1=4, d_s1=200)
    _, stamps = run(config, [f], 2, latency=1)
    assert len(stamps) == 144
    assert stamps[-1] - stamps[0] == 143


def test_next_instruction_is_read_ahead():
    config = Config()
    _, stamps = run(config, [plain(d_len=32, d_base=256 * i, n1=8, hi1=8) for i in range(8)], 3,
                    latency=15)
    assert stamps[-1] - stamps[0] == 255 + 7


def test_starts_quickly():
    config = Config()
    _, stamps = run(config, [plain(hi1=0, d_len=0)], 4)
    assert stamps == list(range(4, 20))  # offered in cycle 0, first write in cycle 3


def test_empty_instruction_is_done():
    config = Config()
    empty = [plain(d_len=0, **{name: 0}) for name in ("nb", "n2", "n1", "n0", "spp")]
    run(config, [*empty, plain(), *empty], 5)


def test_rejects():
    with pytest.raises(TypeError, match=r"^config must be a Config, not None$"):
        LoadUnit(None)
