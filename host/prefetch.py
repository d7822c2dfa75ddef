"""Order of a program: every instruction as early as its unit's queue has room for it.

The sequencer hands out instructions in the order of the program, and an instruction whose queue is
full holds up all behind it. Passes are emitted one after the other, so transfers of the next pass
would only begin when the last instructions of this one wait in their queues. Here the units'
instructions are interleaved anew; the order within each unit, and so every token, stays.
"""

from .timeline import entries

__all__ = ["prefetch"]


def prefetch(program, config, timing):
    """Reorder a Program so that no unit waits for the queue of another.

    An instruction still comes after all that it waits for, so that the program can be executed one
    instruction after the other, and cannot deadlock. For the small core it stays as it is.
    """
    if config.core == "micro":  # no queues
        return
    entered = entries(program, config, timing)
    given = {}  # (from, to) -> places in the order of instructions that signal
    taken = {}
    last = {}
    places = []
    for (unit, fields), time in zip(program.instructions, entered, strict=True):
        unit = int(unit)
        place = max(time, last.get(unit, 0.0))
        for other in range(4):
            if fields["wait"] >> other & 1:
                number = taken.get((other, unit), 0)
                taken[other, unit] = number + 1
                place = max(place, given[other, unit][number])
        for other in range(4):
            if fields["signal"] >> other & 1:
                given.setdefault((unit, other), []).append(place)
        last[unit] = place
        places.append(place)
    program.reorder(sorted(range(len(places)), key=lambda index: (places[index], index)))
