# amaranth: UnusedElaboratable=no
"""hw/transfers.py: beats of every stream by docs/program.md, section 5, and what waits."""

import random
from functools import partial

import pytest
from amaranth.sim import Simulator
from gradgate.hw.config import Config
from gradgate.hw.isa import Unit, encode
from gradgate.hw.transfers import Transfers

from tests.hw.memory import collect
from tests.hw.posts import MODES, Layout, instruction, outputs, places
from tests.hw.test_dma import addresses

CONFIGS = [Config(tm=2, tn=4, beat_bits=32), Config(tm=8, tn=16, beat_bits=64),
           Config(tm=16, tn=16, fmt="fp32", beat_bits=128)]
STREAMS = ("src", "opd", "mom", "out", "aux")


def beats(config, runs):
    return [start + k for start, length in runs for k in range(0, length, config.beat_bytes)]


def expected(config, insn):
    """Addresses of all beats of each stream, in order."""
    pixels = insn["p2"] * insn["p1"] * insn["p0"]
    size = 4 if insn["src_fp32"] else config.elem_bytes
    source = [(insn["src_base"], pixels * config.tm * size)] if insn["src_mem"] else []
    operand = [(insn["imm2"], 4 * config.tm)] if insn["bias"] else []
    if insn["opd_add"] or insn["mask"] or insn["sgd"]:
        operand += places(config, insn, insn["opd_base"])
    momentum = places(config, insn, insn["aux_base"]) if insn["mom"] else []
    out, aux = outputs(config, insn)
    runs = source, operand, momentum, out, aux or []
    return {name: beats(config, r) for name, r in zip(STREAMS, runs, strict=True)}


def payload(insn):
    words = encode(Unit.POST, **{k: v for k, v in insn.items() if k != "unit"})
    return sum(w << 32 * k for k, w in enumerate(words))


def run(config, program, stall, alone):
    """{stream: descriptors} of each instruction; `alone(cycle)` since `accept`."""
    dut, rng = Transfers(config), random.Random(stall)
    taken = {name: [] for name in STREAMS}
    results = []

    async def testbench(ctx):
        await ctx.tick()
        for insn in program:
            ctx.set(dut.new, payload(insn))
            ctx.set(dut.accept, 1)
            await ctx.tick()
            ctx.set(dut.accept, 0)
            ctx.set(dut.new, rng.getrandbits(512))
            ctx.set(dut.words, payload(insn))
            cycle = 1
            while ctx.get(dut.busy):
                ctx.set(dut.alone, alone(cycle))
                await ctx.tick()
                cycle += 1
                assert cycle < 2000
            results.append({name: list(descriptors) for name, descriptors in taken.items()})
            for descriptors in taken.values():
                descriptors.clear()
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    for name in STREAMS:
        sim.add_testbench(partial(collect, stream=getattr(dut, name), items=taken[name], rng=rng,
                                  stall=stall), background=True)
    sim.add_testbench(testbench)
    sim.run()
    return results


def fields(descriptor):
    return {name: getattr(descriptor, name)
            for name in ("base", "len", "n1", "s1", "n2", "s2", "n3", "s3")}


@pytest.mark.parametrize("stall", [0.0, 0.6])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_beats(config, stall):
    rng = random.Random(5)
    layout = Layout(config)
    program = [instruction(config, layout, mode, shape)
               for mode in MODES for shape in [(2, 3, 5), tuple(rng.choices([1, 2, 7], k=3))]]
    program += [insn | {"p1": 0, "o_n1": 0} for insn in program[-4:]]
    results = run(config, program, stall, lambda cycle: 1)
    for insn, result in zip(program, results, strict=True):
        got = {name: [a for d in descriptors for a in addresses(config, fields(d))]
               for name, descriptors in result.items()}
        assert got == expected(config, insn)
        assert len(result["out"]) == len(result["aux"]) == 1


@pytest.mark.parametrize("mode", ["compute_copy", "memory_sum", "update_from_memory", "masked"])
def test_what_waits_to_be_alone(mode):
    """Results of instructions before are not read before `alone`; anything else at once."""
    config = CONFIGS[1]
    insn = instruction(config, Layout(config), mode, (1, 2, 5))
    dut, early, late = Transfers(config), set(), set()

    async def testbench(ctx):
        ctx.set(dut.new, payload(insn))
        ctx.set(dut.words, payload(insn))
        ctx.set(dut.accept, 1)
        await ctx.tick()
        ctx.set(dut.accept, 0)
        for seen, alone in ((early, 0), (late, 1)):
            ctx.set(dut.alone, alone)
            seen.update(name for name in STREAMS if ctx.get(getattr(dut, name).valid))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()
    waiting = {"compute_copy": {"src"}, "memory_sum": {"src", "opd"},
               "update_from_memory": {"src"}, "masked": set()}[mode]
    assert not early & waiting
    assert late == early | waiting
    at_once = {"opd"} if mode in ("masked", "update_from_memory") else set()
    assert early >= {"out", "aux"} | at_once


def test_config_is_checked():
    with pytest.raises(TypeError, match=r"^config must be a Config, not 64$"):
        Transfers(64)
