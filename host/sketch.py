"""A pass in outline: when tiles are loaded, used and drained, without instructions.

Between the closed cost of a candidate (host/costs.py), which knows no order, and the prediction of
its instructions (host/trial.py), which takes a hundred times as long.
"""

__all__ = ["TIMES", "extrapolated", "sketch"]

TIMES = 2  # passes one after the other, so that one hides the beginning and end of another
STEPS = 256  # uses of tiles that are enough
TOKEN = 4  # cycles from one unit's `done` to what another does about it


class _Tiles:
    """A tile buffer and the unit that loads it."""

    def __init__(self, slots, pace, latency):
        self.pace, self.latency, self.free, self.kept = pace, latency, [0.0] * slots, {}
        self.begun = self.end = 0.0

    def forget(self):
        """The next pass begins: slots are free when their last use ends."""
        self.free += [used for _, used in self.kept.values()]
        self.free.sort(reverse=True)
        self.kept = {}

    def ready(self, key, cycles):
        """When the tile is there; loaded if it is not, in the place of the one used longest ago."""
        if key in self.kept:
            self.kept[key] = found = self.kept.pop(key)
            return found[0]
        if self.free:
            free = self.free.pop()
        else:
            _, free = self.kept.pop(next(iter(self.kept)))
        # reading begins while the tile before is still being written
        asked = max(free + TOKEN, self.begun)
        self.begun = max(self.end + 1, asked + self.latency)
        self.end = self.begun + cycles * self.pace
        self.kept[key] = [self.end, 0.0]
        return self.end

    def used(self, key, time):
        self.kept[key][1] = time


def sketch(regions, candidate, a_slots, b_slots, machine, fill):
    """Cycles of a pass, as one of TIMES that follow each other.

    Parameters
    ----------
    regions : function
        Returns an iterator over what regions of accumulators go through: (steps, cycles of all
        their POSTs). A step is (key and places of a tile of buffer A, the same of B, array cycles);
        a key None is no tile.
    candidate : Candidate
    a_slots, b_slots : int
        Tiles that the buffers hold.
    machine : Machine
    fill : int
        Cycles that the array needs to begin with an instruction.
    """
    pace_a, pace_b, pace_post = candidate.paces
    a = _Tiles(a_slots, pace_a, machine.read_latency)
    b = _Tiles(b_slots, pace_b, machine.read_latency)
    array = work = post = 0.0
    free, turn, done = [0.0, 0.0], 0, []
    for _ in range(TIMES):
        for steps, drain in regions():
            begin = free[turn]
            for a_key, a_places, b_key, b_places, cycles in steps:
                start = max(begin, b.ready(b_key, b_places))
                if a_key is not None:
                    start = max(start, a.ready(a_key, a_places))
                array = max(array, start + TOKEN + fill) + cycles
                work += cycles
                end = array + machine.compute_latency
                b.used(b_key, end)
                if a_key is not None:
                    a.used(a_key, end)
                done.append((work, array))
                if len(done) == STEPS:
                    return extrapolated(done, candidate)
            post = max(post, end + TOKEN) + drain * pace_post
            free[turn] = post + candidate.tail
            turn ^= 1
        a.forget()
        b.forget()
    return max(array, *free) / TIMES


def extrapolated(done, candidate):
    """Cycles of a pass with a Candidate, as one of TIMES, of which a beginning is known.

    Parameters
    ----------
    done : list of (float, float)
        Work of the array done at some times, ascending. As the last half of it went, it goes on.
    candidate : Candidate
    """
    last, end = done[-1]
    work, time = next(one for one in done if one[0] >= last / 2)
    left = TIMES * candidate.array - last
    cycles = end + left * (end - time) / max(last - work, 1)
    # what comes later may be slower, as tiles at edges are
    return max(cycles / TIMES, candidate.bound)
