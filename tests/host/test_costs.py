"""Terms of the closed cost, each by hand."""

import numpy as np
import pytest
from gradgate.boards import MemoryTiming, board
from gradgate.costs import Costs, Demand, Load, Stream
from gradgate.durations import Machine
from gradgate.hw.config import Config

BOARD = board("zcu102")
COSTS = Costs(Machine(BOARD.config, BOARD.timing))


def demand(**more):
    out = Load(100, {(0, True): Stream(100, 1, 64, 1)}, 1)
    return Demand(**{"array": 1000, "regions": 0, "a": Load(), "b": Load(), "post": out,
                     "first": 0, "last": 0, "computes": 1, **more})


def test_sweeps_hide_the_fill_of_the_next():
    assert COSTS.sweeps(9, 100, 32) == 900
    assert COSTS.sweeps(9, 20, 32) == 9 * 20 + 11
    assert COSTS.sweeps(9, 1, 17) == 9 * COSTS.config.tm


def test_the_busiest_unit_decides():
    assert COSTS.cycles(demand()) == 1000
    slow = Load(3000, {(1, False): Stream(10, 1, 64, 1)}, 4, 4, 32)
    assert COSTS.cycles(demand(b=slow)) == 3000 + 2 * 4
    assert COSTS.cycles(demand(regions=2000)) == 2000
    assert COSTS.cycles(demand(first=20, last=40)) == 1030


def test_posts_that_read_show_latency_but_for_what_the_drain_is_ahead():
    assert COSTS.results(100) == 100 + 51 - 14
    assert COSTS.results(100, reads=False) == 101
    near = Costs(Machine(BOARD.config, MemoryTiming(latency=1)))
    assert near.results(100) == 101


def test_short_loads_show_latency():
    load = Load(100, {}, 100, 100, 32)
    assert COSTS.cycles(demand(b=load)) >= (100 + 100 * COSTS.machine.read_latency) / 2


def test_one_slot_makes_turns():
    load = Load(900, {}, 10, 10, 1)
    assert COSTS.cycles(demand(b=load)) > 1900
    assert COSTS.cycles(demand(b=Load(900, {}, 10, 10, 8))) == 1000


def test_regions():
    assert COSTS.region(1000, 100) == 1000 and COSTS.region(100, 1000) == 1000
    assert 500 < COSTS.region(500, 500) < 700  # a round of latencies in two


def test_one_channel_or_several():
    timing = {"latency": 10, "beat_cycles": 2}
    loads = {"a": Load(100, {(0, False): Stream(100, 1, 64, 0)}, 0),
             "b": Load(100, {(1, False): Stream(300, 1, 64, 0)}, 0), "computes": 0}
    apart = Costs(Machine(Config(read_ports=3, write_ports=2), MemoryTiming(**timing)))
    shared = Costs(Machine(Config(), MemoryTiming(shared=True, **timing)))
    quiet = Load(100, {(0, True): Stream(0, 1, 64, 0)}, 0)
    assert apart.bound(demand(post=quiet, **loads)) == 600
    assert shared.bound(demand(post=quiet, **loads)) == pytest.approx(800, rel=0.01)
    assert [float(x) for x in apart.paces(demand(post=quiet, **loads))] == [2, 6, 1]


def test_rows():
    """A run in another row costs `row_cycles`, one nearby in proportion, a jump always."""
    timing = MemoryTiming(row_bytes=1024, row_cycles=4)
    costs = Costs(Machine(Config(read_ports=3, write_ports=2, max_burst=256), timing))

    def cycles(*stream):
        load = Load(1, {(1, False): Stream(*stream)})
        return costs.paces(demand(b=load))[1]

    assert cycles(100, 10, 2048, 0) == 100 + 10 * 4
    assert cycles(100, 10, 512, 0) == 100 + 5 * 4
    assert cycles(100, 10, 512, 3) == 100 + 8 * 4


def test_on_a_shared_channel_every_burst_finds_another_row_open():
    timing = MemoryTiming(shared=True, row_bytes=1024, row_cycles=4)
    costs = Costs(Machine(Config(max_burst=16), timing))
    load = Load(1, {(1, False): Stream(160, 1, 64, 0)})
    assert costs.paces(demand(b=load))[1] == 160 + 10 * 4


def test_the_last_burst_takes_its_time():
    wide = demand(post=Load(0, {(0, True): Stream(640, 10, 64, 1)}))
    thin = demand(post=Load(0, {(0, True): Stream(40, 10, 64, 1)}))
    assert COSTS.tail(wide) - COSTS.tail(thin) == pytest.approx(2 * (64 - 4))


def test_times():
    load = Load(3, {(1, False): Stream(5, 2, 64, 1)}, 7, 11, 4).times(np.array([2, 3]))
    assert load.cycles.tolist() == [6, 9] and load.count.tolist() == [14, 21]
    assert load.tiles.tolist() == [22, 33] and load.slots == 4
    stream = load.streams[1, False]
    assert stream.beats.tolist() == [10, 15] and stream.stride == 64
    assert stream.runs.tolist() == [4, 6] and stream.jumps.tolist() == [2, 3]
