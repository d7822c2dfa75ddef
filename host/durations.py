"""Closed formulas: what one instruction costs, in cycles of each thing it needs.

docs/model.md derives them. All times are cycles of the device's clock.
"""

import gc
import warnings
from dataclasses import dataclass
from functools import cache
from math import ceil

from amaranth.hdl import UnusedElaboratable
from gradgate.hw.compute import ComputeUnit
from gradgate.hw.drain import Drain
from gradgate.hw.fetch import Fetch
from gradgate.hw.isa import BYTES, Unit
from gradgate.hw.vector import VectorPipeline

__all__ = ["Sweeps", "Transfer", "Work", "Machine"]

# from a unit's read command to memory's address channel, and from memory's beat to the unit
PORT_OUT, PORT_IN = 5, 6
BURST = 3  # cycles of a burst besides latency and beats
POST_LEAD = 8
POST_GAP = 1  # cycles between the last vector of a POST and the first one of the next
POST_TURN = 2  # the first vector may enter so many cycles after the start
DRAINED = 3  # from the start to the first address, and from the last one to the next start, but 1
POST_TAIL = 7
BIAS = 1  # from the last beat of the bias to the first vector
WRITE_AHEAD = 4  # longest bursts that a WriteDMA holds
ENDING = 6  # last bursts of a POST that are looked at one by one


@dataclass(frozen=True, slots=True)
class Sweeps:
    """A COMPUTE instruction: `count` sweeps (or chunks) of `vectors` moving vectors.

    `period` is the time from the first vector of a sweep to that of the next, `fill` the one from
    acceptance to the first vector of all.
    """

    count: int
    vectors: int
    period: int
    fill: int

    @property
    def to_last(self):
        """From the first vector of the first sweep to the first vector of the last."""
        return (self.count - 1) * self.period


@dataclass(frozen=True, slots=True)
class Transfer:
    """A stream between a unit and memory.

    `channel` is the memory channel it goes through, `alone` the time that the channel needs for it,
    `among` the time it needs while other streams use it too, and `burst` that of a burst then. A
    ReadDMA asks for `ahead` bursts before its datapath takes any; 0 is a write.
    """

    channel: int
    beats: int
    alone: float
    among: float
    burst: float
    ahead: int


@dataclass(frozen=True, slots=True)
class Work:
    """A LOAD or POST instruction.

    Its datapath takes `cycles` if memory keeps up; the first of them is `lead` after the start,
    `tail` pass between the last and `done`. `active` counts as of the registers. A LOAD needs
    `bursts` cycles for its commands, the last of which goes out `ahead` cycles before the end or
    earlier. The `writes` of a POST with memory channels of their own follow the vectors: the first
    burst is at the channel `made` cycles after the first vector, and `lag` more for the pipeline;
    the last `busy` cycles of its `tail`, but for memory's latency, the channel serves without a
    pause. A POST's vectors have their `turn` so many cycles after the start; it has read all
    accumulators, and the next is accepted, `drained` cycles after the start at the earliest, and
    `behind` before the end if it takes more cycles than the drain has `room` for. `reads` tells
    that the first cycle waits for memory.
    """

    cycles: int
    streams: tuple
    lead: float
    tail: float
    active: int
    bursts: float = 0
    ahead: float = 0
    writes: tuple = ()
    turn: float = 0
    drained: float = 0
    room: float = 0
    behind: float = 0
    made: float = 0
    lag: float = 0
    busy: float = 0
    reads: bool = False


@cache
def _latencies(config):
    """(accumulate loop, array, vector unit) in cycles, and how many vectors the drain runs ahead,
    as the gateware has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        unit, pipeline = ComputeUnit(config), VectorPipeline(config)
        drain = Drain(config)
        found = unit.loop, unit.latency, dict(pipeline.stages), drain.depth
        del unit, pipeline, drain
        gc.collect()  # they refer to themselves
    return found


class Machine:
    """The formulas for one build and one memory.

    Parameters
    ----------
    config : Config
    timing : MemoryTiming
    """

    def __init__(self, config, timing):
        self.config, self.timing = config, timing
        self.loop, self.compute_latency, self._stages, self.drain_depth = _latencies(config)
        self.instruction_beats = BYTES // config.beat_bytes
        self.row_cycles = timing.miss_cycles
        # no more than so many bursts are under way
        self.burst_cycles = (timing.latency + BURST) / timing.outstanding

    def channel(self, port, write):
        """Number of the memory channel behind a port."""
        ports = self.config.write_ports if write else self.config.read_ports
        return 0 if self.timing.shared else 2 * min(port, ports - 1) + write

    def transfer(self, port, write, beats, runs, strides):
        """Transfer of `runs` = (length in beats, count, ...) with `strides` in bytes, innermost
        first."""
        timing, size = self.timing, self.config.beat_bytes
        length, *counts = runs
        extent = length * size
        pieces = length / self.config.max_burst
        rows = extent / timing.row_bytes if timing.row_bytes else 0.0
        number = 1
        end = extent
        for count, stride in zip(counts, strides, strict=True):
            if count > 1:
                gap = abs(stride - end)
                if timing.row_bytes:
                    rows = rows * count + (count - 1) * min(1.0, gap / timing.row_bytes)
                number = number * count if gap else number
                pieces = pieces * count
                end += (count - 1) * stride
        bursts = max(pieces, number)
        time = beats * float(timing.beat_cycles)
        least = bursts * self.burst_cycles
        among = max(least, time + max(rows + 1, bursts) * self.row_cycles)
        spare = self.read_ahead - self.config.max_burst  # each has room for a longest burst
        return Transfer(
            self.channel(port, write),
            beats,
            max(least, time + (rows + 1) * self.row_cycles),
            among,
            among / max(1, bursts),  # there are none where there is nothing to write
            0 if write else min(ceil(bursts), 1 + int(spare * bursts / max(1, beats))),
        )

    @property
    def read_latency(self):
        """From the start of a ReadDMA to its first beat."""
        return PORT_OUT + self.timing.latency + PORT_IN

    @property
    def read_ahead(self):
        """Beats that a ReadDMA asks for before there is room behind it."""
        return max(2 * self.config.max_burst, 64)

    @property
    def drain_ahead(self):
        """Vectors still to come when the next POST is accepted, if they wait for memory."""
        return self.drain_depth - 2

    @property
    def fetch_cycles(self):
        """Time that a burst of the program takes from a channel: its beats, and a row there and
        back."""
        beats = Fetch.burst(self.config)
        return beats * float(self.timing.beat_cycles) + 2 * self.row_cycles

    @property
    def fetch_latency(self):
        """From the request for a burst of the program to its first beat in a queue."""
        return 6 + self.timing.latency

    @property
    def write_ahead(self):
        """Cycles that vectors may be ahead of memory."""
        return WRITE_AHEAD * self.config.max_burst * float(self.timing.beat_cycles)

    def write_latency(self, sgd=False):
        """From the last vector of a POST to its `done`, its last burst not counted."""
        stage = self._stages["weight" if sgd else "result"]
        return stage + POST_TAIL + self.timing.latency

    def sweeps(self, f):
        """Sweeps of a COMPUTE instruction with the fields `f`."""
        tm, tn = self.config.tm, self.config.tn
        if f.get("dw"):
            vectors = ((f["ng"] - 1) * tn + f["lanes_last"]) * f["t1"] * f["t0"] + f["ones"]
            return Sweeps(-(-f["np"] // tn), vectors, max(vectors, tn, self.loop), tn + 1)
        vectors = f["q2"] * f["q1"] * f["q0"]
        fill = tm + 1 + (tn - 1 if f.get("a_pix") and not f.get("ident") else 0)
        count = f["ng"] * f["t1"] * f["t0"]
        return Sweeps(count, vectors, max(vectors, tm, self.loop), fill)

    def load(self, unit, f):
        """Work of a LOAD_A or LOAD_B."""
        positions = places = active = f["nb"] * f["n2"] * f["n1"] * f["n0"] * f["spp"]
        beats = f["d_len"] * f["d_n1"] * f["d_n2"] * f["d_n3"]
        runs = (f["d_len"], f["d_n1"], f["d_n2"], f["d_n3"])
        strides = (f["d_s1"], f["d_s2"], f["d_s3"])
        streams = ()
        if beats:
            stream = self.transfer(int(unit), False, beats, runs, strides)
            streams = (stream, stream) if f.get("unpool") else (stream,)
        if f.get("unpool"):
            active, places = places * f["a2"] // (f["n1"] * f["n0"]), places * f["u1"] * f["u0"]
        # padding that comes first hides latency
        before = (
            (f.get("lo1", 0) * f["n0"] + f.get("lo0", 0)) * f["spp"] * (places // max(1, positions))
        )
        lead = self.read_latency - before if beats else 0
        if f.get("unpool") and beats:  # the first tags come behind the first burst of gradients
            lead += min(f["d_len"], self.config.max_burst) * float(self.timing.beat_cycles)
            lead += self.row_cycles
        # the FIFO of its DMA holds what is asked for ahead of the buffer
        depth = self.read_ahead
        ahead = float("inf")
        if beats > depth:
            ahead = (depth - self.config.max_burst) * max(1.0, places / beats)
        bursts = 4 + f["d_n1"] * f["d_n2"] * f["d_n3"] + beats / self.config.max_burst
        return Work(places, streams, lead, 1, active, bursts, ahead, reads=beats > 0)

    def post(self, f):
        """Work of a POST."""
        config = self.config
        pixels = f["p2"] * f["p1"] * f["p0"]
        window = f["w1"] * f["w0"] if f.get("pool") else 1
        per = max(config.groups, window)
        beats = f["o_len"] * f["o_n1"] * f["o_n2"]
        runs, strides = (f["o_len"], f["o_n1"], f["o_n2"]), (f["o_s1"], f["o_s2"])
        streams = [self.transfer(0, True, beats, runs, strides)]
        narrow = config.fmt == "bf16"
        if f.get("tags") or f.get("mom"):
            half = 2 if f.get("tags") and narrow and f.get("out_fp32") else 1
            streams.append(self.transfer(1, True, beats // half, runs, strides))
        reads = f.get("opd_add") or f.get("mask") or f.get("sgd")
        if reads:
            streams.append(self.transfer(2, False, beats, runs, strides))
        if f.get("mom"):
            streams.append(self.transfer(1, False, beats, runs, strides))
        if f.get("src_mem"):
            size = pixels * config.groups
            size = size if f.get("src_fp32") or not narrow else -(-size // 2)
            streams.append(self.transfer(2, False, size, (size,), ()))
        lead = POST_LEAD
        if reads or f.get("bias") or f.get("src_mem"):
            lead = self.read_latency
        if f.get("bias"):  # vectors wait for the last of it, in a row of its own
            lead += config.groups + BIAS + self.row_cycles
        cycles = pixels * per
        first, last = self.bursts(f.get("out_base", 0), runs, strides)
        pace = max(1.0, cycles / max(1, beats))
        if self.timing.shared:  # vectors keep the pace of the channel
            pace = max(pace, float(self.timing.beat_cycles))
        served, since = self.ending(last, pace)
        lag = self.write_latency(f.get("sgd")) - self.timing.latency
        writes = ()
        if not self.timing.shared:
            writes = tuple(stream for stream in streams if stream.channel & 1)
            streams = [stream for stream in streams if not stream.channel & 1]
        return Work(
            cycles,
            tuple(streams),
            lead,
            lag + served + self.timing.latency,
            beats,
            writes=writes,
            lag=lag,
            turn=lead if f.get("bias") else POST_TURN,
            drained=cycles - per + window + DRAINED,
            room=self.drain_depth * per // config.groups,
            behind=self.drain_ahead * per // config.groups,
            bursts=4 + f["o_n1"] * f["o_n2"] + beats / config.max_burst,
            made=first * (pace + 1),
            busy=served - since,
            reads=lead > POST_LEAD,
        )

    def bursts(self, base, runs, strides):
        """Beats of the first burst and of the last ENDING ones, of runs from `base`: no burst
        crosses a multiple of the longest, runs that touch share theirs."""
        most, size = self.config.max_burst, self.config.beat_bytes
        length, n1, n2 = runs
        base //= size
        s1, s2 = (s // size for s in strides)
        touching = length if s1 != length else n1 * length
        if s2 == touching == n1 * length:
            touching *= n2
        first = min(touching, most - base % most)
        found, number = [], n1 * n2  # from the end
        while number and len(found) < ENDING:
            number -= 1
            start = base + number // n1 * s2 + number % n1 * s1
            end = start + length
            while number and end - start < ENDING * most:  # the run before may touch
                before = base + (number - 1) // n1 * s2 + (number - 1) % n1 * s1
                if before + length != start:
                    break
                number, start = number - 1, before
            while end > start and len(found) < ENDING:
                cut = max(start, (end - 1) // most * most)
                row = cut * size // self.timing.row_bytes if self.row_cycles else 0
                found.append((end - cut, row))
                end = cut
        return first, found[::-1]

    def ending(self, bursts, pace):
        """When memory has served the last `bursts` of a POST that makes a beat in `pace` cycles,
        counted from the last beat, and since when it has been busy without a pause.

        A burst goes to the port when it is made, one beat per cycle, and is served once there.
        """
        beat = float(self.timing.beat_cycles)
        left = sum(beats for beats, _ in bursts)
        open_row = bursts[0][1] if bursts else 0
        handed = served = since = -float("inf") if bursts else 0.0
        for beats, row in bursts:
            left -= beats
            handed = max(handed, -left * pace) + beats
            if handed > served:
                since = served = handed
            served += beats * beat + (row != open_row) * self.row_cycles
            open_row = row
        return served, since

    def vector_cycles(self, f):
        """Time that a POST takes of the vector unit and of memory, whichever is more."""
        work, channels = self.post(f), {}
        for stream in (*work.streams, *work.writes):
            channels[stream.channel] = channels.get(stream.channel, 0.0) + stream.among
        return max(work.cycles, *channels.values())

    def work(self, unit, f):
        """Sweeps of a COMPUTE, Work of any other instruction."""
        if unit == Unit.COMPUTE:
            return self.sweeps(f)
        return self.post(f) if unit == Unit.POST else self.load(unit, f)
