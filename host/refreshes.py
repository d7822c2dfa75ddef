"""When memory serves nobody because it refreshes itself."""

__all__ = ["Refreshes"]

BEFORE = 6  # cycles from where memory counts its refreshes to the program's first cycle


class Refreshes:
    """Refreshes of a memory that counts them from the start of the program.

    Parameters
    ----------
    timing : MemoryTiming

    Members
    -------
    next : float
        Cycle of the program in which the next one begins, of those that have not passed by.
    cycles : int
        What one takes.
    lost : int
        What a transfer alone on its channel loses by one: these cycles, and those for the row that
        it finds closed. Less than the interval, as memory gets on.
    """

    def __init__(self, timing):
        self.interval, self.cycles = timing.refresh_interval, timing.refresh_cycles
        self.lost = min(
            self.cycles + timing.miss_cycles, max(self.cycles, (self.interval + self.cycles) // 2)
        )
        self.next = self.interval - BEFORE if self.interval else float("inf")

    def pass_by(self):
        """The one that was next is over."""
        self.next += self.interval

    def resumed(self, time):
        """`time`, or the end of the refresh that it falls into."""
        if not self.interval or time + BEFORE < self.interval:
            return time
        since = (time + BEFORE) % self.interval
        return time + self.cycles - since if since < self.cycles else time

    def served(self, begin, cycles):
        """When a channel that is free from `begin` has served for so many cycles."""
        if not self.interval:
            return begin + cycles
        begin = self.resumed(begin)
        # time from the end of the refresh before
        since = (begin + BEFORE - self.cycles) % self.interval
        if begin + BEFORE < self.interval:
            since = begin + BEFORE - self.cycles
        rounds = (since + cycles) // (self.interval - self.lost)
        return begin + cycles + rounds * self.lost
