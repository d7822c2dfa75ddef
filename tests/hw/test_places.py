# amaranth: UnusedElaboratable=no
"""hw/places.py: every place of the loops of docs/program.md, section 3, and their cycles."""

import random
from functools import partial
from itertools import product

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import FORMATS, Config
from gradgate.hw.isa import LOAD, Unit, encode
from gradgate.hw.places import Places

from tests.hw.memory import collect, feed, stands, watch

CONFIGS = {
    "bf16 64": Config(tm=8, tn=16),
    "bf16 32, 4 lanes": Config(tm=4, tn=4, beat_bits=32),
    "fp32 128, 32 lanes": Config(tm=4, tn=32, fmt="fp32", beat_bits=128),
    "fp32 32": Config(tm=4, tn=8, fmt="fp32", beat_bits=32),
}
SIZES = ("nb", "n2", "n1", "n0", "spp")
NOTHING = {"last": 1, "write": 0, "wanted": 0}


def reference(config, f):
    """The places of one instruction, each with those of its fields that matter.

    `address` is that of the word. Where nothing is written it does not matter, nor do `bank` and
    `padding`; what is to be done with a beat (`take`, `select`) does where it is wanted, `live`
    with `select`, `tap` with `live`.
    """
    bits, man = FORMATS[config.fmt]
    lowest = (1 << bits) - 1 - (1 << man)
    found = []
    for b, i2, i1, i0, s, j1, j0 in product(*(range(f[name]) for name in SIZES),
                                            range(f["u1"] if f["unpool"] else 1),
                                            range(f["u0"] if f["unpool"] else 1)):
        wanted = f["lo1"] <= i1 < f["hi1"] and f["lo0"] <= i0 < f["hi0"]
        channel = f["ch0"] + b * f["cstep"] + s * config.beat_elems
        address, skew = f["abase"] + i2 * f["a2"], i2 * f["k2"]
        inside, padding = True, 0
        if f["unpool"]:
            r, c = i1 * f["u1"] + j1 - f["x1"], i0 * f["u0"] + j0 - f["x0"]
            inside = r >= 0 and c >= 0 and c < f["a1"] and r * f["a1"] < f["a2"]
            address += r * f["a1"] + c
            skew += r * f["k1"] + c * f["k0"]
        else:
            address += i1 * f["a1"] + (i0 // (config.tn // 4) if f["pack"] else i0)
            skew += i1 // f["sd1"] * f["k1"] + i0 // f["sd0"] * f["k0"]
            padding = lowest if f["padneg"] else 0
        place = {"last": 0, "write": inside, "wanted": wanted}
        if inside:
            place |= {"address": address % 65536, "bank": (skew + channel) % config.tn,
                      "padding": padding}
        if wanted:
            end = not f["unpool"] or (j1, j0) == (f["u1"] - 1, f["u0"] - 1)
            place |= {"take": end, "select": f["unpool"]}
        if wanted and f["unpool"]:
            place["live"] = j1 < f["v1"] and j0 < f["v0"]
            if place["live"]:
                place["tap"] = j1 * f["v0"] + j0
        found.append(place)
    found = found or [dict(NOTHING)]
    found[-1]["last"] = 1
    return found


def observed(place):
    """What `reference` makes, of a payload."""
    names = ["last", "write", "wanted"]
    if place.write:
        names += ["bank", "padding"]
    if place.wanted:
        names += ["take", "select"]
    if place.wanted and place.select:
        names += ["live", *["tap"] * place.live]
    found = {name: place[name] for name in names}
    return found | {"address": (place.base + place.offset) % 65536} if place.write else found


def instruction(**fields):
    """The fields that say something of places, one place unless changed."""
    return dict(abase=0, ch0=0, cstep=0, k2=0, k1=0, k0=0, a2=0, a1=0, lo1=0, hi1=65535, lo0=0,
                hi0=65535, sd1=1, sd0=1, padneg=0, pack=0, unpool=0, v1=0, v0=0, u1=0, u0=0, x1=0,
                x0=0) | dict.fromkeys(SIZES, 1) | fields


def random_sizes(rng, limit):
    """Counts of the loops, in random order small and large, with a product of `limit` at most."""
    sizes, left = {}, limit
    for name in rng.sample(SIZES, len(SIZES)):
        sizes[name] = rng.randint(1, min(left, LOAD[name].range[1], rng.choice([1, 3, 7, limit])))
        left //= sizes[name]
    return sizes


def random_instruction(rng, unpool):
    """Any values of the fields, but limits of the valid rows and columns that are mostly met; a
    map whose end is mostly met."""
    f = {name: rng.randint(*LOAD[name].range) for name in instruction()}
    f["unpool"] = unpool
    for name in ("abase", "a2", "a1"):
        f[name] = rng.choice([f[name], rng.randrange(100)])
    f |= random_sizes(rng, 20 if unpool else 60)
    for size, axis in ((f["n1"], "1"), (f["n0"], "0")):
        f |= {"lo" + axis: rng.choice([0, rng.randint(0, size)]),
              "hi" + axis: rng.choice([size, rng.randint(0, size + 2), 65535])}
    if not unpool:
        for name in ("sd1", "sd0"):
            f[name] = rng.choice([1, rng.randint(1, 3), rng.randint(1, 255)])
        return f
    for axis in "10":
        u = rng.choice([1, 2, rng.randint(1, 5), rng.randint(1, 15)])
        f |= {"u" + axis: u, "v" + axis: rng.randint(1, u), "x" + axis: rng.randrange(u)}
    columns, rows = (f["n" + axis] * f["u" + axis] - f["x" + axis] for axis in "01")
    if rng.random() < 0.8:
        f["a1"] = max(1, columns + rng.randint(-4, 2))
        f["a2"] = max(0, (rows + rng.randint(-4, 2)) * f["a1"] - rng.choice([0, 1]))
    return f


def run(config, instructions, seed, stall=0.0):
    """Compare all places of `instructions` with `reference`.

    Returns (cycle in which each instruction is accepted, cycles in which each place is handed
    over).
    """
    print("seed", seed)
    rng = random.Random(seed)
    dut = Places(config)
    got, stamps, accepts = [], [], []
    expected = [place for f in instructions for place in reference(config, f)]

    async def observe(ctx):
        now = 0
        while True:
            _, _, valid, ready = await ctx.tick().sample(dut.i.valid, dut.i.ready)
            accepts.extend([now] * (valid and ready))
            now += 1

    async def wait(ctx):
        await watch(ctx, lambda: len(got) >= len(expected), 20000)
        await ctx.tick().repeat(20)  # for places too many

    words = [encode(Unit.LOAD_B, **f) for f in instructions]
    items = [sum(w << 32 * i for i, w in enumerate(ws)) for ws in words]
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(observe, background=True)
    sim.add_testbench(partial(stands, valid=dut.o.valid, ready=dut.o.ready,
                              payload=[dut.o.payload.as_value()]), background=True)
    sim.add_testbench(partial(collect, stream=dut.o, items=got, rng=rng, stall=stall,
                              stamps=stamps), background=True)
    sim.add_testbench(partial(feed, stream=dut.i, items=items, rng=rng, stall=stall))
    sim.add_testbench(wait)
    sim.run()
    for number, (place, wanted) in enumerate(zip(got, expected, strict=False)):
        assert observed(place) == wanted, number
    assert len(got) == len(expected)
    return accepts, stamps


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("unpool", [0, 1])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_random_loops(name, unpool, stall):
    """Alone, and now and then after loops of the other kind."""
    rng = random.Random(f"{name} {unpool}")
    program = [random_instruction(rng, unpool ^ (rng.random() < 0.2)) for _ in range(10)]
    run(CONFIGS[name], program, 11, stall)


def test_every_loop_as_long_as_its_field_allows():
    """Or 300 times, where that is 65,535."""
    config = CONFIGS["bf16 64"]
    counts = {"nb": 255, "n2": 300, "n1": 300, "n0": 300, "spp": 255}
    base = instruction(k2=3, k1=5, k0=7, a2=1000, a1=900, cstep=9, sd1=255, sd0=7)
    run(config, [base | {name: count} for name, count in counts.items()], 1)


def test_windows_of_all_strides_and_kernels():
    config = CONFIGS["fp32 32"]
    program = []
    for u in range(1, 16):
        v = min(u, 11)
        program.append(instruction(unpool=1, n0=3, hi0=2, u0=u, v0=v, x0=u - 1, u1=1, v1=1,
                                   a1=2 * u, a2=2 * u, k0=1, k1=u))
        program.append(instruction(unpool=1, n1=3, hi1=2, u1=u, v1=v, x1=u - 1, u0=1, v0=1, a1=1,
                                   a2=2 * u, k0=1, k1=u))
    run(config, [*program, instruction(unpool=1, u1=15, u0=15, v1=11, v0=11, a1=20, a2=300)], 2)


def test_a_map_ends_where_addresses_have_wrapped():
    """Rows that begin beyond 65,535 words are outside, however far the sum has gone round."""
    run(CONFIGS["bf16 64"], [instruction(unpool=1, n1=6, u1=15, u0=1, v1=1, v0=1, a1=a1, a2=65535)
                             for a1 in (4001, 32768, 65535)], 3)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("unpool", [0, 1])
def test_no_places_make_one_that_writes_nothing(name, unpool):
    some = instruction(n1=2, n0=3, u1=2, u0=2, v1=2, v0=1, a1=9, a2=90, unpool=unpool)
    none = some | {name: 0}
    assert reference(CONFIGS["bf16 64"], none) == [NOTHING]
    run(CONFIGS["bf16 64"], [none, some, none, none, some | {"unpool": 1 - unpool}], 4, 0.5)


def test_one_place_per_cycle():
    """The first one 2 cycles after its instruction; that of the next is accepted after the last."""
    config = CONFIGS["bf16 64"]
    rng = random.Random(5)
    program = [random_instruction(rng, unpool) for unpool in (0, 1, 1, 0, 0)]
    program.insert(2, instruction(n0=0))
    accepts, stamps = run(config, program, 5)
    counts = [len(reference(config, f)) for f in program]
    now, expected = accepts[0], []
    for accepted, count in zip(accepts, counts, strict=True):
        assert accepted == now
        expected += range(now + 2, now + 2 + count)
        now += count + 1
    assert stamps == expected


def test_random_instructions_meet_what_matters():
    """Padding, places outside, taps that cannot win, several rounds of every loop."""
    rng = random.Random(6)
    program = [random_instruction(rng, unpool) for unpool in (0, 1) for _ in range(80)]
    places = [place for f in program for place in reference(CONFIGS["bf16 64"], f)]
    for name in ("write", "wanted", "take", "live"):
        assert {False, True} <= {place[name] for place in places if name in place}, name
    assert len({place["tap"] for place in places if "tap" in place}) > 20
    assert all(any(f[name] > 1 for f in program) for name in SIZES)


def test_config_is_checked():
    with pytest.raises(TypeError, match=r"^config must be a Config, not 64$"):
        Places(64)
