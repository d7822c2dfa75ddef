"""Results that stay in the accumulators until the vector unit has time for them."""

from collections import deque

__all__ = ["STARTED", "Background"]

STARTED = 32  # cycles that a POST costs besides its work
SHARE = 0.75  # of the accumulators that may hold results that wait
WORTH = 24  # accumulators that a POST should take out at least


class Background:
    """Results in the upper ends of both regions of accumulators, taken out piece by piece while the
    array works in the other region.

    The update of a linear layer takes the vector unit much longer than the gradient takes the
    array; in convolutions it is the other way round.

    Parameters
    ----------
    depth : int
        Accumulators of a region.
    pause : int or None
        Cycles that the vector unit is to be idle before the array wants a region back: how much is
        best depends on how regular the passes are. None: nothing may wait.
    """

    def __init__(self, depth, pause=0):
        self._depth, self._pause = depth, pause
        self._free = [depth, depth]
        self._waiting = deque(), deque()  # per region: [first, entries, cycles, function]

    @property
    def waiting(self):
        """Whether there is anything to take out."""
        return any(self._waiting)

    def free(self, region):
        """Accumulators of a region that nothing waits in, from its first on."""
        return self._free[region]

    def room(self, sizes):
        """Whether results of all these sizes may wait: some accumulators are for the passes under
        way, and nothing else must wait."""
        halves = [0, 0]
        for size in sizes:
            halves[halves[1] < halves[0]] += size
        fits = max(halves) <= SHARE * self._depth
        return self._pause is not None and fits and not self.waiting

    def reserve(self, size):
        """A place for `size` results: (region, first accumulator, counted from that of the
        region)."""
        region = int(self._free[1] > self._free[0])
        self._free[region] -= size
        return region, self._free[region]

    def add(self, region, entries, cycles, emit):
        """Results are in a place of `region`. The vector unit needs `cycles` for each; `emit(first,
        count)` takes out those from `first` on, counted from 0."""
        self._waiting[region].append([0, entries, cycles, emit])

    def offer(self, region, cycles):
        """The array works outside `region` for so many cycles, and the vector unit has nothing else
        to do: emits what fits."""
        waiting = self._waiting[region]
        cycles -= self._pause or 0
        while waiting:
            first, entries, each, emit = waiting[0]
            left = entries - first
            some = min(left, int((cycles - STARTED) / each))
            if some < min(WORTH, left):
                return
            cycles -= some * each + STARTED
            emit(first, some)
            waiting[0][0] += some
            if some == left:
                waiting.popleft()
        self._free[region] = self._depth

    def finish(self):
        """Emit all that is left."""
        for region, waiting in enumerate(self._waiting):
            while waiting:
                first, entries, _, emit = waiting.popleft()
                emit(first, entries - first)
            self._free[region] = self._depth
