"""Refreshes against a channel that is looked at cycle by cycle."""

import pytest
from gradgate.boards import MemoryTiming
from gradgate.refreshes import BEFORE, Refreshes
from hypothesis import given
from hypothesis import strategies as st

TIMING = MemoryTiming(refresh_interval=100, refresh_cycles=7)


def refreshing(cycle):
    return cycle + BEFORE >= 100 and (cycle + BEFORE) % 100 < 7


@given(st.integers(0, 500))
def test_resumed(time):
    found = Refreshes(TIMING).resumed(time)
    assert found == next(t for t in range(time, time + 8) if not refreshing(t))


@given(st.integers(0, 500), st.integers(1, 400), st.integers(0, 5))
def test_served(begin, cycles, more):
    """Cycles are served one by one; after a refresh `more` are lost besides."""
    found = Refreshes(TIMING).served(begin, cycles, more)
    now = Refreshes(TIMING).resumed(begin)
    left = cycles
    while left:
        if refreshing(now):
            now += 7 + more
        else:
            now, left = now + 1, left - 1
    # a refresh that begins when all is served may count or not
    assert found - now in (0, 7 + more)


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
    assert refreshes.resumed(time) == time and refreshes.served(time, 50, 3) == time + 50
