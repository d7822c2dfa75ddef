"""A pass by itself, with a tile that may be chosen for it: how long would it take?"""

from contextlib import suppress
from itertools import accumulate
from types import SimpleNamespace

from gradgate.hw.isa import Unit

from .backward import InputGradient
from .buffers import Lowering, TileBuffer
from .durations import Machine
from .forward import Forward
from .prediction import predict
from .sketch import TIMES, extrapolated
from .tensors import FeatureMap, Weights
from .update import WeightGradient

__all__ = ["trial", "emit"]

ROOM = 1 << 26  # bytes between tensors that exist on paper only
ENOUGH = 600  # instructions


class _Enough(Exception):
    """So many instructions show how the pass goes on."""


class _Beginning(Lowering):
    """The first instructions of a program."""

    def compute(self, *arguments, **fields):
        if len(self.program) >= ENOUGH:
            raise _Enough
        super().compute(*arguments, **fields)


def trial(kind, w, candidate, config, timing, depths, select=False):
    """Predicted cycles of a pass, as one of TIMES that follow each other.

    Parameters
    ----------
    kind : str
        "forward", "backward" or "gradient".
    w : Window
    candidate : Candidate
    config : Config
    timing : MemoryTiming
    depths : (int, int)
        Words of buffers A and B that the pass may use.
    select : bool
        Tags choose the lanes of an identity (maximum pooling, backward).
    """
    scheduler = SimpleNamespace(config=config, timing=timing, **{kind: lambda *_: candidate.tile})
    lw = _Beginning(scheduler)
    lw.a, lw.b = map(TileBuffer, depths)
    with suppress(_Enough):
        for _ in range(TIMES):
            emit(kind, lw, w, config, select)
        return predict(lw.finished(), config, timing).cycles / TIMES
    program = lw.finished()
    machine = Machine(config, timing)
    sweeps = [machine.sweeps(f) for unit, f in program.instructions if unit == Unit.COMPUTE]
    work = accumulate(s.count * s.period + max(s.fill - 1 - s.period, 0) for s in sweeps)
    done = predict(program, config, timing).records["COMPUTE"]["done"].tolist()
    return extrapolated(list(zip(work, done, strict=True)), candidate)


def emit(kind, lw, w, config, select=False):
    """Emit the pass of Window `w` on tensors of its own; parameters as of `trial`."""
    lw.program.label = "", kind
    place = iter(range(0, 1 << 32, ROOM))

    def feature_map(channels, size, block=config.tm):
        return FeatureMap(
            kind, w.images, channels, *size, block, config.fmt, address=next(place), region=object()
        )

    x = feature_map(w.n, w.size, 4 if w.packed else config.tm)
    y = feature_map(w.m, w.drained)
    tags = feature_map(w.m, w.drained) if w.pool is not None or select else None
    weights = None
    if not w.ident:
        weights = Weights(kind, w.m, w.n, *w.kernel, config)
        weights.master, weights.momentum, weights.copy = next(place), next(place), next(place)
    if kind == "forward":
        bias = weights is not None
        Forward(lw, w, x, y, weights=weights, bias=bias, relu=True, tags=tags).emit()
    elif kind == "backward":
        dx = feature_map(w.n, w.size)
        mask = feature_map(w.n, w.size)
        InputGradient(lw, w, y, dx, weights=weights, tags=tags, mask=mask).emit()
    else:
        WeightGradient(lw, w, x, y, weights, tags=tags, key=0).emit()
