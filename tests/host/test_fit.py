"""The search for a build: what it offers fits the chip, and nothing that was left out is faster."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from gradgate import fit as fitting
from gradgate.boards import MemoryTiming, board
from gradgate.errors import GradgateError, OutOfMemoryError, UnsupportedError
from gradgate.fit import DEPTHS, SHOWN, divisions, fit, least_cycles
from gradgate.graph import trace
from gradgate.nets import net
from gradgate.planning import plan
from gradgate.resources import CHIPS, LIMITS, Chip, resources, shortages
from torch import nn

SMALL = Chip("ecp5", 60_000, 100, 90)
NAMES = ("a_depth", "b_depth", "acc_depth")
SHAPE = (3, 9, 7)
ULX3S = board("ulx3s-85f")
# with wider beats, for which arrays have four rows at least
PROFILE = replace(ULX3S, config=replace(ULX3S.config, beat_bits=64))


def network():
    """Maps odd and not square, a stride, a pooling, three layers with weights."""
    return nn.Sequential(nn.Conv2d(3, 10, (3, 2), stride=(2, 1), padding=1), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Conv2d(10, 4, 1), nn.Flatten(), nn.Linear(32, 5))


def fits(config, chip=SMALL):
    return not shortages(resources(config, chip.technology), chip, LIMITS)


def depths(config):
    return tuple(getattr(config, name) for name in NAMES)


def test_divisions_fit_and_cannot_be_deeper():
    config = replace(PROFILE.config, tm=4, tn=16)
    found = divisions(config, SMALL)
    assert found
    for one in found:
        assert fits(one) and (one.tm, one.tn) == (4, 16)
        for name in NAMES:
            deeper = 2 * getattr(one, name)
            assert deeper > DEPTHS[-1] or not fits(replace(one, **{name: deeper}))
    # none is missing, and the first one has the deepest of the shallowest buffers
    builds = [replace(config, **dict(zip(NAMES, d, strict=True)))
              for d in product(DEPTHS, repeat=3)]
    for one in filter(fits, builds):
        assert any(all(x <= y for x, y in zip(depths(one), depths(other), strict=True))
                   for other in found)
        assert min(depths(one)) <= min(depths(found[0]))


def test_least_cycles_by_hand():
    """Vectors x blocks of 4 rows x sweeps of 8 lanes, in forward, dX, dW; no dX of the first."""
    def least(module, **timing):
        config = replace(PROFILE.config, tm=4, tn=8)
        return least_cycles(trace(module, torch.zeros(1, *SHAPE)), config, MemoryTiming(**timing),
                            4)

    # 5x8 outputs of 10 channels; of the thin input, both taps of a row share the lanes
    first = 160 * 3 * 3 + 20 * 3 * 18
    second = 32 * 1 * 2 + 32 * 3 * 1 + 4 * 1 * 10
    linear = 4 * 2 * 4 + 4 * 8 * 1 + 1 * 2 * 32
    assert least(network()) == first + second + linear
    # the convolution is not the first: of its 9 input rows, 4 meet two taps, 5 one
    pixels = 252 * 1 * 1 + 32 * 1 * 3
    strided = 160 * 3 * 6 + 4 * (4 * 2 + 5) * (7 * 2) * 1 * 2 + 20 * 3 * 18
    below = nn.Sequential(nn.Conv2d(3, 3, 1), *network())
    assert least(below) == pixels + strided + second + linear
    # a memory so slow that nothing else counts
    slow = least(below, beat_cycles=1000, shared=True)
    assert slow == 2 * least(below, beat_cycles=500, shared=True) > 100 * least(below)


@pytest.mark.parametrize("name, where, batch", [
    ("digits", "ulx3s-85f", 5), ("lenet10", "zcu102", 2), ("digits", "tiny", 1)])
def test_no_plan_is_faster_than_least_cycles(name, where, batch):
    module, shape = net(name)
    profile = board(where)
    traced = trace(module, torch.zeros(1, *shape))
    least = least_cycles(traced, profile.config, profile.timing, batch)
    assert 0 < least <= plan(module, shape, profile, batch).cycles


def search(monkeypatch, cycles, chip=SMALL, notify=lambda *news: None):
    """`fit` of `network` on a chip, with `cycles(config)` in place of plans; returns what it found
    and which builds it has looked at."""
    planned = []

    def fake(module, shape, profile, batch, momentum):
        planned.append(profile.config)
        return SimpleNamespace(cycles=cycles(profile.config))

    monkeypatch.setattr(fitting, "plan", fake)
    monkeypatch.setitem(CHIPS, "ulx3s-85f", chip)
    return fit(network(), SHAPE, PROFILE, 2, notify=notify), planned


def smooth(config):
    """Deeper buffers help, each to another degree, and less and less."""
    a, b, acc = depths(config)
    return 10_000_000 // (config.tm * config.tn) + 9_000_000 // a + 3_000_000 // b + 40_000 // acc


def lopsided(config):
    """Both tile buffers decide: the best build is two steps from the most even one."""
    return 1000 * config.tn + 10**12 // (config.a_depth * config.b_depth)


@pytest.mark.parametrize("cycles, chip", [
    (smooth, SMALL), (smooth, CHIPS["ulx3s-85f"]), (lopsided, SMALL)])
def test_the_search_finds_the_best_build(monkeypatch, cycles, chip):
    told = []
    found, planned = search(monkeypatch, cycles, chip, lambda *news: told.append(news))
    own = PROFILE.config
    everything = [one for tm, tn in product((4, 8, 16), (4, 8, 16, 32, 64)) if tm <= tn
                  for one in divisions(replace(own, tm=tm, tn=tn), chip)]
    assert found[0].cycles == min(map(cycles, [*everything, own]))
    assert {*planned} <= {*everything, own} and len(planned) == len({*planned})
    assert [one.cycles for one in found] == sorted(map(cycles, planned))[:SHOWN] + (
        [cycles(own)] if len(found) > SHOWN else [])
    assert own in [one.config for one in found]  # at the end, if it is not among the best
    for one in found:
        assert one.cycles == cycles(one.config)
        assert one.resources == resources(one.config, "ecp5")
        macs = 2 * (2 * 40 * 10 * 18 + 3 * 8 * 40 + 3 * 160)
        assert one.utilisation == macs / (one.cycles * one.config.tm * one.config.tn)
    assert [text for text, *_ in told] == [
        f"{one.tm}x{one.tn}, {'/'.join(map(str, depths(one)))}" for one in planned]
    assert all(done < total for _, done, total in told)


def test_arrays_that_cannot_win_are_not_planned(monkeypatch):
    """The array with the least bound reaches it: only it is planned, and the board's own build."""
    profile, traced = PROFILE, trace(network(), torch.zeros(1, *SHAPE))
    least = {(tm, tn): least_cycles(traced, replace(profile.config, tm=tm, tn=tn), profile.timing,
                                    2) for tm, tn in ((4, 4), (4, 8), (4, 16))}
    best = min(least, key=least.get)
    found, planned = search(
        monkeypatch, lambda config: least[best] if (config.tm, config.tn) == best else 10**9)
    assert found[0].cycles == least[best]
    assert {(one.tm, one.tn) for one in planned[:-1]} == {best} and planned[-1] == profile.config


def test_builds_that_cannot_run_the_network_are_left_out(monkeypatch):
    def cycles(config):
        if config.a_depth < 1024:
            raise UnsupportedError("too shallow")
        if config.tn != 8:
            raise OutOfMemoryError("too wide")
        return 10**9

    found, _ = search(monkeypatch, cycles)
    assert found and all(one.config.a_depth >= 1024 and one.config.tn == 8 for one in found)

    def none(config):
        raise UnsupportedError(f"never, not even on {config.tm}x{config.tn}")

    with pytest.raises(UnsupportedError, match="^never, not even on 8x16$"):
        search(monkeypatch, none)


def test_a_search_with_real_plans(monkeypatch):
    monkeypatch.setitem(CHIPS, "ulx3s-85f", SMALL)
    profile = PROFILE
    found = fit(network(), SHAPE, profile, 2)
    assert [one.cycles for one in found] == sorted(one.cycles for one in found)
    assert profile.config in [one.config for one in found] and len(found) >= 2
    for one in found:
        assert one.config == profile.config or fits(one.config)
        assert one.config.fmt == "bf16" and one.config.beat_bits == 64
        assert one.cycles == plan(network(), SHAPE, replace(profile, config=one.config), 2).cycles


def test_what_keeps_an_array_off_the_chip_is_said():
    module, shape = net("digits")
    with pytest.raises(GradgateError, match=r"^icebreaker has no room for an array of 2x4: .* "
                                            r"multipliers, there are 8"):
        profile = board("icebreaker")
        fit(module, shape, replace(profile, config=replace(profile.config, core="units")), 1)
    with pytest.raises(GradgateError, match="^no resources known of tiny; there are ulx3s-85f, "):
        fit(module, shape, board("tiny"), 1)
