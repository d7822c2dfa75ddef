"""Refreshes against a channel that is looked at cycle by cycle."""

from dataclasses import replace

import pytest
from gradgate.boards import MemoryTiming
from gradgate.refreshes import BEFORE, Refreshes
from hypothesis import example, given
from hypothesis import strategies as st

TIMING = MemoryTiming(refresh_interval=100, refresh_cycles=7)


def refreshing(cycle):
    return cycle + BEFORE >= 100 and (cycle + BEFORE) % 100 < 7


@given(st.integers(0, 500))
def test_resumed(time):
    found = Refreshes(TIMING).resumed(time)
    assert found == next(t for t in range(time, time + 8) if not refreshing(t))


@given(st.integers(0, 500), st.integers(1, 400), st.integers(0, 5))
@example(97, 20, 3)  # from the middle of a refresh
def test_served(begin, cycles, row):
    """Cycles are served one by one; after a refresh a row is opened besides."""
    timing = replace(TIMING, row_bytes=1024, row_cycles=row)
    found = Refreshes(timing).served(begin, cycles)
    now = Refreshes(timing).resumed(begin)
    left = cycles
    while left:
        if refreshing(now):
            now += 7 + row
        else:
            now, left = now + 1, left - 1
    # a refresh that begins when all is served may count or not
    assert found - now in (0, 7 + row)


@pytest.mark.parametrize("interval, cycles, row", [
    (20, 12, 10), (40, 12, 30), (100, 5, 96), (585, 12, 600), (2, 1, 5)])
def test_memory_gets_on(interval, cycles, row):
    refreshes = Refreshes(MemoryTiming(refresh_interval=interval, refresh_cycles=cycles,
                                       row_bytes=1024, row_cycles=row))
    assert cycles <= refreshes.lost < interval
    assert 500 < refreshes.served(0, 500) <= 501 * interval


def test_one_after_the_other():
    refreshes = Refreshes(TIMING)
    begins = []
    for _ in range(3):
        begins.append(refreshes.next)
        refreshes.pass_by()
    assert begins == [c for c in range(300) if refreshing(c) and not refreshing(c - 1)]


@pytest.mark.parametrize("time", [0, 94, 95, 1000])
def test_memory_without(time):
    refreshes = Refreshes(MemoryTiming())
    assert refreshes.next == float("inf")
    assert refreshes.resumed(time) == time and refreshes.served(time, 50) == time + 50
