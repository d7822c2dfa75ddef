"""When every instruction of a program starts and ends, predicted from closed formulas.

Each unit executes its instructions in order, each begins when its tokens are there, and lasts as
long as host/durations.py says; transfers that meet in a memory channel share it. docs/model.md
derives the rules.
"""

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
from gradgate.hw.fetch import Fetch
from gradgate.hw.isa import Unit
from gradgate.hw.issue import Issue

from .device import RECORD, UNITS
from .durations import PORT_IN, POST_GAP, Machine
from .refreshes import Refreshes
from .sharing import share

__all__ = ["Prediction", "predict", "entries"]


COMPUTE, POST = int(Unit.COMPUTE), int(Unit.POST)
QUEUE = Issue.DEPTH + 1  # instructions that wait in a unit's queue
FIRST = 4  # cycles from the start of a read to its first command
HANDOVER = 4  # cycles from the end of an instruction to the offer of one that waits for its token
ASKED = 2  # cycles from the room for a burst of the program to its request


@dataclass
class Prediction:
    """Predicted run of a program: `cycles`, and `records` per unit in the form of
    Counters.records."""

    cycles: int
    records: dict


def predict(program, config, timing):
    """Prediction for a Program on a device with Config `config` and MemoryTiming `timing`."""
    return _Timeline(program.instructions, Machine(config, timing)).run()


def entries(program, config, timing):
    """Cycle in which each instruction would enter its queue if those did not wait for one
    another."""
    instructions = program.instructions
    timeline = _Timeline(instructions, Machine(config, timing), apart=True)
    timeline.run()
    queues = [iter(queue.entered) for queue in timeline.queues]
    return [next(queues[unit]) for unit, _ in instructions]


class _Queue:
    """Instructions of one unit, and what it does with them."""

    def __init__(self):
        self.work = []  # Sweeps or Work, in order
        self.wait, self.signal = [], []  # masks as tuples of units
        self.entered = []  # cycle of the first beat of the instruction in the queue
        self.head = 0  # next to be offered
        self.offered = False
        self.accepted = -1  # cycle of the latest acceptance
        self.starved = []
        self.start, self.done = [], []
        # of the instruction under way
        self.pending = None  # offered while the unit is busy
        self.busy = False
        self.left, self.rate, self.since = 0.0, 0.0, 0.0
        self.ahead, self.ahead_at = 0.0, 0.0  # cycles that memory is ahead of it, and when
        self.stalled = 0.0  # end of the last refresh that it has felt
        self.served = 0.0  # when memory had served the transfer before
        self.flow = None
        self.version = 0
        # of the last one
        self.end, self.last_sweep = -POST_GAP, -1
        self.complete, self.written = -1.0, 0.0  # `done`, end of its writes
        self.turn = 0  # of a POST's vectors
        self.waiting = None  # a POST that has been accepted before its turn
        self.asked, self.issued = 0, 0  # of a LOAD's read: its start, its last command


class _Timeline:
    def __init__(self, instructions, machine, apart=False):
        self.machine, self.apart = machine, apart
        self.beats = machine.instruction_beats
        self.instruction = self.beats * max(1.0, float(machine.timing.beat_cycles))  # from memory
        self.queues = [_Queue() for _ in UNITS]
        self.order = []
        for unit, fields in instructions:
            queue = self.queues[unit]
            queue.work.append(machine.work(unit, fields))
            queue.wait.append(tuple(u for u in range(4) if fields["wait"] >> u & 1))
            queue.signal.append(tuple(u for u in range(4) if fields["signal"] >> u & 1))
            self.order.append(int(unit))
        self.tokens = [[0] * 4 for _ in UNITS]
        self.heap, self.serial = [], 0
        self.dispatched, self.next_beat = 0, 0
        self.come = []  # bursts of the program
        # instructions in a burst of the program, bursts ahead; shorter bursts count as whole ones
        burst = max(Fetch.burst(machine.config), self.beats)
        self.fetch = burst // self.beats, Fetch.AHEAD // burst
        self.refreshes = Refreshes(machine.timing)
        self.fetching = 0.0, 0.0  # latest burst of the program: when asked for, end on its channel
        self.flows, self.used, self.mixed = {}, {}, set()
        self.written = {}  # channel -> when it has written all so far

    def at(self, time, action, *arguments):
        self.serial += 1
        heappush(self.heap, (time, self.serial, action, arguments))

    def run(self):
        now = 0
        if not self.apart:
            for number in range(self.fetch[1]):
                self.ask(0, ASKED + number)
        self.at(0, self.dispatch)
        while self.heap:
            # as the units see it: what memory does not serve does not arrive
            refresh = self.refreshes.next + PORT_IN
            if self.heap[0][0] >= refresh:
                self.refreshes.pass_by()
                self.refresh(refresh)
                continue
            now, _, action, arguments = heappop(self.heap)
            action(now, *arguments)
        records = {}
        for name, queue in zip(UNITS, self.queues, strict=True):
            assert len(queue.done) == len(queue.work), f"{name} stops: the program is not sound"
            table = np.zeros(len(queue.work), RECORD)
            table["start"] = np.floor(
                np.asarray(queue.start) + 0.5
            )  # in order, unlike round to even
            table["done"] = np.floor(np.asarray(queue.done) + 0.5)
            table["starved"] = np.round(queue.starved)
            table["active"] = [
                w.count * w.vectors if name == "COMPUTE" else w.active for w in queue.work
            ]
            records[name] = table
        last = max((queue.done[-1] for queue in self.queues if queue.done), default=0)
        return Prediction(round(last) + 5, records)

    # the sequencer

    def ask(self, now, asked):
        """Another burst of the program is asked for in the cycle `asked`."""
        per, _ = self.fetch
        due = self.refreshes.resumed(asked + self.machine.fetch_latency)
        self.at(max(now, due), self.disturb, asked)
        # bursts come one after the other
        before = self.come[-1] + per * self.instruction if self.come else 0
        self.come.append(max(due, before))

    def arrival(self, number):
        """Cycle in which the program's instruction `number` has come from memory."""
        per, _ = self.fetch
        return self.come[number // per] + number % per * self.instruction

    def dispatch(self, now):
        """Move instructions to the queues as long as there is room."""
        order, queues = self.order, self.queues
        if self.apart:
            for unit, queue in enumerate(queues):
                while len(queue.entered) < min(len(queue.work), len(queue.start) + QUEUE):
                    queue.entered.append(now)
                self.offer(now, unit)
            return
        while self.dispatched < len(order):
            unit = order[self.dispatched]
            queue = queues[unit]
            number = len(queue.entered)
            if number - len(queue.start) >= QUEUE:
                return
            time = max(self.next_beat, self.arrival(self.dispatched), now)
            self.next_beat = time + self.beats
            if (self.dispatched + 1) % self.fetch[0] == 0:
                self.ask(now, self.next_beat + ASKED - 1)
            queue.entered.append(time)
            self.dispatched += 1
            if number == queue.head and not queue.offered:
                self.offer(now, unit)

    def offer(self, now, unit):
        """Offer the head of a queue if it is complete and its tokens are there."""
        queue = self.queues[unit]
        number = queue.head
        if queue.offered or number >= len(queue.entered):
            return
        tokens = self.tokens
        wait = queue.wait[number]
        for other in wait:
            if not tokens[other][unit]:
                return
        for other in wait:
            tokens[other][unit] -= 1
        full = max(queue.entered[number], queue.accepted) + self.beats + 2
        time = max(full + 1, now + HANDOVER)
        queue.starved.append(max(0, time - full - 1))
        queue.offered = True
        self.at(time, self.begin, unit)

    def accept(self, now, unit):
        queue = self.queues[unit]
        queue.start.append(now)
        queue.accepted = now
        queue.offered = False
        queue.head += 1
        self.at(now + 1, self.after_accept, unit)

    def after_accept(self, now, unit):
        self.offer(now - HANDOVER, unit)
        self.dispatch(now)

    def complete(self, now, unit, number):
        queue = self.queues[unit]
        queue.done.append(now)
        for other in queue.signal[number]:
            self.tokens[unit][other] += 1
            self.offer(now, other)

    # the units

    def begin(self, now, unit):
        """The head of a queue is on offer."""
        queue = self.queues[unit]
        if unit == COMPUTE:
            self.at(max(now, queue.last_sweep), self.compute)
        elif queue.busy:
            queue.pending = now
            if unit == POST:
                self.expect(now)
        else:
            self.launch(now, now, unit)

    def compute(self, now):
        queue = self.queues[COMPUTE]
        number = queue.head
        self.accept(now, COMPUTE)
        work = queue.work[number]
        machine = self.machine
        first = max(now + work.fill, queue.end, queue.last_sweep + machine.loop)
        queue.last_sweep = first + work.to_last
        queue.end = queue.last_sweep + work.vectors
        self.at(queue.end - 1 + machine.compute_latency, self.complete, COMPUTE, number)

    def launch(self, now, offered, unit):
        """LOAD or POST accepts the instruction offered earlier. A LOAD has ended with the one
        before; the vectors of a POST may be still to come, then its own follow."""
        queue = self.queues[unit]
        number = queue.head
        self.accept(now, unit)
        if unit == POST:
            if queue.busy:
                queue.waiting = number
            else:
                self.enter(now, number)
            return
        queue.busy = True
        work = queue.work[number]
        # reading begins when all commands of the one before are out
        queue.asked = max(offered, queue.issued)
        begin = self.first(max(now + 1, queue.asked + work.lead), work)
        queue.ahead = max(0.0, begin - max(queue.asked + work.lead, queue.served))
        queue.ahead_at = begin
        self.at(begin, self.stream, unit, number)

    def enter(self, now, number):
        """It is the turn of an accepted POST's vectors."""
        queue = self.queues[POST]
        work = queue.work[number]
        queue.busy = True
        queue.asked = queue.start[number]
        queue.turn = max(queue.asked + work.turn, queue.end + POST_GAP)
        begin = self.first(max(queue.asked + work.lead, queue.end + POST_GAP), work)
        queue.ahead, queue.ahead_at = 0.0, begin
        self.at(begin, self.stream, POST, number)
        if queue.pending is not None:
            self.expect(now)

    def first(self, begin, work):
        """When the datapath of `work` begins if nothing but a refresh is in its way."""
        return self.refreshes.resumed(begin - PORT_IN) + PORT_IN if work.reads else begin

    def expect(self, now):
        """A POST waits while another one has its turn: when will it be accepted? If the drain has
        no room for all vectors of the other one, its end tells."""
        queue = self.queues[POST]
        number = queue.head - 1
        if queue.waiting is None and queue.work[number].cycles <= queue.work[number].room:
            self.at(max(now, self.drained(number)), self.follow, queue.head)

    def drained(self, number):
        """When a POST could follow the one whose turn it is, as far as that reads accumulators."""
        queue = self.queues[POST]
        return max(queue.start[number] + queue.work[number].drained, queue.turn + 1)

    def follow(self, now, number):
        """A POST is accepted before the vectors of the one before have ended."""
        queue = self.queues[POST]
        if queue.pending is not None and queue.head == number:
            offered, queue.pending = queue.pending, None
            self.launch(now, offered, POST)

    def stream(self, now, unit, number):
        queue = self.queues[unit]
        work = queue.work[number]
        fetched, until = self.fetching
        more = 0.0
        if (
            work.reads
            and now < until
            and self.machine.channel(2, False) in (s.channel for s in work.streams)
        ):
            if fetched < queue.asked + FIRST:
                self.at(until, self.stream, unit, number)
                return
            if fetched < queue.asked + work.bursts:
                more = self.machine.fetch_cycles
        queue.left, queue.since, queue.rate = work.cycles, now, 0.0
        queue.flow = number
        self.flows[unit] = work
        queue.written = 0.0
        for stream in work.writes:
            begin = max(self.written.get(stream.channel, 0.0), now + work.made)
            end = self.refreshes.served(begin + work.lag, stream.alone)
            end -= work.lag
            self.written[stream.channel] = end
            queue.written = max(queue.written, end)
        self.share(now)
        if more:  # it loses that time, at its pace
            queue.left += more * queue.rate
            queue.version += 1
            self.at(now + queue.left / queue.rate, self.finish, unit, queue.version)

    def disturb(self, now, asked):
        """A burst of the program, asked for in the cycle `asked`, passes the channel that others
        use."""
        channel = self.machine.channel(2, False)
        took = self.machine.fetch_cycles
        self.fetching = asked, now + took
        for unit, work in self.flows.items():
            here = [s for s in work.streams if s.channel == channel]
            used = sum(s.alone for s in here)
            queue = self.queues[unit]
            left = queue.left - (asked - queue.since) * queue.rate
            # what had been asked for before comes before
            ahead = 0 if self.machine.timing.shared else self.machine.read_ahead
            late = any(left / max(1, work.cycles) * s.beats > ahead for s in here)
            if here and (late or asked < queue.asked + work.bursts):
                queue.left -= (now - queue.since) * queue.rate
                queue.left += took * min(1.0, used / work.cycles) * queue.rate
                queue.since, queue.rate = now, 0.0  # when it ends is seen anew
        self.share(now)

    def refresh(self, now):
        """Memory stops for a while; what a unit has ahead in its FIFO covers some of it."""
        for unit, work in self.flows.items():
            queue = self.queues[unit]
            if not work.streams:
                continue
            self.fill(now, unit, work)
            left = queue.left - (now - queue.since) * queue.rate
            # where streams take turns, each burst opens a row anyway
            lost = self.refreshes.cycles if unit in self.mixed else self.refreshes.lost
            lost -= queue.ahead
            if queue.ahead < left and lost > 0:
                queue.stalled = now + self.refreshes.cycles
                queue.left, queue.since = left + lost * queue.rate, now
                queue.version += 1
                self.at(now + queue.left / queue.rate, self.finish, unit, queue.version)
            queue.ahead = max(0.0, -lost)
            queue.ahead_at = now + self.refreshes.cycles

    def fill(self, now, unit, work):
        """Memory runs ahead of a transfer's datapath in what nobody wants of its channels."""
        queue, used = self.queues[unit], self.used[unit]
        if used < 1.0 and now > queue.ahead_at:
            more = (now - queue.ahead_at) * (1.0 / used - 1.0)
            most = self.machine.read_ahead * work.cycles / max(s.beats for s in work.streams)
            queue.ahead, queue.ahead_at = min(queue.ahead + more, most), now

    def share(self, now):
        """Divide the channels among the transfers under way, and see when each will end."""
        rates = self.rates()
        for unit, rate in rates.items():
            queue = self.queues[unit]
            if rate == queue.rate:
                continue
            queue.left -= (now - queue.since) * queue.rate
            queue.since, queue.rate = now, rate
            queue.version += 1
            self.at(now + max(0.0, queue.left) / rate, self.finish, unit, queue.version)

    def rates(self):
        """Progress per cycle of every transfer. Sets `used`, the part that is wanted of the busiest
        channel of each, and `mixed`, who has a channel not for a stream alone."""
        channels = {}
        for unit, work in self.flows.items():
            for stream in work.streams:
                channels.setdefault(stream.channel, []).append((unit, work.cycles, stream))
        rates = dict.fromkeys(self.flows, 1.0)
        self.used, self.mixed = dict.fromkeys(self.flows, 0.0), set()
        for streams in channels.values():
            used, paces = share(streams, rates, self.machine.timing.outstanding)
            rates |= paces
            for unit in paces:
                self.used[unit] = max(self.used[unit], used)
            if len(streams) > 1:
                self.mixed |= paces.keys()
        return rates

    def finish(self, now, unit, version):
        queue = self.queues[unit]
        if version != queue.version:
            return
        number = queue.flow
        work = self.flows[unit]
        held = queue.written - self.machine.write_ahead
        if held > now:  # no room for more before memory has taken some
            queue.version += 1
            queue.left = 0.0
            self.at(held, self.finish, unit, queue.version)
            return
        if work.streams:
            self.fill(now, unit, work)
            queue.served = now - queue.ahead
        del self.flows[unit]
        queue.version += 1
        self.share(now)
        latency = self.machine.timing.latency
        if unit == POST:
            # a refresh that has held up the vectors does not hold up what they make once more
            end = now + work.tail - latency
            since = max(end - work.busy, min(queue.stalled, end))
            end = self.refreshes.served(since, end - since)
            end = max(end, queue.written + work.lag) + latency
        else:
            end = now + work.tail
        queue.complete = max(end, queue.complete + 1)
        self.at(queue.complete, self.complete, unit, number)
        queue.end = now
        if unit == POST:
            queue.busy = False
            if queue.waiting is not None:
                waiting, queue.waiting = queue.waiting, None
                self.enter(now, waiting)
            elif queue.pending is not None:
                offered, queue.pending = queue.pending, None
                free = max(self.drained(number), now - work.behind)
                self.launch(max(offered, free), offered, unit)
        else:
            queue.issued = max(queue.asked + work.bursts, now - work.ahead)
            self.at(now, self.free, unit)

    def free(self, now, unit):
        queue = self.queues[unit]
        queue.busy = False
        if queue.pending is not None:
            offered, queue.pending = queue.pending, None
            self.launch(now, offered, unit)
