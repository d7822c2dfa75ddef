"""The course of a program: what follows what, and that every prediction is a possible one."""

import gradgate
import numpy as np
import pytest
import torch
from gradgate.boards import MemoryTiming, board
from gradgate.device import UNITS
from gradgate.durations import Machine
from gradgate.hw.config import Config
from gradgate.hw.isa import Unit
from gradgate.program import Hazard, Program
from gradgate.sim.model import ModelDevice
from gradgate.timeline import QUEUE, entries, predict
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from tests.host.nets import CONFIGS, networks
from tests.host.test_order import programs

PORTS = Config(tm=4, tn=8, fmt="fp32", beat_bits=128, max_burst=16, read_ports=3, write_ports=2)
ONE = Config(tm=4, tn=8, fmt="fp32", beat_bits=128, max_burst=16)
PLAIN = MemoryTiming(latency=10)
BEATS = 4  # of an instruction


def load(beats=0, padding=0):
    """Fields of a LOAD: contiguous beats, and so many places of padding."""
    return {"nb": 1, "n2": 1, "n1": 1, "n0": beats + padding, "spp": 1, "d_len": beats,
            "d_n1": 1, "d_s1": 0, "d_n2": 1, "d_s2": 0, "d_n3": 1, "d_s3": 0}


def compute(sweeps, vectors):
    return {"dw": 0, "ng": sweeps, "t1": 1, "t0": 1, "q2": 1, "q1": 1, "q0": vectors}


def post(vectors, **fields):
    return {"p2": 1, "p1": 1, "p0": vectors, "w1": 1, "w0": 1, "out_base": 0, "o_len": vectors,
            "o_n1": 1, "o_s1": 0, "o_n2": 1, "o_s2": 0, **fields}


def run(*instructions, config=PORTS, timing=PLAIN):
    """Prediction of (unit, fields, reads, writes), with names for what is read and written."""
    program, hazards = Program(), {}
    for unit, fields, *touched in instructions:
        reads, writes = ([hazards.setdefault(name, Hazard()) for name in names]
                         for names in [*touched, "", ""][:2])
        program.emit(unit, reads, writes, **fields)
    return predict(program, config, timing)


def column(prediction, unit, name):
    return prediction.records[unit.name][name].astype(np.int64).tolist()


def starts(prediction, unit):
    return column(prediction, unit, "start")


def done(prediction, unit):
    return column(prediction, unit, "done")


# COMPUTE


def test_computes_follow_without_a_gap():
    """Each is accepted with the first vector of the last sweep before, and hides its fill."""
    found = run(*[(Unit.COMPUTE, compute(3, 200))] * 4)
    machine = Machine(PORTS, PLAIN)
    first = starts(found, Unit.COMPUTE)[0] + machine.sweeps(compute(3, 200)).fill
    assert done(found, Unit.COMPUTE) == [
        first + 600 * n - 1 + machine.compute_latency for n in (1, 2, 3, 4)]
    assert starts(found, Unit.COMPUTE)[1:] == [first + 600 * n - 200 for n in (1, 2, 3)]
    assert column(found, Unit.COMPUTE, "active") == [600] * 4


def test_a_short_last_sweep_waits_for_the_next_tile():
    """An instruction of one vector is followed by the fill of the next one, not by its vector."""
    wide = Config(tm=64, tn=64, fmt="bf16", beat_bits=64)
    found = run(*[(Unit.COMPUTE, compute(4, 80)), (Unit.COMPUTE, compute(1, 1))], config=wide)
    first, second = done(found, Unit.COMPUTE)
    assert second - first == 1  # during 80 vectors 64 rows are read
    found = run(*[(Unit.COMPUTE, compute(4, 10)), (Unit.COMPUTE, compute(1, 1))], config=wide)
    first, second = done(found, Unit.COMPUTE)
    # accepted with the first vector of a sweep of ten, its vector comes Tm + 1 later
    assert second - first == 64 - 10 + 2


# LOAD


def test_loads_without_memory():
    """N + 1 cycles from one accepted to the next, N + 2 from accepted to done (hw/load.py)."""
    found = run(*[(Unit.LOAD_A, load(padding=300))] * 5)
    begun = starts(found, Unit.LOAD_A)
    assert np.diff(begun).tolist() == [301] * 4
    assert done(found, Unit.LOAD_A) == [start + 302 for start in begun]


def test_the_first_load_shows_latency_and_the_next_ones_do_not():
    near, far = (done(run(*[(Unit.LOAD_A, load(300))] * 5, timing=MemoryTiming(latency=n)),
                      Unit.LOAD_A) for n in (10, 38))
    assert far[0] - near[0] == 56  # the program and the data are both a latency later
    # the last command is out 48 places before the end: as long as a read takes, but no longer
    assert np.diff(far).tolist() == [301] * 4
    farther = done(run(*[(Unit.LOAD_A, load(300))] * 5, timing=MemoryTiming(latency=58)),
                   Unit.LOAD_A)
    assert np.diff(farther).tolist() == [321] * 4


def test_padding_that_comes_first_hides_latency():
    """Of 200 places of latency, 90 are padding before the first beat; behind it, it hides none."""
    timing = MemoryTiming(latency=200)
    plain, first = (done(run((Unit.LOAD_A, {**load(300, padding=90), "lo0": lo}), timing=timing),
                         Unit.LOAD_A)[0] for lo in (0, 90))
    assert plain - first == 90


def test_short_loads_show_latency_in_pairs():
    """The second one of a pair is read while the first one waits; the next pair after that."""
    timing = MemoryTiming(latency=110)
    found = done(run(*[(Unit.LOAD_A, load(40))] * 8, timing=timing), Unit.LOAD_A)
    assert np.diff(found)[::2].tolist() == [41] * 4
    latency = Machine(PORTS, timing).read_latency
    pairs = np.diff(found[1::2])
    assert all(latency + 40 < gap < latency + 50 for gap in pairs)


def test_a_slow_memory_sets_the_pace():
    found = run(*[(Unit.LOAD_A, load(400))] * 3, timing=MemoryTiming(beat_cycles=3))
    assert np.diff(done(found, Unit.LOAD_A)) == pytest.approx(1200, abs=10)


def test_refresh_takes_its_part():
    timing = MemoryTiming(beat_cycles=2, refresh_interval=100, refresh_cycles=20)
    found = run(*[(Unit.LOAD_A, load(400))] * 3, timing=timing)
    assert np.diff(done(found, Unit.LOAD_A)) == pytest.approx(800 / 0.8, abs=10)


def test_loads_share_a_channel_equally():
    alone = run((Unit.LOAD_A, load(4000)), config=ONE)
    both = run((Unit.LOAD_A, load(4000)), (Unit.LOAD_B, load(4000)), config=ONE)
    apart = run((Unit.LOAD_A, load(4000)), (Unit.LOAD_B, load(4000)))
    once = done(alone, Unit.LOAD_A)[0]
    assert once == pytest.approx(4000, rel=0.02)
    for unit in (Unit.LOAD_A, Unit.LOAD_B):
        assert done(both, unit)[0] == pytest.approx(8000, rel=0.02)
        assert done(apart, unit)[0] == pytest.approx(once, abs=10)


def test_who_wants_less_than_a_share_has_it():
    """A LOAD of mostly padding wants a quarter of the channel, the other one has three."""
    found = run((Unit.LOAD_A, load(2000, padding=6000)), (Unit.LOAD_B, load(6000)), config=ONE)
    assert done(found, Unit.LOAD_A)[0] == pytest.approx(8000, rel=0.01)
    assert done(found, Unit.LOAD_B)[0] == pytest.approx(8000, rel=0.01)


def test_a_channel_is_free_again_when_a_transfer_ends():
    """1000 beats of each side by side, then 3000 of one alone."""
    found = run((Unit.LOAD_A, load(1000)), (Unit.LOAD_B, load(4000)), config=ONE)
    assert done(found, Unit.LOAD_A)[0] == pytest.approx(2000, rel=0.05)
    assert done(found, Unit.LOAD_B)[0] == pytest.approx(5000, rel=0.02)
    assert found.cycles == done(found, Unit.LOAD_B)[0] + 5


def test_a_short_queue_leaves_less_to_short_bursts():
    """Four bursts of 16 and four of 2 beats in one of eight; of 25 in a longer one."""
    short = load(4000) | {"d_len": 2, "d_n1": 2000, "d_s1": 64}
    took = [done(run((Unit.LOAD_A, load(8000)), (Unit.LOAD_B, short), config=ONE,
                     timing=MemoryTiming(latency=1, outstanding=count)), Unit.LOAD_B)[0]
            for count in (8, 64)]
    assert took == [pytest.approx(4000 * (64 + 50) / 50, rel=0.01) if count == 64 else
                    pytest.approx(8000 + 4000, rel=0.01) for count in (8, 64)]


# POST


def test_a_post_of_nothing():
    """Has an end, and does not hold up what follows."""
    found = run((Unit.POST, post(0)), (Unit.POST, post(0, o_n1=0)), (Unit.POST, post(4)))
    assert np.diff(starts(found, Unit.POST)).tolist() == [BEATS + 3] * 2


def test_a_post_ends_with_its_last_burst():
    """Of 12 vectors more, in one burst: each enters the pipeline, the port, and memory."""
    short, long = (done(run((Unit.POST, post(n))), Unit.POST)[0] for n in (4, 16))
    assert long - short == 3 * 12


def test_posts_follow_while_memory_takes_results():
    found = run(*[(Unit.POST, post(500))] * 3)
    took = done(found, Unit.POST)[0] - starts(found, Unit.POST)[0]
    pace = np.diff(starts(found, Unit.POST))
    assert all(500 <= gap < 510 for gap in pace)
    assert took > 500 + Machine(PORTS, PLAIN).write_latency()


def test_posts_with_an_operand_show_the_latency_of_reads():
    plain, masked = (run(*[(Unit.POST, post(500, **fields))] * 3) for fields in ({}, {"mask": 1}))
    more = np.diff(starts(masked, Unit.POST)) - np.diff(starts(plain, Unit.POST))
    latency = Machine(PORTS, PLAIN).read_latency
    assert all(0 < gap <= latency for gap in more)


WIDE = Config(tm=8, tn=8, fmt="fp32", beat_bits=64, max_burst=16, read_ports=3, write_ports=2)


@pytest.mark.parametrize("config, fields, addresses", [
    (PORTS, {}, [11, 12]), (WIDE, {"p0": 4}, [0, 4, 8, 12]),
    (WIDE, {"p0": 3, "pool": 1, "w1": 2, "w0": 3}, range(18))])
def test_the_drain_reads_all_of_a_short_post_at_once(config, fields, addresses):
    """While its operands come: the first address two cycles after the start, the next POST two
    after the last. A group of vectors, of four beats in WIDE, has one address per window."""
    fields = {"mask": 1, "o_len": 16 if config is WIDE else 13, **fields}
    slow = MemoryTiming(latency=50)
    found = run(*[(Unit.POST, post(13, **fields))] * 2, config=config, timing=slow)
    (gap,) = np.diff(starts(found, Unit.POST))
    offered = 64 // config.beat_bytes + 3
    assert gap == max(2 + addresses[-1] + 2, offered)


@pytest.mark.parametrize("vectors, wait", [(16, 0), (17, 1)])
def test_the_drain_has_room_for_16_vectors(vectors, wait):
    """One more waits for the first one to go."""
    machine = Machine(PORTS, PLAIN)
    found = run(*[(Unit.POST, post(vectors, mask=1))] * 2)
    at_once = 2 + vectors - 1 + 2
    assert np.diff(starts(found, Unit.POST)).tolist() == [
        machine.read_latency + vectors - 14 if wait else at_once]


def test_windows_that_the_drain_has_no_room_for():
    """Each of five has six addresses, which make four vectors: while the operands come from a slow
    memory the next is accepted when 14 vectors are still to come."""
    slow = MemoryTiming(latency=50)
    items = [(Unit.POST, post(5, mask=1, pool=1, w1=2, w0=3, o_len=20))] * 5
    found = run(*items, config=WIDE, timing=slow)
    took = Machine(WIDE, slow).read_latency + 5 * 6 - 14 * 6 // 4
    assert np.diff(starts(found, Unit.POST))[-1] == took


def test_a_post_waits_for_the_turn_of_the_one_before():
    """The second of three is short; its vectors have their turn when those of the first are out."""
    found = run((Unit.POST, post(100, mask=1)), *[(Unit.POST, post(4, mask=1))] * 2)
    first, _, third = starts(found, Unit.POST)
    last = first + Machine(PORTS, PLAIN).read_latency + 100 - 1
    assert third == last + 2 + 1


def test_a_bias_has_its_turn_when_it_has_come():
    machine = Machine(PORTS, PLAIN)
    found = run(*[(Unit.POST, post(4, bias=1))] * 2)
    assert np.diff(starts(found, Unit.POST)).tolist() == [machine.post(post(4, bias=1)).lead + 1]


def test_what_is_accepted_early_gives_no_tokens_before_their_time():
    """Of short POSTs that wait for a slow memory one is accepted while another waits; that does
    not let others take what is not there yet."""
    found = run((Unit.COMPUTE, compute(1, 137), "", "x"), *[(Unit.POST, post(12, mask=1))] * 9,
                (Unit.LOAD_A, load(padding=50), "x"), *[(Unit.POST, post(12, mask=1))] * 2,
                timing=MemoryTiming(latency=50))
    assert starts(found, Unit.LOAD_A)[0] > done(found, Unit.COMPUTE)[0]


def test_who_waits_for_a_writer_is_not_delayed_by_others():
    config = Config(tm=4, tn=8, fmt="fp32", beat_bits=128, max_burst=16, read_ports=3)
    slow, fields = MemoryTiming(latency=10, beat_cycles=4), {"mask": 1, "tags": 1, "pool": 1}
    one = [(Unit.POST, post(512, **fields))]
    other = [(Unit.LOAD_A, load(padding=2600)), (Unit.LOAD_A, load(beats=10))]
    alone, beside = (run(*items, config=config, timing=slow) for items in (one, other + one))
    assert done(beside, Unit.POST) == done(alone, Unit.POST)


def test_a_refresh_closes_a_row_only_for_who_is_alone():
    """Among others each burst opens a row anyway."""
    rows = {"latency": 10, "row_bytes": 1 << 20, "row_cycles": 9}
    lost = {}
    for name, other in (("alone", []), ("among", [(Unit.LOAD_B, load(6000))])):
        took = [done(run((Unit.LOAD_A, load(6000)), *other, config=ONE,
                         timing=MemoryTiming(**rows, **more)), Unit.LOAD_A)[0]
                for more in ({}, {"refresh_interval": 1000, "refresh_cycles": 20})]
        lost[name] = (took[1] - took[0]) / took[1]
    assert lost["alone"] == pytest.approx(0.029, abs=0.003)
    assert lost["among"] == pytest.approx(0.020, abs=0.003)


def test_vectors_run_ahead_of_a_slow_memory():
    """At half the pace of the vectors, memory sets that of a row of POSTs; the first is through
    with its vectors when all but the four bursts of 16 beats that a writer holds are in memory. The
    drain has gone on meanwhile, so the next one is accepted earlier."""
    slow = MemoryTiming(latency=10, beat_cycles=2)
    found = run(*[(Unit.POST, post(512))] * 6, timing=slow)
    first, *_ = begun = starts(found, Unit.POST)
    assert np.diff(begun)[1:].tolist() == [2 * 512] * 4
    assert np.diff(done(found, Unit.POST)).tolist() == [2 * 512] * 5
    machine = Machine(PORTS, slow)
    through = machine.post(post(512)).lead + 2 * 16 + 2 * 512 - 4 * 16 * 2
    assert begun[1] - first == through - 14  # vectors of the drain's 16


def test_what_a_writer_holds_does_not_hold_up_vectors():
    """Short POSTs a while apart: memory of half the pace ends later, the vectors do not."""
    items = []
    for number in range(4):
        items += [(Unit.COMPUTE, compute(1, 400), [], [f"x{number}"]),
                  (Unit.POST, post(48), [f"x{number}"], [])]
    fast, slow = (run(*items, timing=MemoryTiming(latency=10, beat_cycles=b)) for b in (1, 2))

    def late(unit, column):
        return np.subtract(column(slow, unit), column(fast, unit)).tolist()

    fetched = late(Unit.POST, starts)  # the program comes at half the pace as well
    assert all(0 <= cycles <= 8 for cycles in fetched)
    assert late(Unit.POST, done) == [cycles + 48 for cycles in fetched]


def test_posts_complete_in_order():
    """A short one behind a long one is not done before it, whatever its tail; nor in its cycle."""
    apart = {"o_len": 1, "o_n1": 3, "o_s1": 4096}
    for beat in (1, 1.5, 3.5):
        for shared in (False, True):
            timing = MemoryTiming(latency=1, beat_cycles=beat, shared=shared)
            found = run(*[(Unit.POST, post(16)), (Unit.POST, post(3, **apart))] * 4, timing=timing)
            assert (np.diff(done(found, Unit.POST)) > 0).all(), timing


# tokens, queues, fetch


def test_a_token_is_of_use_four_cycles_later():
    found = run((Unit.LOAD_A, load(padding=1000), "", "a"), (Unit.COMPUTE, compute(2, 300), "a"),
                (Unit.LOAD_B, load(padding=50), "", "b"), (Unit.COMPUTE, compute(2, 300), "b"))
    loaded, first = done(found, Unit.LOAD_A)[0], starts(found, Unit.COMPUTE)[0]
    assert first == loaded + 4
    waited, more = column(found, Unit.COMPUTE, "starved")
    assert 0 < loaded - waited < 100 and more == 0


def test_results_are_drained_after_they_are_there():
    found = run((Unit.COMPUTE, compute(2, 300), "", "x"), (Unit.POST, post(300), "x", "y"),
                (Unit.COMPUTE, compute(2, 300), "", "x"))
    ended, again = done(found, Unit.COMPUTE)
    assert starts(found, Unit.POST) == [ended + 4]
    assert starts(found, Unit.COMPUTE)[1] == done(found, Unit.POST)[0] + 4
    assert again > done(found, Unit.POST)[0] + 600


def test_a_full_queue_holds_up_what_is_behind_it():
    """One LOAD_A under way and a queue of them: the LOAD_B behind comes through when one has been
    accepted; one LOAD_A less, and it comes at once."""
    slow = [(Unit.LOAD_A, load(padding=2000))]
    free = run(*slow * (QUEUE + 1), (Unit.LOAD_B, load(padding=9)))
    held = run(*slow * (QUEUE + 2), (Unit.LOAD_B, load(padding=9)))
    assert starts(free, Unit.LOAD_B)[0] < 200
    assert starts(held, Unit.LOAD_B)[0] > starts(held, Unit.LOAD_A)[1] > 2000


def test_tiny_instructions_are_fetched_at_a_beat_per_cycle():
    count = 400
    found = run(*[(Unit.LOAD_A, load(padding=1)), (Unit.LOAD_B, load(padding=1))] * (count // 2))
    assert found.cycles > count * BEATS
    assert found.cycles < count * BEATS * 1.2 + 100
    # with a long latency, the fetch has so many beats under way and no more
    far = run(*[(Unit.LOAD_A, load(padding=1))] * count, timing=MemoryTiming(latency=500))
    assert far.cycles > count * BEATS / 64 * 500


def test_a_program_that_cannot_go_on_is_not_predicted():
    program = Program()
    program.emit(Unit.COMPUTE, **compute(1, 1))
    program._items[0][1]["wait"] = 1 << Unit.POST
    with pytest.raises(AssertionError, match="COMPUTE stops"):
        predict(program, PORTS, PLAIN)


def test_the_same_program_has_the_same_prediction():
    first, second = (run(*[(Unit.LOAD_A, load(100), "", "a"), (Unit.COMPUTE, compute(2, 50), "a")]
                         * 5, config=ONE, timing=MemoryTiming(beat_cycles=1.5)) for _ in range(2))
    assert first.cycles == second.cycles
    assert all((first.records[unit] == second.records[unit]).all() for unit in UNITS)


# queues that do not wait for one another


def test_entries_do_not_wait_for_other_queues():
    """All that a queue has room for is in it at once, the rest when one of its own is accepted: a
    LOAD_B behind more LOAD_As than their queue takes does not wait for them."""
    program = Program()
    for _ in range(QUEUE + 3):
        program.emit(Unit.LOAD_A, **load(padding=2000))
    program.emit(Unit.LOAD_B, **load(padding=9))
    found = entries(program, PORTS, PLAIN)
    assert len(found) == QUEUE + 4
    assert found[:QUEUE] == [0] * QUEUE and found[-1] == 0
    assert np.diff(found[QUEUE:-1]).tolist() == [2001, 2001]


def test_entries_wait_for_tokens():
    """COMPUTEs that wait for a LOAD leave their queue, and make room in it, after that."""
    program, tile = Program(), Hazard()
    program.emit(Unit.LOAD_A, [], [tile], **load(padding=3000))
    for _ in range(QUEUE + 1):
        program.emit(Unit.COMPUTE, [tile], [], **compute(1, 100))
    found = entries(program, PORTS, PLAIN)
    assert found[:-1] == [0] * (QUEUE + 1)
    assert found[-1] > 3000


# every prediction is possible


def consistent(program, found, config, timing):
    """Assert that the records of a Prediction are some possible course of the program."""
    machine = Machine(config, timing)
    own = {unit: [f for u, f in program.instructions if u.name == unit] for unit in UNITS}
    given = {}  # (from, to) -> cycles in which tokens come, in order
    for number, unit in enumerate(UNITS):
        table = found.records[unit]
        assert len(table) == len(own[unit])
        start, end = (table[name].astype(np.int64) for name in ("start", "done"))
        assert (np.diff(start) > 0).all() and (np.diff(end) > 0).all(), f"{unit} out of order"
        assert (start > timing.latency).all() and (end > start).all()
        assert end.max(initial=0) < found.cycles
        for other in range(4):
            given[number, other] = [int(e) for e, f in zip(end, own[unit], strict=True)
                                    if f["signal"] >> other & 1]
        for took, f in zip(end - start, own[unit], strict=True):
            work = machine.work(Unit[unit], f)
            if unit == "COMPUTE":
                assert took >= work.fill + work.to_last + work.vectors
            elif unit == "POST":
                assert took >= work.lead + work.cycles + timing.latency
            else:
                assert took >= work.cycles + 2
    for number, unit in enumerate(UNITS):
        for s, f in zip(found.records[unit]["start"].tolist(), own[unit], strict=True):
            for other in range(4):
                if f["wait"] >> other & 1:
                    assert s >= given[other, number].pop(0) + 2, f"{unit} starts without a token"
    assert not any(given.values()), "tokens are left over"


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks(), st.sampled_from(CONFIGS), st.sampled_from([
    MemoryTiming(), MemoryTiming(latency=1, beat_cycles=3.5, shared=True, outstanding=1),
    board("ulx3s-85f").timing, board("zcu102").timing]))
def test_predictions_of_random_networks(drawn, config, timing):
    network, shape = drawn
    device = ModelDevice(config, 4 << 20, timing=timing)
    try:
        model = gradgate.compile(network, (torch.zeros(shape),), device)
    except gradgate.UnsupportedError:
        reject()  # a window that does not fit the small buffers
    for program in programs(model, shape[0]):
        consistent(program, predict(program, config, timing), config, timing)


def test_bursts_shorter_than_an_instruction():
    config = Config(tm=2, tn=4, beat_bits=32, max_burst=1)
    found = run((Unit.LOAD_A, load(padding=50)), (Unit.COMPUTE, compute(2, 300)), config=config)
    # 16 beats each, and the two follow each other
    assert starts(found, Unit.COMPUTE)[0] - starts(found, Unit.LOAD_A)[0] >= 16


def test_a_program_comes_at_the_pace_of_memory():
    """Short instructions, one after the other: each takes its beats' time of the channel."""
    items = [(Unit.LOAD_A, load(padding=1))] * 100
    fast, slow = (run(*items, timing=MemoryTiming(latency=10, beat_cycles=b)) for b in (1, 4))
    assert np.diff(starts(fast, Unit.LOAD_A))[20:].mean() <= BEATS + 3
    assert np.diff(starts(slow, Unit.LOAD_A))[20:].mean() >= 4 * BEATS


def test_a_memory_that_hardly_gets_on():
    timing = MemoryTiming(latency=10, row_bytes=1024, row_cycles=30, refresh_interval=40,
                          refresh_cycles=12)
    found = run((Unit.LOAD_A, load(200)), (Unit.POST, post(100, mask=1)), timing=timing)
    assert 300 < found.cycles < 300 * 40
