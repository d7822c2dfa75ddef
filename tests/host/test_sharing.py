"""Shares of a memory channel, against what its turns come to."""

import pytest
from gradgate.durations import Transfer
from gradgate.sharing import share, slots
from hypothesis import given
from hypothesis import strategies as st

QUEUE = 8


def read(time, burst=10, ahead=2):
    """A stream of reads that wants so many cycles of the channel, in bursts of so many."""
    return Transfer(0, 100, time, time, burst, ahead)


def write(time, burst=10):
    return read(time, burst, 0)


def paces(*streams, limits=None):
    """Of streams (unit, Transfer) whose datapaths take 100 cycles."""
    limits = {unit: 1.0 for unit, _ in streams} | (limits or {})
    return share([(unit, 100, stream) for unit, stream in streams], limits, QUEUE)


def test_who_is_alone_opens_no_rows_for_others():
    stream = Transfer(0, 100, 50, 80, 10, 2)
    assert paces(("a", stream)) == (0.5, {"a": 1})
    wanted, _ = paces(("a", stream), ("b", write(10)))
    assert wanted == pytest.approx(0.9)


def test_a_channel_sets_the_pace():
    assert paces(("a", read(400))) == (4, {"a": 0.25})
    assert paces(("a", write(400))) == (4, {"a": 0.25})
    assert paces(("a", read(200)), ("a", write(200))) == (4, {"a": 0.25})
    assert paces(("a", read(20)), ("a", write(180))) == (2, {"a": pytest.approx(0.5)})


def test_alike_reads_share_alike():
    assert paces(("a", read(400)), ("b", read(200)))[1] == {"a": 0.125, "b": 0.25}


def test_who_wants_less_than_an_equal_share_has_it():
    """In proportion to what is in the queue it would have a ninth."""
    assert paces(("a", read(400, 40, 2)), ("b", read(40, 10, 1)))[1] == {
        "a": pytest.approx(0.15), "b": 1}


def test_long_bursts_get_more_time():
    """Two of 30 cycles and six of 5 in the queue."""
    assert paces(("a", read(300, 30, 2)), ("b", read(300, 5, 9)))[1] == {
        "a": pytest.approx(2 / 9), "b": pytest.approx(1 / 9)}


def test_time_is_given_to_whom_it_helps_least_first():
    """Of three that hold as much, one wants less than its part; the others have what it leaves."""
    streams = read(150, 60, 1), read(50, 5, 9), read(300, 30, 2)
    found = paces(*zip("abc", streams, strict=True))[1]
    used = [found[unit] * stream.among / 100 for unit, stream in zip("abc", streams, strict=True)]
    held = slots([1, 9, 2], QUEUE)
    assert sum(used) == pytest.approx(1)
    assert used[0] / used[2] == pytest.approx(held[0] * 60 / (held[2] * 30))
    assert used[1] / used[2] == pytest.approx(held[1] * 5 / (held[2] * 30))


def test_a_burst_is_written_for_each_that_is_read():
    """Writes of 10 cycles between reads of 30 get a quarter, and no more."""
    assert paces(("a", read(300, 30)), ("b", write(100, 10)))[1] == {
        "a": pytest.approx(0.25), "b": pytest.approx(0.25)}


def test_writes_below_their_turns_have_what_they_want():
    """They could have a quarter."""
    assert paces(("a", read(300, 30)), ("b", write(20, 10)))[1] == {
        "a": pytest.approx(0.8 / 3), "b": 1}


def test_turns_are_of_bursts_in_the_queue():
    """Two of 60 cycles and six of 20, 30 on average, by turns with such of 10."""
    found = paces(("a", read(300, 60, 2)), ("b", read(300, 20, 9)), ("c", write(100, 10)))[1]
    assert found["c"] == pytest.approx(0.25)


def test_several_streams_of_a_unit_add_up():
    assert paces(("a", write(100)), ("a", write(300)))[1] == {"a": 0.25}
    found = paces(("a", read(100)), ("a", read(100)), ("b", read(400)))[1]
    assert found == {"a": pytest.approx(1 / 3), "b": pytest.approx(1 / 12)}


def test_reads_and_writes_of_a_unit_go_together():
    """Two bursts of `a` are read, one of them for one that it writes: half the time is its."""
    found = paces(("a", read(200)), ("a", write(100)), ("b", read(400)))[1]
    assert found["a"] * 3 + found["b"] * 4 == pytest.approx(1)
    assert found["a"] * 2 == pytest.approx(found["b"] * 4)


def test_what_else_limits_a_unit_leaves_more_to_others():
    assert paces(("a", read(400)), ("b", read(200)), limits={"a": 0.05})[1] == {
        "a": 0.05, "b": pytest.approx(0.4)}


def test_slots():
    assert slots([2, 9, 0, 9], 8) == [2, 3, 0, 3]
    assert slots([2, 3], 8) == [2, 3]
    assert slots([9, 2], 8) == [6, 2]
    assert slots([9, 9, 9, 1], 4) == [1, 1, 1, 1]


STREAMS = st.lists(st.tuples(st.sampled_from("abc"), st.builds(
    read, st.floats(1, 1000), st.floats(1, 300), st.sampled_from([0, 0, 1, 2, 9]))),
    min_size=1, max_size=6)


@given(STREAMS, st.floats(0.1, 1))
def test_a_channel_is_never_over_full_nor_idle(streams, limit):
    wanted, found = paces(*streams, limits={"a": limit})
    assert set(found) == {unit for unit, _ in streams}
    assert all(0 < pace <= (limit if unit == "a" else 1) + 1e-9 for unit, pace in found.items())
    used = sum(found[unit] * stream.among / 100 for unit, stream in streams)
    at_most = sum((limit if unit == "a" else 1) * s.among / 100 for unit, s in streams)
    assert used == pytest.approx(min(1, at_most), rel=1e-6)
    assert used <= 1 + 1e-9 and wanted >= used - 1e-9
