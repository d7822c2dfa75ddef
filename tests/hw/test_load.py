# amaranth: UnusedElaboratable=no
"""hw/load.py and hw/places.py against docs/program.md, section 3, in plain Python; and cycles."""

import random
from functools import partial
from itertools import product

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import FORMATS, Config
from gradgate.hw.isa import Unit, encode
from gradgate.hw.load import LoadUnit
from gradgate.hw.places import Places

from tests.hw.memory import Memory, feed, watch

CONFIGS = {
    "bf16 64": Config(tm=8, tn=16, max_burst=8),
    "bf16 32": Config(tm=2, tn=8, beat_bits=32, max_burst=16),
    "bf16 32, 4 lanes": Config(tm=4, tn=4, beat_bits=32, max_burst=4),
    "fp32 128": Config(tm=4, tn=32, fmt="fp32", beat_bits=128, max_burst=8),
    "fp32 32": Config(tm=4, tn=8, fmt="fp32", beat_bits=32, max_burst=64),
}
BAD, DONE = "bad", "done"
TAGS = 1 << 15  # address


def canonical(config, word):
    bits, man = FORMATS[config.fmt]
    exponent = word >> man & 255
    return (word, False) if 0 < exponent < 255 else (0, exponent == 255)


def beats(config, memory, f, base):
    """The beats of the runs from `base`."""
    for i3 in range(f["d_n3"]):
        for i2 in range(f["d_n2"]):
            for i1 in range(f["d_n1"]):
                address = base + i3 * f["d_s3"] + i2 * f["d_s2"] + i1 * f["d_s1"]
                for n in range(f["d_len"]):
                    beat = memory.beat(address + n * config.beat_bytes)
                    bits = config.elem_bits
                    yield [beat >> x * bits & (1 << bits) - 1 for x in range(config.beat_elems)]


def windows(f):
    """The loops outside of a beat: (b, i2, i1, i0, s, whether the beat is valid)."""
    for b, i2, i1, i0, s in product(*(range(f[n]) for n in ("nb", "n2", "n1", "n0", "spp"))):
        yield b, i2, i1, i0, s, f["lo1"] <= i1 < f["hi1"] and f["lo0"] <= i0 < f["hi0"]


def reference(config, memory, f):
    """What one instruction does, a list per cycle if nothing stalls.

    Writes are (address, bank, elements), BAD is a beat with an infinity or NaN.
    """
    bits, man = FORMATS[config.fmt]
    lowest = (1 << bits) - 1 - (1 << man)
    gradients = beats(config, memory, f, f["d_base"])
    cycles = []
    if not f.get("unpool"):
        for b, i2, i1, i0, s, valid in windows(f):
            skew = i2 * f["k2"] + i1 // f["sd1"] * f["k1"] + i0 // f["sd0"] * f["k0"]
            column = i0 // (config.tn // 4) if f["pack"] else i0
            address = f["abase"] + i2 * f["a2"] + i1 * f["a1"] + column
            channel = f["ch0"] + b * f["cstep"] + s * config.beat_elems
            words, bad = [lowest if f["padneg"] else 0] * config.beat_elems, False
            if valid:
                words, bads = zip(*(canonical(config, x) for x in next(gradients)), strict=True)
                words, bad = list(words), any(bads)
            cycles.append([(address % 65536, (skew + channel) % config.tn, words)]
                          + [BAD] * bad)
    else:
        tags = beats(config, memory, f, f["t_base"])
        for b, i2, i1, i0, s, valid in windows(f):
            channel = f["ch0"] + b * f["cstep"] + s * config.beat_elems
            if valid:
                words, bads = zip(*(canonical(config, x) for x in next(gradients)), strict=True)
                winners = [x >> man - 7 & 127 for x in next(tags)]
            for j1 in range(f["u1"]):
                for j0 in range(f["u0"]):
                    r, c = i1 * f["u1"] + j1 - f["x1"], i0 * f["u0"] + j0 - f["x0"]
                    written = [0] * config.beat_elems
                    if valid and j1 < f["v1"] and j0 < f["v0"]:
                        written = [w if t == j1 * f["v0"] + j0 else 0
                                   for w, t in zip(words, winners, strict=True)]
                    address = f["abase"] + i2 * f["a2"] + r * f["a1"] + c
                    skew = i2 * f["k2"] + r * f["k1"] + c * f["k0"]
                    inside = r >= 0 and c >= 0 and c < f["a1"] and r * f["a1"] < f["a2"]
                    cycles.append([(address % 65536, (skew + channel) % config.tn, written)]
                                  * inside)
            if valid:
                cycles[-1] += [BAD] * any(bads)
        assert next(tags, None) is None, "the tags have beats left"
    assert next(gradients, None) is None, "the stream has beats left"
    return cycles or [[]]


def transfer(config, rng, rows, columns, spp, images, blocks):
    """Runs for the valid beats, one per row."""
    count, size = columns * spp, config.beat_bytes
    gap = size * rng.choice([count, count + 3, -count, -count - 1])
    return dict(
        d_base=rng.randrange(1 << 14, 1 << 15, size), d_len=count,
        d_n1=rows, d_s1=gap, d_n2=images, d_s2=size * rng.randint(-50, 50),
        d_n3=blocks, d_s3=size * rng.randint(-50, 50))


def mask(rng, n1, n0):
    """Limits of the valid rows and columns, and how many of each there are."""
    lo1, lo0, hi1, hi0 = (rng.randint(*limits) for limits in (
        (0, 2), (0, 2), (0, n1 + 1), (0, n0 + 1)))
    return (dict(lo1=lo1, lo0=lo0, hi1=hi1, hi0=hi0), max(0, min(hi1, n1) - lo1),
            max(0, min(hi0, n0) - lo0))


def random_instruction(config, rng):
    """A tile whose runs are the valid part of a row."""
    pack = rng.random() < 0.2
    spp = 4 // config.beat_elems if pack else rng.randint(1, 4)
    n0, n1, n2, nb = rng.randint(1, 9), rng.randint(1, 5), rng.randint(1, 3), rng.randint(1, 3)
    limits, rows, columns = mask(rng, n1, n0)
    f = transfer(config, rng, rows, columns, spp, n2, nb) | limits | dict(
        abase=rng.choice([rng.randrange(1000), 65500]), spp=spp, ch0=rng.randrange(config.tn),
        nb=nb, cstep=rng.randrange(256), n2=n2, n1=n1, n0=n0,
        k2=rng.randrange(256), k1=rng.randrange(256), k0=4 if pack else rng.randrange(256),
        a2=rng.randrange(1 << 16), a1=rng.randrange(300),
        sd1=rng.randint(1, 3), sd0=1 if pack else rng.randint(1, 4),
        padneg=rng.randrange(2), pack=int(pack))
    if rng.random() < 0.15:
        f[rng.choice(["nb", "n2", "n1", "n0", "spp"])] = f["d_n1"] = 0
    # without effect
    return f | {name: rng.randrange(16) for name in ("v1", "v0", "u1", "u0", "x1", "x0")}


def random_unpool(config, rng):
    """Windows of a map of `rows` x `columns`, from any of them on, maybe some beyond its end."""
    v1, v0 = rng.choice([(2, 2), (3, 2), (2, 3), (1, 2), (3, 3)])
    u1, u0 = v1 + rng.choice([0, 0, 1, 2]), v0 + rng.choice([0, 0, 1, 3])
    n1, n0, n2, nb = rng.randint(1, 3), rng.randint(1, 4), rng.randint(1, 2), rng.randint(1, 2)
    x1, x0 = rng.randrange(u1), rng.randrange(u0)
    rows = max(1, n1 * u1 - x1 - rng.choice([0, 0, 1, 2, 5]))
    columns = max(1, n0 * u0 - x0 + rng.choice([0, 0, -1, -2, -4, 3]))
    spp = rng.randint(1, 3)
    limits, valid_rows, valid_columns = mask(rng, n1, n0)
    if rng.random() < 0.5:
        limits, valid_rows, valid_columns = dict(lo1=0, hi1=n1, lo0=0, hi0=n0), n1, n0
    size = config.beat_bytes
    return transfer(config, rng, valid_rows, valid_columns, spp, n2, nb) | limits | dict(
        t_base=TAGS + rng.randrange(1 << 12, 1 << 13, size), unpool=1, spp=spp, nb=nb, n2=n2,
        n1=n1, n0=n0, abase=rng.choice([rng.randrange(1000), 65500]), ch0=rng.randrange(config.tn),
        cstep=rng.randrange(256), k2=rng.randrange(256), k1=rng.randrange(256),
        k0=rng.randrange(256), a1=columns,
        a2=rows * columns - rng.choice([0, 0, 0, rng.randrange(columns)]), v1=v1, v0=v0, u1=u1,
        u0=u0, x1=x1, x0=x0, padneg=rng.randrange(2), pack=rng.randrange(2),
        sd1=rng.randint(1, 3), sd0=rng.randint(1, 3))


def fill(config, rng, data, special, taps):
    """Random features with special ones among them; from TAGS on, tags below `taps` or others."""
    width, man = config.elem_bytes, FORMATS[config.fmt][1]
    for place in range(0, len(data), width):
        word = int.from_bytes(data[place:place + width], "little")
        if place >= TAGS:
            tag = rng.randrange(taps) ^ (rng.choice([16, 32, 64]) if rng.random() < 0.1 else 0)
            word = word & ~(127 << man - 7) | tag << man - 7
        elif rng.random() < special:
            word = rng.choice([0, 255]) << man | rng.choice([0, rng.getrandbits(man)])
            word |= rng.randrange(2) << (8 * width - 1)
        data[place:place + width] = word.to_bytes(width, "little")


def arrivals(config, f, data, tags):
    """Per cycle of `reference`, when its beat is there; 0 if it needs none.

    `data` and `tags` give the cycles in which beats are handed over.
    """
    times = []
    per_beat = f["u1"] * f["u0"] if f.get("unpool") else 1
    for *_, valid in windows(f):
        time = next(data) if valid else 0
        if valid and f.get("unpool"):
            time = max(time, next(tags))
        times += [time] * per_beat
    return times or [0]


def run(config, instructions, seed, latency=1, stall=0.0, special=0.2, limit=20000, taps=9):
    """Execute `instructions`; compare events with `reference`, cycles with LoadUnit's formulas.

    Returns the memories behind `port` and `tags`, and per instruction (cycle offered, cycle
    accepted, [cycles in which its places pass]).
    """
    print("seed", seed)
    rng = random.Random(seed)
    memory = Memory(config, rng, latency=latency, stall=stall)
    fill(config, rng, memory.data, special, taps)
    other = Memory(config, random.Random(seed + 1), size=0, latency=latency + 2, stall=stall)
    other.data = memory.data
    dut = LoadUnit(config)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    events, handed, offers, accepts = [], {"port": [], "tags": []}, [], []

    async def observe(ctx):
        now, waiting = 0, False
        while True:
            _, _, en, addr, bank, beat, done, bad, active, valid, ready, data, tags = (
                await ctx.tick().sample(
                    dut.buf.en, dut.buf.addr, dut.buf.bank, dut.buf.data, dut.done, dut.nonfinite,
                    dut.active, dut.i.valid, dut.i.ready, dut.port.data.valid & dut.port.data.ready,
                    dut.tags.data.valid & dut.tags.data.ready))
            assert active == en
            if en:
                bits = config.elem_bits
                events.append((now, (addr, bank, [beat >> x * bits & (1 << bits) - 1
                                                  for x in range(config.beat_elems)])))
            if bad:
                events.append((now, BAD))
            if done:
                events.append((now, DONE))
            handed["port"] += [now] * data
            handed["tags"] += [now] * tags
            offers.extend([now] * (valid and not waiting))
            accepts.extend([now] * (valid and ready))
            waiting = valid and not ready
            now += 1

    async def wait(ctx):
        await watch(ctx, lambda: sum(e == DONE for _, e in events) >= len(instructions), limit)
        await ctx.tick().repeat(20)

    words = [encode(Unit.LOAD_A, **f) for f in instructions]
    items = [sum(w << 32 * i for i, w in enumerate(ws)) for ws in words]
    sim.add_testbench(partial(memory.serve_reads, port=dut.port), background=True)
    sim.add_testbench(partial(other.serve_reads, port=dut.tags), background=True)
    sim.add_testbench(observe, background=True)
    sim.add_testbench(partial(feed, stream=dut.i, items=items, rng=rng, stall=stall))
    sim.add_testbench(wait)
    sim.run()

    expected, stamps, earlier, last = [], [], [], -1
    data, tags = iter(handed["port"]), iter(handed["tags"])
    for f, offered in zip(instructions, offers, strict=True):
        cycles = reference(config, memory, f)
        accepted = offered
        if stamps:
            _, t, passed = stamps[-1]
            accepted = max(offered, t + len(passed) + 1, *(v + 1 for v in earlier[-3:-2]))
        passed = []
        for k, (arrived, what) in enumerate(zip(arrivals(config, f, data, tags), cycles,
                                                strict=True)):
            last = max(accepted + 3 + k, arrived and arrived + 5, last + 1)
            passed.append(last)
            earlier.append(last)
            expected += [(last, event) for event in what]
        expected.append((last, DONE))
        stamps.append((offered, accepted, passed))
    assert [event for _, event in events] == [event for _, event in expected]
    assert events == expected, "the right events in other cycles"
    assert accepts == [accepted for _, accepted, _ in stamps]
    assert next(data, None) is None and next(tags, None) is None
    return memory, other, stamps


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_random(name, stall):
    config = CONFIGS[name]
    seed = sorted(CONFIGS).index(name)
    rng = random.Random(seed)
    run(config, [random_instruction(config, rng) for _ in range(12)], seed, 5, stall)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_unpool(name, stall):
    """Alone and among other loads."""
    config = CONFIGS[name]
    seed = sorted(CONFIGS).index(name) + 100
    rng = random.Random(seed)
    run(config, [rng.choice([random_unpool, random_unpool, random_instruction])(config, rng)
                 for _ in range(12)], seed, 7, stall)


def plain(**changes):
    """16 pixels of one beat, 4 rows of 4, all valid, from one run."""
    return dict(d_base=0, d_len=16, d_n1=1, d_s1=0, d_n2=1, d_s2=0, d_n3=1, d_s3=0, abase=0, spp=1,
                ch0=0, nb=1, cstep=0, n2=1, n1=4, n0=4, k2=0, k1=0, k0=0, a2=0, a1=4, lo1=0, hi1=4,
                lo0=0, hi0=4, sd1=1, sd0=1, padneg=0, pack=0) | changes


def unpool(**changes):
    """2x3 windows with a stride of 3x4 on two images of 7 rows and 9 columns, from (-1, -2)."""
    return plain(n2=2, n1=3, n0=3, hi1=3, hi0=3, spp=2, d_len=18, d_n2=2, d_s2=512, t_base=TAGS,
                 unpool=1, v1=2, v0=3, u1=3, u0=4, x1=1, x0=2, a1=9, a2=63, k1=9, k0=1,
                 k2=3) | changes


def test_one_beat_per_cycle():
    f = plain(d_len=300, n0=30, n1=10, hi0=30, hi1=10, a1=30)
    *_, [(offered, _, passed)] = run(Config(), [f], 1, latency=12)
    assert passed == list(range(offered + 21, offered + 321))


def test_padding_takes_one_cycle_per_beat():
    f = plain(n0=12, n1=6, lo0=1, hi0=11, lo1=1, hi1=5, a1=12, spp=2, d_len=20, d_n1=4, d_s1=200)
    *_, [(_, accepted, passed)] = run(Config(), [f], 2, latency=1)
    assert passed == list(range(accepted + 3, accepted + 147))


def test_next_instruction_is_read_ahead():
    *_, stamps = run(Config(), [plain(d_len=32, d_base=256 * i, n1=8, hi1=8) for i in range(8)], 3,
                     latency=15)
    starts = [accepted for _, accepted, _ in stamps]
    assert starts[1] - starts[0] == 33 + 21  # memory is waited for once
    assert [b - a for a, b in zip(starts[1:], starts[2:], strict=False)] == [33] * 6


def test_windows_take_one_cycle_per_position():
    """The latency of memory shows once; gradients and tags of the next are read meanwhile."""
    *_, stamps = run(Config(), [unpool(), unpool(d_base=2048), unpool(), plain(), unpool()], 6,
                     latency=9)
    count = 2 * 3 * 3 * 2 * 12
    offered, _, passed = stamps[0]
    assert passed == list(range(offered + 9 + 11, offered + 9 + 11 + count))
    first, *_, last = [accepted for _, accepted, _ in stamps]
    assert last - first == 16 + 3 * (count + 1) + 18  # memory is waited for once


def test_masked_windows_need_no_beats():
    f = unpool(lo1=1, hi1=2, lo0=2, hi0=2, d_len=0)
    memory, other, [(_, accepted, passed)] = run(Config(), [f], 7)
    assert not memory.reads and not other.reads
    assert passed == list(range(accepted + 3, accepted + 3 + 432))


def test_large_windows():
    """All 121 tags; a stride of 15 makes many positions that never win."""
    f = unpool(n2=1, n1=1, n0=2, hi1=1, hi0=2, spp=1, d_len=2, d_n2=1, v1=11, v0=11, u1=15, u0=15,
               x1=14, x0=3, a1=27, a2=27)
    run(Config(), [f, f | dict(x1=0, a2=27 * 15)], 8, special=0, taps=121)


def test_map_ends_beyond_16_bits():
    """Rows and columns are compared before addresses wrap."""
    tall = unpool(n2=1, n1=5, n0=1, hi1=0, spp=1, d_len=0, u1=4, u0=1, v0=1, x1=0, x0=0, a1=4000,
                  a2=65535)
    wide = unpool(n2=1, n1=1, n0=1, hi1=0, spp=1, d_len=0, u1=3, v1=1, x1=0, x0=0, a1=40000,
                  a2=40001)
    run(Config(), [tall, wide], 9)


def test_tags_are_read_only_to_unpool():
    memory, other, _ = run(Config(), [plain(t_base=TAGS)], 10)
    assert memory.reads and not other.reads


def test_starts_quickly():
    *_, [(offered, accepted, passed)] = run(Config(), [plain(hi1=0, d_len=0)], 4)
    assert offered == accepted == 0
    assert passed == list(range(3, 19))


def test_empty_instruction_is_done():
    empty = [plain(d_len=0, **{name: 0}) for name in ("nb", "n2", "n1", "n0", "spp")]
    run(Config(), [*empty, plain(), *empty, unpool(n0=0, d_len=0), unpool(), unpool(nb=0, d_len=0)],
        5)


@pytest.mark.parametrize("block", [LoadUnit, Places])
def test_rejects(block):
    with pytest.raises(TypeError, match=r"^config must be a Config, not None$"):
        block(None)
