"""Closed cost of a pass: what each unit and each memory channel has to do, and how they overlap.

Everything may be an array, one element per candidate. docs/model.md, section 6, derives the terms.
"""

from dataclasses import dataclass, field

import numpy as np

from .durations import POST_GAP

__all__ = ["Stream", "Load", "Demand", "Costs"]

AHEAD = 4  # tiles that a load unit can be ahead of the array: its queue holds no more


@dataclass
class Stream:
    """Beats of a memory port in `runs`, most of them `stride` bytes from one to the next, and
    `jumps` to somewhere else."""

    beats: float
    runs: float
    stride: float
    jumps: float

    def times(self, factor):
        """The Stream `factor` times."""
        return Stream(self.beats * factor, self.runs * factor, self.stride, self.jumps * factor)


@dataclass
class Load:
    """What a LOAD unit or POST has to do in a pass.

    Parameters
    ----------
    cycles : places or vectors that its datapath works off
    streams : dict, (port, write) -> Stream
    count : instructions
    tiles, slots : a LOAD unit's tiles, and the slots of its buffer that take them in turn
    """

    cycles: float = 0
    streams: dict = field(default_factory=dict)
    count: float = 0
    tiles: float = 0
    slots: float = 1

    def times(self, factor):
        """The Load done `factor` times."""
        streams = {port: stream.times(factor) for port, stream in self.streams.items()}
        return Load(
            self.cycles * factor, streams, self.count * factor, self.tiles * factor, self.slots
        )


@dataclass
class Demand:
    """What a pass asks of the device.

    Parameters
    ----------
    array : cycles of the array if it never waits
    regions : cycles in which all regions of accumulators are filled and drained
    a, b, post : Load
    first, last : cycles of the first LOAD and of the last region's POSTs
    computes : COMPUTE instructions
    """

    array: float
    regions: float
    a: Load
    b: Load
    post: Load
    first: float
    last: float
    computes: float

    @property
    def instructions(self):
        """Of all units."""
        return self.a.count + self.b.count + self.post.count + self.computes


class Costs:
    """Cycles that demands take on one device.

    Parameters
    ----------
    machine : Machine
    """

    def __init__(self, machine):
        self.machine, self.config = machine, machine.config
        # what a tile loses between load, array and drain, when they take turns
        self._fetch = machine.read_latency + self.config.tn + self.config.tm + machine.loop
        self._drain = self._fetch + machine.compute_latency + machine.write_latency()

    def sweeps(self, count, vectors, fill, dw=False):
        """Cycles of a COMPUTE of `count` sweeps. During the last one the first stationary tile of
        the next instruction is read, in `fill` cycles."""
        period = np.maximum(
            vectors, max(self.config.tn if dw else self.config.tm, self.machine.loop)
        )
        return count * period + np.maximum(fill - 1 - period, 0)

    def results(self, vectors, reads=True):
        """Cycles from a POST of `vectors` to the next one; with `reads`, its first vector needs
        something from memory."""
        machine = self.machine
        between = machine.read_latency - machine.drain_ahead if reads else POST_GAP
        return vectors + max(POST_GAP, between)

    def region(self, compute, drain):
        """Cycles per region of accumulators: of the two, one is filled while the other drains."""
        return np.maximum(np.maximum(compute, drain), (compute + drain + self._drain) / 2)

    def cycles(self, demand):
        """Cycles of a pass: the busiest unit or channel, and half of what comes before and after,
        of which the neighbouring passes hide some."""
        d, machine = demand, self.machine
        longest = np.maximum(self.bound(d), d.instructions * (machine.instruction_beats + 2))
        for load in (d.a, d.b):
            # of short ones two are read in one latency; a slot is filled, used, and filled again
            short = (load.cycles + load.count * machine.read_latency) / 2
            fed = d.array + load.cycles + load.tiles * self._fetch
            fed = fed / np.minimum(np.maximum(load.slots, 1), AHEAD)
            for time in (load.cycles + 2 * load.count, short, fed):
                longest = np.maximum(longest, time)
        return longest + (d.first + d.last) / 2

    def bound(self, demand):
        """Cycles of the busiest unit or memory channel."""
        d = demand
        longest = np.maximum(d.regions, self._busiest((d.a, d.b, d.post), self._fetched(d)))
        for load in (d.a, d.b, d.post):
            longest = np.maximum(longest, load.cycles)
        return longest

    def paces(self, demand):
        """Cycles per place or vector of (LOAD_A, LOAD_B, POST) if none but it uses its channels."""
        return [
            np.maximum(1.0, self._busiest([load], busy) / np.maximum(load.cycles, 1))
            for load, busy in ((demand.a, {}), (demand.b, {}), (demand.post, self._fetched(demand)))
        ]

    def tail(self, demand):
        """Cycles from the last vector of a POST until its results are in memory."""
        out = demand.post.streams[0, True]
        burst = np.minimum(self.config.max_burst, out.beats / out.runs)
        beat = 1 + float(self.machine.timing.beat_cycles)
        return self.machine.write_latency() + burst * beat

    def _fetched(self, demand):
        """{channel: cycles} for the program."""
        machine = self.machine
        bursts = demand.instructions * machine.instruction_beats / self.config.max_burst
        return {machine.channel(2, False): bursts * machine.fetch_cycles}

    def _busiest(self, loads, busy):
        """Cycles of the busiest channel, for loads and what it is `busy` with besides."""
        machine, timing = self.machine, self.machine.timing
        for load in loads:
            for port, s in load.streams.items():
                bursts = np.maximum(s.runs, s.beats / self.config.max_burst)
                rows = 0
                if timing.row_bytes:
                    within = s.beats * self.config.beat_bytes / timing.row_bytes
                    rows = np.maximum(within, s.runs * np.minimum(1, s.stride / timing.row_bytes))
                    rows = np.maximum(rows + s.jumps, bursts if timing.shared else 0)
                time = np.maximum(
                    s.beats * float(timing.beat_cycles) + rows * machine.row_cycles,
                    bursts * machine.burst_cycles,
                )
                channel = machine.channel(*port)
                busy[channel] = busy.get(channel, 0.0) + time
        longest = 0.0
        for time in busy.values():
            longest = np.maximum(longest, time)
        return longest / machine.timing.capacity
