"""The assembler: tokens order what must be ordered; transfers; patches."""

import random
import struct
from collections import Counter

import pytest
from gradgate.hw.isa import BYTES, Unit, decode
from gradgate.program import Hazard, Program, runs
from hypothesis import given, settings
from hypothesis import strategies as st

UNITS = (Unit.LOAD_A, Unit.LOAD_B, Unit.COMPUTE, Unit.POST)


def decoded(program):
    data = program.assemble()
    words = struct.unpack(f"<{len(data) // 4}I", data)
    return [decode(words[i:i + 16]) for i in range(0, len(words), 16)]


def execute(instructions, rng):
    """Run the units in a random order that the tokens allow; returns [(start, end)] times."""
    queues = {u: [i for i, x in enumerate(instructions) if x["unit"] == u] for u in UNITS}
    tokens, running = Counter(), {}
    times, clock = [[None, None] for _ in instructions], 0
    while any(queues.values()):
        choices = []
        for unit, queue in queues.items():
            if unit in running:
                choices.append(("end", unit))
            elif queue:
                wait = instructions[queue[0]]["wait"]
                if all(tokens[other, unit] for other in UNITS if wait >> other & 1):
                    choices.append(("start", unit))
        assert choices, "deadlock"
        what, unit = rng.choice(choices)
        index, clock = queues[unit][0], clock + 1
        if what == "start":
            for other in UNITS:
                tokens[other, unit] -= instructions[index]["wait"] >> other & 1
            running[unit] = times[index][0] = clock
        else:
            queues[unit].pop(0)
            del running[unit]
            times[index][1] = clock
            for other in UNITS:
                tokens[unit, other] += instructions[index]["signal"] >> other & 1
    assert not any(tokens.values()), "tokens left"
    return times


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(UNITS), st.sets(st.integers(0, 5), max_size=3),
                          st.sets(st.integers(0, 5), max_size=2)), min_size=1, max_size=40),
       st.integers(0, 999))
def test_tokens_order_all_hazards(accesses, seed):
    program, hazards = Program(), [Hazard() for _ in range(6)]
    for unit, reads, writes in accesses:
        program.emit(unit, [hazards[i] for i in reads], [hazards[i] for i in writes])
    instructions = decoded(program)[:-1]
    rng = random.Random(seed)
    for _ in range(5):
        times = execute(instructions, rng)
        for later, (unit, reads, writes) in enumerate(accesses):
            for earlier, (other, read, written) in enumerate(accesses[:later]):
                if unit != other and (writes & (read | written) or reads & written):
                    assert times[earlier][1] < times[later][0], (earlier, later)


def test_inherited_hazards():
    program, old = Program(), Hazard()
    program.emit(Unit.LOAD_A, writes=[old])
    program.emit(Unit.COMPUTE, reads=[old])
    program.emit(Unit.POST, writes=[Hazard([old])])
    first, second, third, end = decoded(program)
    assert third["wait"] == 1 << Unit.LOAD_A | 1 << Unit.COMPUTE
    assert first["signal"] == 1 << Unit.COMPUTE | 1 << Unit.POST
    assert second["signal"] == 1 << Unit.POST
    assert end["unit"] == Unit.END


def test_no_token_where_one_is_implied():
    program, one, two = Program(), Hazard(), Hazard()
    program.emit(Unit.LOAD_B, writes=[one])
    program.emit(Unit.LOAD_B, writes=[two])
    program.emit(Unit.COMPUTE, reads=[one, two])
    program.emit(Unit.COMPUTE, reads=[one])
    assert [x["signal"] for x in decoded(program)] == [0, 1 << Unit.COMPUTE, 0, 0, 0]
    assert [x["wait"] for x in decoded(program)] == [0, 0, 1 << Unit.LOAD_B, 0, 0]


@st.composite
def transfers(draw):
    loops = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(-40, 40).map(lambda s: 8 * s)),
                          max_size=3))
    return loops, 8 * draw(st.integers(1, 9))


@given(transfers())
def test_runs_keep_the_order_of_beats(transfer):
    loops, length = transfer

    def beats(loops, count):
        found = [0]
        for n, stride in loops:
            found = [at + i * stride for at in found for i in range(n)]
        return [at + 8 * i for at in found for i in range(count)]

    merged, count = runs(loops, length, 8, 3)
    assert len(merged) == 3
    assert beats(merged, count) == beats(loops, length // 8)


def test_runs_merge():
    assert runs([(3, 800), (5, 80), (10, 8)], 8, 8, 2) == ([(3, 800), (1, 0)][::-1], 50)
    assert runs([(4, 1000), (3, 100)], 8, 8, 2) == ([(4, 1000), (3, 100)], 1)
    assert runs([(70000 // 2, 16), (2, 8)], 8, 8, 2) == ([(35000, 16), (1, 0)][::-1], 2)
    with pytest.raises(ValueError, match="3 strides, 2 are possible"):
        runs([(2, 1000), (3, 104), (2, 40)], 8, 8, 2)


def test_patches():
    program = Program()
    program.emit(Unit.POST, p0=3)
    program.emit(Unit.POST, patch="layer", p0=5)
    (offset, data), = program.patched({"layer": (0.25, 0.9, 0.1)})
    assert offset == BYTES
    fields = decode(struct.unpack("<16I", data))
    values = struct.unpack("<3f", struct.pack("<3I", *(fields[f"imm{i}"] for i in range(3))))
    assert values == struct.unpack("<3f", struct.pack("<3f", 0.25, 0.9, 0.1))
    assert fields["p0"] == 5
