"""The loop nest of a pass, as its tile says: loops, and where each operand lives in them."""

from dataclasses import asdict, dataclass
from math import prod

from .tiling import SLOTS_MAX

__all__ = ["Buffer", "Loop", "Nest", "nest", "stored_bytes"]

DRAM, ACC = "DRAM", "acc"
OPERANDS = {
    "forward": ("weights", "input", "output"),
    "dX": ("weights", "gradient", "dX"),
    "dW": ("gradient", "input", "dW"),
}


@dataclass
class Loop:
    """One loop: `count` times `what`.

    `levels` says for A, B and the results where one whole execution of the loop finds them: "DRAM",
    or on chip ("A", "B", "acc"), where everything it needs lies at once, brought in no more than
    once.
    """

    what: str
    count: int
    levels: tuple


@dataclass
class Buffer:
    """Use of a tile buffer: `operand` in tiles of `words` words at most, of which `slots` fit."""

    operand: str
    words: int
    slots: int


@dataclass
class Nest:
    """Loops of a pass, the outermost first; `a` (None where the array has a constant) and `b`, the
    tile buffers; `accumulators` used of a region, and what they hold."""

    loops: list
    a: Buffer | None
    b: Buffer
    results: str
    accumulators: int

    def as_dict(self):
        """For JSON."""
        found = asdict(self)
        names = ("a", "b", "results")
        for loop in found["loops"]:
            loop["levels"] = dict(zip(names, loop["levels"], strict=True))
        return found


def stored_bytes(kind, window, config):
    """Bytes in memory of what a pass loads into (buffer A, buffer B), with padded channels."""
    w, block = window, 4 if window.packed else config.tm
    each = w.images * config.elem_bytes
    below = each * prod(w.size) * -(-w.n // block) * block
    above = each * prod(w.drained) * -(-w.m // config.tm) * config.tm
    if w.ident:  # channels are the blocks of the tensor that is stored; tags are as large
        blocks = w.m if kind == "forward" else w.n
        each *= -(-blocks // config.tm) * config.tm
        return each * prod(w.out), each * prod(w.size if kind == "forward" else w.out)
    if w.pool is not None:
        above *= 2  # with the tags
    weights = -(-w.m // config.tm) * config.tm * w.n * prod(w.kernel) * config.elem_bytes
    return {"forward": (weights, below), "dX": (weights, above), "dW": (above, below)}[kind]


def nest(kind, window, tile, config, select=False, held=0):
    """Nest of a pass.

    Parameters
    ----------
    kind : str
        "forward", "dX" or "dW".
    window : Window
    tile : Tile
        As the scheduler chose it.
    config : Config
    select : bool
        Tags choose the lanes of an identity: dX of a maximum pooling.
    held : int
        Words of buffer A with all the weights, which an earlier pass has left there; 0: none.
    """
    w, tm, tn = window, config.tm, config.tn
    whole = {"forward": w.drained, "dX": w.size, "dW": w.out}[kind]
    rows, lanes = (w.n, w.m) if kind == "dX" else (w.m, w.n)
    if w.ident:
        lanes = tm
    blocks, taps = -(-rows // tm), "x".join(map(str, w.kernel))
    per = tn // tm if kind != "dX" else tile.sets  # blocks in one tile of A

    sides = (w.images, *whole), (tile.images, tile.rows, tile.cols), ("images", "rows", "columns")
    # (text, count, whether another iteration needs another tile of A, of B, another region)
    places = [
        (f"{size} of {total} {name}", -(-total // size), kind == "dW", True, True)
        for total, size, name in zip(*sides, strict=True)
    ]
    width = min(tile.sets * tm, rows)
    channels = "outputs" if kind != "dX" else "inputs"
    sets = (f"{width} of {rows} {channels}", -(-blocks // tile.sets), True, w.ident, True)
    chunk = tile.chunks[0]
    part = f"{min(chunk.channels, lanes)} of {lanes} {'outputs' if kind == 'dX' else 'inputs'}"
    if (chunk.rows, chunk.cols) != w.kernel:
        part += f", {chunk.rows}x{chunk.cols} of {taps} taps"
    chunks = (part, len(tile.chunks), kind != "dW", True, kind == "dW")
    one = (
        f"{min(tm, rows)} of {width} {channels}",
        min(tile.sets, blocks),
        per < tile.sets,
        w.ident,
        False,
    )
    if kind == "dW":
        order = [sets, chunks, *[(*place[:4], False) for place in places], one]
    elif tile.pixels_outer:
        order = [*places, sets, chunks, one]
    else:
        order = [sets, *places, chunks, one]

    a = b = None
    names = OPERANDS[kind]
    if not w.ident or select:
        operand = "tags" if w.ident else names[0]
        a = Buffer(operand, tile.a_words, min(SLOTS_MAX, config.a_depth // tile.a_words))
    if held:
        a = Buffer(names[0], held, 1)
    b = Buffer(names[1], tile.b_words, min(SLOTS_MAX, config.b_depth // tile.b_words))

    # from inside out: how many tiles of each buffer one execution of the loop needs
    loops, need, inside = [], [1, 1], True
    for text, count, new_a, new_b, new_region in reversed(order):
        tiles_a = -(-count // per) if (text, count) == one[:2] else count
        need = [need[0] * (tiles_a if new_a else 1), need[1] * (count if new_b else 1)]
        inside = inside and not (new_region and count > 1)
        levels = (
            "-" if a is None else "A" if held or need[0] <= a.slots else DRAM,
            "B" if need[1] <= b.slots else DRAM,
            ACC if inside else DRAM,
        )
        if count > 1:
            loops.append(Loop(text, count, levels))
    loops.reverse()
    loops += _sweeps(kind, w, tile, config, a)
    if kind == "dW":
        used = tile.sets * max(c.channels * c.rows * c.cols + 1 for c in tile.chunks)
    else:
        size = (tile.rows, tile.cols)
        if kind == "forward":
            size = tuple(w.pooled(axis, count) for axis, count in enumerate(size))
        used = tile.sets * tile.images * prod(size)
    return Nest(loops, a, b, names[2], used)


def _sweeps(kind, w, tile, config, a):
    """The loops of one COMPUTE: sweeps over the lanes and taps, and the vectors of a sweep."""
    levels = "-" if a is None else "A", "B", ACC
    chunk, tn = tile.chunks[0], config.tn
    pixels = tile.images, tile.rows, tile.cols
    if kind == "forward":
        pixels = tile.images, w.pooled(0, tile.rows), w.pooled(1, tile.cols)
    if kind == "dW":
        entries = chunk.channels * chunk.rows * chunk.cols
        return [
            Loop(f"{tn} pixels, in lanes", -(-prod(pixels) // tn), levels),
            Loop("a weight", entries, levels),
        ]
    lanes = config.tm if w.ident else tn
    groups = f"{min(lanes, chunk.channels)} channels, in lanes"
    taps, across = "a tap", chunk.rows * chunk.cols
    if w.packed:
        taps, across = f"{w.packed} taps, in lanes", chunk.rows * -(-chunk.cols // w.packed)
    found = [
        Loop(groups, 1 if w.ident else chunk.groups(lanes), levels),
        Loop(taps, across, levels),
    ]
    step = prod(w.stride) if kind == "dX" else 1
    text = "a pixel" if step == 1 else f"one of {step} pixels"
    found = [loop for loop in found if loop.count > 1]
    return [*found, Loop(text, -(-prod(pixels) // step), levels)]
