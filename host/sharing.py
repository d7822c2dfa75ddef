"""How the transfers under way share a memory channel: docs/model.md, section 3."""

__all__ = ["share", "slots"]


def share(streams, paces, outstanding):
    """Paces of transfers that one channel serves.

    Parameters
    ----------
    streams : list of (unit, cycles, Transfer)
        All streams that go through the channel; at full pace the datapath of `unit` takes `cycles`
        for the transfer.
    paces : dict
        Progress per cycle that each unit may make otherwise, at most 1.
    outstanding : int
        Bursts that the channel's queue of reads holds.

    Returns (the part of the channel's time that all together want at full pace, {unit: pace}).
    """
    several = len(streams) > 1
    held = slots([stream.ahead for _, _, stream in streams], outstanding)
    reads, writes, weights, bursts = {}, {}, {}, ([], [])
    for (unit, cycles, stream), count in zip(streams, held, strict=True):
        part = (stream.among if several else stream.alone) / max(cycles, 1)
        if stream.ahead:
            reads[unit] = reads.get(unit, 0.0) + part
            weights[unit] = weights.get(unit, 0.0) + count * stream.burst
            bursts[0].append((count, stream.burst))
        else:
            writes[unit] = writes.get(unit, 0.0) + part
            bursts[1].append((1, stream.burst))
    wanted = sum(reads.values()) + sum(writes.values())
    found = {unit: paces[unit] for unit in (*reads, *writes)}
    read, write = (sum(found[u] * part for u, part in side.items()) for side in (reads, writes))
    if read + write <= 1.0:
        return wanted, found

    # reads and writes take turns, a burst each, if bursts of both wait
    if write:
        own = sum(found[u] * part for u, part in reads.items() if u in writes)
        read_burst, write_burst = map(_mean, bursts)
        turns = write_burst / (write_burst + read_burst)
        room = max((1.0 - read + own) / (write + own), turns / write)
        for unit in writes:
            found[unit] *= min(1.0, room)
    # a unit that reads and writes does both at the same pace
    left = 1.0 - sum(found[u] * part for u, part in writes.items() if u not in reads)
    parts = {u: part + writes.get(u, 0.0) for u, part in reads.items()}
    weights = {u: weights[u] * part / reads[u] for u, part in parts.items()}
    given = _divide(left, {u: found[u] * part for u, part in parts.items()}, weights)
    return wanted, found | {u: given[u] / part for u, part in parts.items()}


def slots(ahead, count):
    """Places that each stream has in a queue of `count` bursts if it asks for `ahead` at once and
    they are let in in turn; 0 for writes, which are not in it."""
    held, left = [0.0] * len(ahead), float(count)
    order = sorted((i for i, bursts in enumerate(ahead) if bursts), key=lambda i: ahead[i])
    for done, i in enumerate(order):
        held[i] = min(ahead[i], left / (len(order) - done))
        left -= held[i]
    return held


def _mean(bursts):
    """Time of a burst, of [(how many, time)]; 0 if there are none."""
    return sum(n * time for n, time in bursts) / sum(n for n, _ in bursts) if bursts else 0.0


def _divide(left, wants, weights):
    """Divide `left` of the channel's time: whoever wants no more than an equal share has it, the
    others what they want or in proportion to `weights`."""
    given = {}
    for unit, want in sorted(wants.items(), key=lambda one: one[1]):
        if want > left / (len(wants) - len(given)):
            break
        given[unit] = want
        left -= want
    rest = sorted((u for u in wants if u not in given), key=lambda u: wants[u] / weights[u])
    together = sum(weights[u] for u in rest)
    for unit in rest:
        given[unit] = min(wants[unit], left * weights[unit] / together)
        left, together = left - given[unit], together - weights[unit]
    return given
