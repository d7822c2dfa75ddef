"""The assembler: instructions with what they touch in, bytes with tokens in order out."""

import struct
from dataclasses import dataclass

from gradgate.hw.isa import BYTES, WORDS, Unit, encode

__all__ = ["Hazard", "Program", "Tiling", "runs"]

LOOP_MAX = 0xFFFF


def runs(loops, length, beat_bytes, depth):
    """Strided transfer as (`depth` pairs (count, stride), innermost last, beats per run).

    Parameters
    ----------
    loops : list of (int, int)
        Counts and strides in bytes, outermost first.
    length : int
        Contiguous bytes of the innermost run.
    beat_bytes, depth : int
        Bytes of a beat; how many loops the unit has. Inner loops that continue the run are merged.

    Raises ValueError if more than `depth` loops remain.
    """
    assert length % beat_bytes == 0
    loops = [(count, stride) for count, stride in loops if count != 1]
    while loops:
        count, stride = loops[-1]
        if stride != length or length * count // beat_bytes > LOOP_MAX:
            break
        length *= count
        loops.pop()
    for i in range(len(loops) - 1, 0, -1):
        (outer, stride), (inner, step) = loops[i - 1 : i + 1]
        if stride == inner * step and outer * inner <= LOOP_MAX:
            loops[i - 1 : i + 1] = [(outer * inner, step)]
    if len(loops) > depth:
        raise ValueError(f"a transfer with {len(loops)} strides, {depth} are possible")
    return [(1, 0)] * (depth - len(loops)) + loops, length // beat_bytes


@dataclass(frozen=True)
class Tiling:
    """How a pass was cut.

    Parameters
    ----------
    window : Window
    tile : Tile
    select : tuple
        What else the scheduler was told.
    held : int
        Words of buffer A with the weights, which an earlier pass has left there; 0: none.
    """

    window: object
    tile: object
    select: tuple = ()
    held: int = 0


class Hazard:
    """Who has last read and written something: a buffer slot, accumulators, a piece of memory."""

    def __init__(self, older=()):
        self.readers, self.writers = {}, {}
        for other in older:
            for mine, theirs in ((self.readers, other.readers), (self.writers, other.writers)):
                for unit, index in theirs.items():
                    mine[unit] = max(index, mine.get(unit, -1))


class Program:
    """A list of instructions in which every wait has its signal.

    `emit` is told which `Hazard` objects an instruction reads and writes; it finds the
    instructions of other units that must have completed before, and pairs tokens. Between two
    units the k-th wait meets the k-th signal, because an instruction waits only for something
    later than all that its unit has waited for already.
    """

    def __init__(self):
        self._items = []  # [unit, fields]
        self._waited = {}  # (from, to) -> latest index waited for
        self._patches = []  # (index, key)
        self.label = None  # of the instructions that follow: (layer name, pass)
        self.tiles = {}  # label -> Tiling
        self._labels = []

    def __len__(self):
        return len(self._items)

    def emit(self, unit, reads=(), writes=(), patch=None, **fields):
        """Append an instruction; returns its index.

        `patch` names the hyperparameters whose values `words` puts into imm0..2.
        """
        index = len(self._items)
        after = {}
        for hazards, sides in ((reads, ("writers",)), (writes, ("writers", "readers"))):
            for hazard in hazards:
                for side in sides:
                    for other, at in getattr(hazard, side).items():
                        if other != unit:
                            after[other] = max(at, after.get(other, -1))
        wait = 0
        for other, at in after.items():
            if at > self._waited.get((other, unit), -1):
                self._waited[other, unit] = at
                wait |= 1 << other
                self._items[at][1]["signal"] |= 1 << unit
        self._items.append([unit, {"wait": wait, "signal": 0, **fields}])
        self._labels.append(self.label)
        for hazard in reads:
            hazard.readers[unit] = index
        for hazard in writes:
            hazard.readers, hazard.writers = {}, {unit: index}
        if patch is not None:
            self._patches.append((index, patch))
        return index

    @property
    def instructions(self):
        """The instructions as (Unit, dict of fields), END left out."""
        return [(unit, dict(fields)) for unit, fields in self._items]

    def reorder(self, order):
        """Put the instructions in another order, a list of their numbers; each unit's own must
        stay as it is, and nothing may come before what it waits for."""
        self._items = [self._items[index] for index in order]
        self._labels = [self._labels[index] for index in order]
        place = {index: new for new, index in enumerate(order)}
        self._patches = [(place[index], key) for index, key in self._patches]

    @property
    def labels(self):
        """What each instruction is for: (layer name, pass)."""
        return list(self._labels)

    def assemble(self):
        """The program as bytes, hyperparameters zero."""
        words = [w for unit, fields in self._items for w in encode(unit, **fields)]
        words += encode(Unit.END)
        return struct.pack(f"<{len(words)}I", *words)

    def patched(self, values):
        """(byte offset, bytes) of every instruction that has hyperparameters.

        `values` maps patch keys to (imm0, imm1, imm2): weight decay, momentum, learning rate.
        """
        for index, key in self._patches:
            unit, fields = self._items[index]
            imm = struct.unpack("<3I", struct.pack("<3f", *values[key]))
            words = encode(unit, **fields, imm0=imm[0], imm1=imm[1], imm2=imm[2])
            yield index * BYTES, struct.pack(f"<{WORDS}I", *words)
