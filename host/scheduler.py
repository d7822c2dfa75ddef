"""The scheduler: which tiles, chunks and loop order make a pass fastest on a device.

Candidates are compared three times, each time fewer of them and more closely: by a closed cost
(host/costs.py), by an outline of the pass (host/sketch.py), by its instructions (host/trial.py).
"""

from functools import cache

from .candidates_backward import BackwardCandidates
from .candidates_forward import ForwardCandidates
from .candidates_gradient import GradientCandidates
from .costs import Costs
from .durations import Machine
from .errors import UnsupportedError
from .trial import trial

__all__ = ["Scheduler", "scheduler"]

NEAR = 1.25  # how much more than the least a closed cost may be
KINDS = 4  # combinations of loops of which more than one candidate is sketched
TRIALS = 5  # candidates that are tried out
WORTH = 1.05  # how much more than the best one they may seem to take
PERFECT = 1.004  # nothing better is looked for so close to an array that never waits

PASSES = {
    "forward": (ForwardCandidates, "a {w.kernel} window on {w.size}"),
    "backward": (BackwardCandidates, "the gradient of a {w.kernel} window on {w.size}"),
    "gradient": (GradientCandidates, "the weight gradient of a {w.kernel} window on {w.size}"),
}


@cache
def scheduler(config, timing):
    """The Scheduler for a build and its memory; made once."""
    return Scheduler(config, timing)


class Scheduler:
    """Tiles for one device; the same question always gets the same answer.

    Parameters
    ----------
    config : Config
    timing : MemoryTiming
    """

    def __init__(self, config, timing):
        self.config, self.timing = config, timing
        self._costs = Costs(Machine(config, timing))
        self._choose = cache(self._choose)

    def forward(self, w, *, a_depth=None, b_depth=None):
        """Tile of the forward pass of Window `w`: rows and columns count outputs of the pooling, if
        any.

        Parameters
        ----------
        w : Window
        a_depth, b_depth : int or None
            Words of the tile buffers that are free for the pass; None: all.

        Raises UnsupportedError if no tile fits.
        """
        return self._choose("forward", w, a_depth, b_depth)

    def backward(self, w, tags=False, *, a_depth=None, b_depth=None):
        """Tile of the dX pass of Window `w`: rows and columns count input pixels of the window;
        with `tags`, these take the place of weights in buffer A. Otherwise as `forward`."""
        return self._choose("backward", w, a_depth, b_depth, tags)

    def gradient(self, w, *, a_depth=None, b_depth=None):
        """Tile of the dW pass of Window `w`: rows and columns count output pixels of the window.
        Otherwise as `forward`."""
        return self._choose("gradient", w, a_depth, b_depth)

    def _choose(self, kind, w, a_depth, b_depth, *select):
        """The Tile for a pass of PASSES; the rest as for the methods above."""
        config = self.config
        depths = tuple(
            whole if free is None else free
            for whole, free in ((config.a_depth, a_depth), (config.b_depth, b_depth))
        )
        candidates, what = PASSES[kind]
        space = candidates(w, self._costs, *depths, *select)
        found = space.found()
        if not found:
            raise UnsupportedError(
                f"no tile of {what.format(w=w)} fits buffers of {depths[0]} and {depths[1]} words "
                f"and {config.acc_depth} accumulators"
            )
        enough = PERFECT * min(one.array for one in found)
        best = None
        for one in self._closest(space, found, enough):
            cycles = trial(kind, w, one, config, self.timing, depths, *select)
            if best is None or cycles + one.beside < best[0]:
                best = cycles + one.beside, one.tile
            if cycles <= enough:
                break
        return best[1]

    def _closest(self, space, found, enough):
        """The candidates to be tried out, the most promising first; `enough` cycles are as good as
        any."""
        kinds = {}
        for one in found:
            if one.cost > NEAR * found[0].cost:
                break
            tile = one.tile
            kinds.setdefault((tile.chunks, tile.sets, tile.pixels_outer), []).append(one)
        sketched = {some[0]: space.sketch(some[0]) for some in kinds.values()}
        if min(sketched.values()) > enough:
            best = sorted(kinds.values(), key=lambda some: sketched[some[0]])[:KINDS]
            sketched |= {one: space.sketch(one) for some in best for one in some[1:]}
        best = sorted(sketched, key=lambda one: (sketched[one], one.cost))[:TRIALS]
        return [one for one in best if sketched[one] <= WORTH * sketched[best[0]]]
