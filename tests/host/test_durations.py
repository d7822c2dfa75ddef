"""The closed formulas of single instructions, with numbers worked out by hand."""

from dataclasses import replace
from fractions import Fraction

import pytest
from gradgate import durations
from gradgate.boards import MemoryTiming
from gradgate.durations import Machine
from gradgate.hw.config import Config
from gradgate.hw.isa import Unit
from gradgate.hw.vector import VectorPipeline
from hypothesis import given
from hypothesis import strategies as st

# a beat of 16 bytes, bursts of 16 beats, 8 lanes, 4 rows, one vector per pixel
CONFIG = Config(tm=4, tn=8, fmt="fp32", beat_bits=128, max_burst=16)
PORTS = Config(tm=4, tn=8, fmt="fp32", beat_bits=128, max_burst=16, read_ports=3, write_ports=2)
ROWS = MemoryTiming(latency=10, beat_cycles=2, row_bytes=1024, row_cycles=5)
PLAIN = MemoryTiming(latency=10)

LOAD = {"nb": 2, "n2": 3, "n1": 5, "n0": 7, "spp": 2, "d_len": 6, "d_n1": 5, "d_s1": 1600,
        "d_n2": 3, "d_s2": 100000, "d_n3": 1, "d_s3": 0}
POST = {"p2": 2, "p1": 3, "p0": 5, "out_base": 0, "o_len": 30, "o_n1": 1, "o_s1": 0, "o_n2": 1,
        "o_s2": 0}


def forward(**fields):
    return {"dw": 0, "ng": 2, "t1": 3, "t0": 5, "q2": 2, "q1": 7, "q0": 11, **fields}


# transfers


@pytest.mark.parametrize("runs, strides", [((256,), ()), ((64, 4), (1024,)),
                                           ((16, 4, 4), (256, 1024))])
def test_a_contiguous_transfer(runs, strides):
    """256 beats are 16 bursts of 16 and four rows; the first one has to be opened too."""
    found = Machine(CONFIG, ROWS).transfer(0, False, 256, runs, strides)
    assert found.alone == 256 * 2 + (4 + 1) * 5
    assert found.among == 256 * 2 + 16 * 5


def test_runs_apart():
    """8 runs of 64 bytes, 512 apart: 1/16 row each, 448 of 1024 bytes between; a burst each."""
    found = Machine(CONFIG, ROWS).transfer(0, False, 32, (4, 8), (512,))
    assert found.alone == 32 * 2 + (8 / 16 + 7 * 448 / 1024 + 1) * 5
    assert found.among == 32 * 2 + 8 * 5


def test_a_gap_of_many_rows_is_one_row_change():
    found = Machine(CONFIG, ROWS).transfer(0, False, 12, (4, 3), (1 << 20,))
    assert found.alone == 12 * 2 + (3 / 16 + 2 + 1) * 5


def test_rows_do_not_matter_without_rows():
    timing = MemoryTiming(beat_cycles=Fraction(5, 2), row_cycles=9)
    found = Machine(CONFIG, timing).transfer(0, True, 40, (4, 10), (4096,))
    assert found.alone == found.among == 100


def test_a_burst_of_the_program_opens_rows_where_there_are_any():
    """A burst of 16 beats; with rows, one is opened for it and one after it."""
    assert Machine(CONFIG, ROWS).fetch_cycles == 16 * 2 + 2 * 5
    assert Machine(CONFIG, MemoryTiming(beat_cycles=2, row_cycles=5)).fetch_cycles == 16 * 2


def test_bursts_under_way_limit_a_transfer():
    """10 bursts of 2 beats, one at a time, each with latency; of 16 at a time latency is hidden."""
    one, many = (Machine(CONFIG, MemoryTiming(latency=50, outstanding=n)) for n in (1, 16))
    found = one.transfer(0, False, 20, (2, 10), (4096,))
    assert found.alone == found.among == 10 * (50 + durations.BURST)
    assert many.transfer(0, False, 20, (2, 10), (4096,)).alone == max(
        20, 10 * (50 + durations.BURST) / 16)
    assert many.transfer(0, False, 160, (160,), ()).alone == 160


@pytest.mark.parametrize("runs, strides, bursts", [
    ((160,), (), 4),  # of 16 beats: 16 have room, and then for each of three more that 48 go
    ((4, 40), (1024,), 13), ((1, 100), (1024,), 49), ((4, 3), (1024,), 3), ((20,), (), 2)])
def test_bursts_that_are_asked_for_ahead(runs, strides, bursts):
    """As long as the FIFO of 64 beats has room for a longest one of 16, and there are any."""
    beats = runs[0] * (runs[1] if strides else 1)
    machine = Machine(CONFIG, PLAIN)
    assert machine.transfer(0, False, beats, runs, strides).ahead == bursts
    assert machine.transfer(0, True, beats, runs, strides).ahead == 0


def changes(base, runs, strides, beat, row):
    """Row changes between one beat and the next, by address."""
    addresses = [base]
    for count, stride in reversed(list(zip(runs[1:], strides, strict=True))):
        addresses = [a + i * stride for a in addresses for i in range(count)]
    rows = [(a + i * beat) // row for a in addresses for i in range(runs[0])]
    return sum(a != b for a, b in zip(rows, rows[1:], strict=False))


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(1, 4), st.integers(0, 40)), max_size=3))
def test_rows_on_average_over_all_alignments(length, loops):
    """Counted beat by beat for every alignment of the transfer; the formula also counts the step
    from the last beat of all, and from the last beat before each jump of more than a row."""
    beat, row = 16, 256
    runs, strides, end, jumps, times = [length], [], length * beat, 0, 1
    for count, gap in loops:
        runs.append(count)
        strides.append(end + gap * beat)
        if count > 1:
            jumps = jumps * count + (count - 1) * (gap * beat >= row)
            end += (count - 1) * strides[-1]
        times *= count
    timing = MemoryTiming(row_bytes=row, row_cycles=1, outstanding=1024)
    found = Machine(CONFIG, timing).transfer(0, False, length * times, tuple(runs), tuple(strides))
    rows = found.alone - length * times - 1
    actual = [changes(base, runs, strides, beat, row) for base in range(0, row, beat)]
    average = sum(actual) / len(actual)
    assert rows == pytest.approx(average + (1 + jumps) * beat / row)


def test_channels():
    shared = Machine(PORTS, MemoryTiming(shared=True))
    assert {shared.channel(p, w) for p in range(3) for w in (False, True)} == {0}
    apart = Machine(PORTS, PLAIN)
    assert [apart.channel(p, False) for p in range(3)] == [0, 2, 4]
    assert [apart.channel(p, True) for p in range(2)] == [1, 3]
    one = Machine(CONFIG, PLAIN)
    assert [one.channel(p, False) for p in range(3)] == [0, 0, 0]
    assert [one.channel(p, True) for p in range(2)] == [1, 1]


def test_capacity_is_what_refresh_leaves():
    assert PLAIN.capacity == 1
    timing = MemoryTiming(refresh_interval=500, refresh_cycles=25)
    assert timing.capacity == pytest.approx(0.95)


# COMPUTE


def test_sweeps_of_a_convolution():
    machine = Machine(CONFIG, PLAIN)
    assert 4 < machine.loop < 154
    found = machine.work(Unit.COMPUTE, forward())
    assert (found.count, found.vectors, found.period, found.fill) == (30, 154, 154, 5)
    assert found.to_last == 29 * 154
    one = machine.work(Unit.COMPUTE, forward(q2=1, q1=1, q0=1))
    assert (one.vectors, one.period) == (1, machine.loop)


def test_a_sweep_is_as_long_as_the_next_stationary_tile_takes():
    machine = Machine(Config(tm=16, tn=16, fmt="fp32", beat_bits=128), PLAIN)
    assert machine.loop < 16
    assert machine.sweeps(forward(q2=1, q1=1, q0=10)).period == 16


def test_lane_addresses_are_made_before_the_first_tile():
    machine = Machine(CONFIG, PLAIN)
    assert machine.sweeps(forward(a_pix=1)).fill == 4 + 1 + 7
    assert machine.sweeps(forward(a_pix=1, ident=1)).fill == 4 + 1


def test_chunks_of_a_weight_gradient():
    machine = Machine(CONFIG, PLAIN)
    fields = {"dw": 1, "ng": 3, "lanes_last": 5, "t1": 3, "t0": 2, "ones": 1, "np": 41}
    found = machine.sweeps(fields)
    # 8 + 8 + 5 channels of 6 taps, and the row of ones; 41 pixels are six chunks of eight
    assert (found.count, found.vectors, found.period, found.fill) == (6, 127, 127, 9)
    short = machine.sweeps({**fields, "ng": 1, "lanes_last": 1, "t1": 1, "t0": 1, "np": 8})
    assert (short.count, short.vectors, short.period) == (1, 2, max(8, machine.loop))


# LOAD


def test_places_of_a_load():
    """2 * 3 * 5 * 7 * 2 places, with padding; 90 beats come from memory, in 15 runs."""
    machine = Machine(PORTS, PLAIN)
    found = machine.work(Unit.LOAD_B, LOAD)
    assert (found.cycles, found.active) == (420, 420)
    assert [(s.channel, s.beats) for s in found.streams] == [(2, 90)]
    assert found.lead == machine.read_latency > 10
    assert machine.work(Unit.LOAD_A, LOAD).streams[0].channel == 0


def test_commands_of_a_load():
    machine = Machine(PORTS, PLAIN)
    found = machine.work(Unit.LOAD_B, LOAD)
    fewer = machine.work(Unit.LOAD_B, {**LOAD, "d_n1": 3})
    assert found.bursts - fewer.bursts == 6 + 36 / 16  # six runs, 36 beats less
    # 64 beats fit the FIFO; of more, the last burst waits for room; 90 beats go to 420 places
    assert found.ahead == pytest.approx((64 - 16) * 420 / 90)
    assert fewer.ahead == float("inf")


def test_a_load_of_padding_needs_no_memory():
    machine = Machine(CONFIG, MemoryTiming(latency=1000))
    found = machine.work(Unit.LOAD_A, {**LOAD, "d_len": 0})
    assert found.streams == () and found.active == found.cycles == 420
    assert found.lead == 0


@pytest.mark.parametrize("fields, places, more", [
    ({"lo0": 3}, 3 * 2, 0), ({"lo1": 2, "lo0": 3}, (2 * 7 + 3) * 2, 0),
    ({"lo1": 2, "lo0": 3, "unpool": 1, "u1": 2, "u0": 3, "a2": 100}, (2 * 7 + 3) * 2 * 6,
     2 * 6 + 9)])
def test_padding_that_comes_first_hides_latency(fields, places, more):
    """Rows of 7 pixels of 2 beats, before the first one that comes from memory; the first tags come
    after the first run of gradients, from another row."""
    timing = MemoryTiming(latency=1000, beat_cycles=2, row_bytes=4096, row_cycles=9)
    machine = Machine(PORTS, timing)
    found = machine.work(Unit.LOAD_B, {**LOAD, **fields})
    assert found.lead == machine.read_latency - places + more
    assert machine.work(Unit.LOAD_B, {**LOAD, **fields, "d_len": 0}).lead == 0


def test_unpooling_visits_every_position_of_a_window():
    """Of the 5 * 7 windows of 2 * 3, positions of a map of 11 * 17 are written."""
    machine = Machine(PORTS, PLAIN)
    fields = {**LOAD, "unpool": 1, "u1": 2, "u0": 3, "a1": 17, "a2": 11 * 17}
    found = machine.work(Unit.LOAD_B, fields)
    assert (found.cycles, found.active) == (420 * 6, 2 * 3 * 2 * 11 * 17)
    assert [(s.channel, s.beats) for s in found.streams] == [(2, 90)] * 2  # gradient and tags


# POST


def streams(found):
    """(channel, beats) of what goes at the pace of the vectors, and of what follows them."""
    return [[(s.channel, s.beats) for s in some] for some in (found.streams, found.writes)]


def test_vectors_of_a_post():
    machine = Machine(PORTS, PLAIN)
    found = machine.work(Unit.POST, POST)
    assert (found.cycles, found.active, streams(found)) == (30, 30, [[], [(1, 30)]])
    assert found.lead == durations.POST_LEAD
    wide = Machine(Config(tm=16, tn=16, fmt="fp32", beat_bits=64), PLAIN)
    assert wide.post({**POST, "o_len": 240}).cycles == 30 * 8


def test_a_pooled_pixel_takes_its_window_or_its_vectors():
    pool = {**POST, "pool": 1, "w1": 2, "w0": 3}
    assert Machine(CONFIG, PLAIN).post(pool).cycles == 30 * 6
    assert Machine(Config(tm=16, tn=16, fmt="fp32", beat_bits=64), PLAIN).post(pool).cycles == 240
    assert Machine(CONFIG, PLAIN).post({**pool, "pool": 0}).cycles == 30


def test_streams_of_a_post():
    machine = Machine(PORTS, PLAIN)
    for fields, reads, writes in [
            ({"mask": 1}, [4], [1]), ({"opd_add": 1}, [4], [1]), ({"sgd": 1}, [4], [1]),
            ({"sgd": 1, "mom": 1}, [4, 2], [1, 3]), ({"src_mem": 1}, [4], [1]),
            ({"pool": 1, "w1": 1, "w0": 1, "tags": 1}, [], [1, 3])]:
        assert streams(machine.post({**POST, **fields})) == [
            [(channel, 30) for channel in some] for some in (reads, writes)], fields


def test_writes_on_a_shared_channel_are_streams_like_others():
    machine = Machine(PORTS, MemoryTiming(shared=True))
    assert streams(machine.post({**POST, "sgd": 1, "mom": 1})) == [[(0, 30)] * 4, []]


def test_both_outputs_of_one_write_port_follow_on_its_channel():
    found = Machine(CONFIG, PLAIN).post({**POST, "sgd": 1, "mom": 1})
    assert streams(found) == [[(0, 30), (0, 30)], [(1, 30), (1, 30)]]


def test_streams_of_a_post_in_bf16():
    """Eight channels are four beats in fp32 and two in operand format."""
    machine = Machine(Config(tm=8, tn=16, beat_bits=64), PLAIN)
    fields = {**POST, "o_len": 120, "out_fp32": 1}
    assert machine.post(fields).cycles == 120
    tags = machine.post({**fields, "tags": 1, "pool": 1, "w1": 1, "w0": 1})
    assert [s.beats for s in tags.writes] == [120, 60]
    assert streams(machine.post({**fields, "src_mem": 1})) == [[(0, 60)], [(1, 120)]]
    assert streams(machine.post({**fields, "src_mem": 1, "src_fp32": 1})) == [
        [(0, 120)], [(1, 120)]]


@pytest.mark.parametrize("fields", [{"mask": 1}, {"bias": 1}, {"src_mem": 1}, {"sgd": 1}])
def test_what_comes_from_memory_comes_a_latency_later(fields):
    slow = MemoryTiming(latency=1010)
    near, far = (Machine(PORTS, t).post({**POST, **fields}) for t in (PLAIN, slow))
    assert far.lead - near.lead == 1000
    assert near.lead > durations.POST_LEAD + 10


def test_vectors_wait_for_the_last_beat_of_a_bias():
    timing = MemoryTiming(latency=10, row_bytes=1024, row_cycles=7)
    masked, biased = (Machine(CONFIG, timing).post({**POST, name: 1}) for name in ("mask", "bias"))
    assert biased.lead - masked.lead == CONFIG.groups + durations.BIAS + 7


def test_the_tail_of_a_post_has_the_latency_of_memory():
    near, far = (Machine(PORTS, MemoryTiming(latency=n)).post(POST) for n in (10, 110))
    assert far.tail - near.tail == 100
    assert near.tail > Machine(PORTS, PLAIN).write_latency()


# 30 vectors; bursts end at multiples of 16 beats, runs that touch share them
@pytest.mark.parametrize("fields, bursts, served, since", [
    ({}, [16, 14], 92, 2),
    ({"o_len": 6}, [6], 24, 6),
    ({"o_len": 6, "o_n1": 5, "o_s1": 6 * 16}, [16, 14], 92, 2),
    ({"o_len": 6, "o_n1": 5, "o_s1": 7 * 16}, [6, 2, 4, 6, 4, 2], 60, -12),  # and 6 before
    ({"o_len": 2, "o_n1": 5, "o_s1": 2 * 16}, [10], 40, 10),
    ({"out_base": 4 * 16}, [12, 16, 2], 84, -6),
    ({"o_len": 15, "o_n1": 2, "o_s1": 64 * 16, "out_base": 4 * 16}, [12, 3, 12, 3], 84, -6)])
def test_the_tail_of_a_post_has_its_last_bursts(fields, bursts, served, since):
    """Each beat takes a cycle to the port, in bursts when they are made, and three of memory."""
    machine = Machine(PORTS, MemoryTiming(latency=10, beat_cycles=3))
    found = machine.post({**POST, **fields})
    runs = [{**POST, **fields}[name] for name in ("o_len", "o_n1", "o_n2", "o_s1", "o_s2")]
    first, last = machine.bursts(fields.get("out_base", 0), runs[:3], runs[3:])
    assert [beats for beats, _ in last] == bursts
    assert first == (6 if len(bursts) == 6 else bursts[0])
    assert found.tail - machine.write_latency() == served
    assert found.busy == served - since


def test_the_tail_of_a_post_has_the_rows_of_its_last_bursts():
    """Rows of 64 beats, two runs of 15: a row is opened when a burst is in another one."""
    timing = MemoryTiming(latency=10, beat_cycles=3, row_bytes=64 * 16, row_cycles=5)
    machine, plain = Machine(PORTS, timing), Machine(PORTS, replace(timing, row_cycles=0))
    for base, rows in ((0, 1), (60 * 16, 2)):  # the second: from the end of a row into the next
        fields = {**POST, "o_len": 15, "o_n1": 2, "o_s1": 64 * 16, "out_base": base}
        assert machine.post(fields).tail - plain.post(fields).tail == rows * 5


def test_the_tail_of_an_update_is_longer():
    """Weights leave the pipeline after results do."""
    machine = Machine(PORTS, PLAIN)
    stages = VectorPipeline(PORTS).stages
    later = stages["weight"] - stages["result"]
    assert later > 0
    assert machine.write_latency(sgd=True) - machine.write_latency() == later
    assert machine.post({**POST, "sgd": 1}).tail - machine.post(POST).tail == later


def test_vectors_run_ahead_of_memory_by_what_its_writer_holds():
    """Four bursts of 16 beats, of 2 cycles each."""
    assert Machine(PORTS, ROWS).write_ahead == 4 * 16 * 2


def test_latencies():
    machine = Machine(CONFIG, PLAIN)
    assert machine.read_latency == durations.PORT_OUT + 10 + durations.PORT_IN
    later = Machine(CONFIG, MemoryTiming(latency=17))
    for name in ("read_latency", "fetch_latency"):
        assert getattr(later, name) - getattr(machine, name) == 7
    assert later.write_latency() - machine.write_latency() == 7


@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 60),
       st.integers(1, 4), st.integers(0, 400))
def test_bursts_one_by_one(base, length, n1, s1, n2, s2):
    """Against all beats in a row, cut and joined; runs that do not overlap."""
    machine = Machine(PORTS, PLAIN)
    s1, s2 = max(s1, length), max(s2, n1 * max(s1, length))
    wanted = []
    for i2 in range(n2):
        for i1 in range(n1):
            for beat in range(base + i2 * s2 + i1 * s1, base + i2 * s2 + i1 * s1 + length):
                if wanted and wanted[-1][-1] + 1 == beat and beat % PORTS.max_burst:
                    wanted[-1].append(beat)
                else:
                    wanted.append([beat])
    size = PORTS.beat_bytes
    first, last = machine.bursts(base * size, (length, n1, n2), (s1 * size, s2 * size))
    assert [beats for beats, _ in last] == [len(burst) for burst in wanted][-durations.ENDING:]
    assert first == len(wanted[0])


def test_a_post_of_nothing():
    found = Machine(PORTS, PLAIN).post({**POST, "o_len": 0, "p0": 0})
    assert found.cycles == found.busy == 0
