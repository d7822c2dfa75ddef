"""What the choice of a tile means for the passes before and after it.

A pass by itself cannot show it: while the array is busy with the last tiles of a pass, load units
bring in tiles of the next one. That matters where one of the two has to wait for its loads. The
weights are small, so that they decide only between candidates that are nearly equal: measured
on whole training steps.
"""

import numpy as np

__all__ = ["Neighbours"]

INSTRUCTION = 1.0  # cycles that an instruction counts: programs take memory, and time to make
CROWD = 0.005  # of the time that it takes to fill the buffer, for slots that leave it no room
EARLY = 0.01  # of the time that the next pass has because the loads of this one end early
HELD = 0.03  # of the loads that this pass waits for, and that fit the buffer beforehand


class Neighbours:
    """Cycles that other passes lose by a demand.

    Parameters
    ----------
    costs : Costs
    a_depth, b_depth : int
        Words of the tile buffers that the pass may use.
    """

    def __init__(self, costs, a_depth, b_depth):
        self._costs, self._depths = costs, (a_depth, b_depth)

    def cycles(self, demand, a_words, b_words):
        """Cycles lost by a Demand whose tiles have so many words, arrays; less than 0 if won."""
        config, array = self._costs.config, demand.array
        lost = INSTRUCTION * demand.instructions
        sides = (demand.a, a_words), (demand.b, b_words)
        paces = self._costs.paces(demand)
        for (load, words), pace, depth in zip(sides, paces, self._depths, strict=False):
            full = depth * config.tn // config.beat_elems  # cycles to fill the buffer
            last = np.minimum(1, load.slots / np.maximum(load.tiles, 1))  # part of all its tiles
            busy = load.cycles * pace
            lost = lost + CROWD * load.slots * words / depth * np.minimum(array, full)
            lost = lost - EARLY * np.minimum(last * array, full)
            lost = lost - HELD * np.minimum(last * busy, np.maximum(busy - array, 0))
        return lost
