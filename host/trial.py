"""A pass by itself, with a tile that may be chosen for it: how long would it take?"""

from dataclasses import replace
from types import SimpleNamespace

from .backward import InputGradient
from .buffers import Lowering, TileBuffer
from .forward import Forward
from .tensors import FeatureMap, Weights
from .timeline import predict
from .update import WeightGradient

__all__ = ["trial"]

ROOM = 1 << 26  # bytes between tensors that exist on paper only
PLACES = 3  # tiles one below the other that are enough
TIMES = 2  # passes one after the other, so that one hides the beginning and end of another


def trial(kind, w, tile, config, timing, depths, select=False):
    """Predicted cycles of a pass, as one of several that follow each other.

    Parameters
    ----------
    kind : str
        "forward", "backward" or "gradient".
    w : Window
    tile : Tile
    config : Config
    timing : MemoryTiming
    depths : (int, int)
        Words of buffers A and B that the pass may use.
    select : bool
        Tags choose the lanes of an identity (maximum pooling, backward).
    """
    part = _part(kind, w, tile)
    scheduler = SimpleNamespace(
        config=config,
        timing=timing,
        forward=lambda _: tile,
        backward=lambda *_: tile,
        gradient=lambda _: tile,
    )
    lw = Lowering(scheduler)
    lw.a, lw.b = map(TileBuffer, depths)
    lw.program.label = "", kind
    for _ in range(TIMES):
        _emit(kind, lw, part, config, select)
    return predict(lw.finished(), config, timing).cycles / TIMES * _work(w) / _work(part)


def _work(w):
    return w.images * w.drained[0]


def _part(kind, w, tile):
    """As much of Window `w` as shows how its tiles follow each other: some images, or some rows of
    one where pixels are the outer loop."""
    if tile.images > 1 or w.images > TIMES:
        return replace(w, images=min(w.images, max(TIMES * tile.images, 2)))
    if kind == "gradient" or not tile.pixels_outer or tile.rows * PLACES >= w.drained[0]:
        return w
    rows = tile.rows * PLACES
    if kind == "backward":
        rows = (rows + 2 * w.padding[0] - w.kernel[0]) // w.stride[0] + 1
    else:
        rows = w.pooled(0, rows)
    size = (rows - 1) * w.stride[0] + w.kernel[0] - 2 * w.padding[0]
    part = replace(w, size=(size, w.size[1]), out=(rows, w.out[1]))
    return part if size > 0 and rows < w.out[0] and part.drained[0] > 0 else w


def _emit(kind, lw, w, config, select):
    """Emit the pass of Window `w` on tensors of its own."""
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
