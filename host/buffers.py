"""Tile buffers, accumulators and memory as the compiler sees them: who may touch what, when."""

from gradgate.hw.isa import Unit

from .prefetch import prefetch
from .program import Hazard, Program, runs
from .tiling import SLOTS_MAX

__all__ = ["TileBuffer", "Lowering"]

# A unit may be ahead of another by all pieces of a tensor, and of the next one, and a counter holds
# 255 tokens.
PIECES_MAX = 64


class Slot:
    """A piece of a tile buffer: first word, what lies in it."""

    def __init__(self, base, hazard, used):
        self.base, self.hazard, self.key, self.used = base, hazard, None, used


class TileBuffer:
    """A tile buffer cut into slots of equal size; tiles stay until their slot is needed, and the
    slot used longest ago is needed first.

    Parameters
    ----------
    depth : int
        Words.
    """

    def __init__(self, depth):
        self._depth = depth
        self._clock = 0
        self._old = []  # (first, last, hazard, used) of earlier partitions
        self._slots, self._words = [], 0

    def partition(self, words):
        """Start over with slots of `words` words, at least one; forgets what lies in the buffer."""
        # a slot inherits what lay under it, so only words beyond the slots keep their history
        end = len(self._slots) * self._words
        self._old = [(s.base, s.base + self._words, s.hazard, s.used) for s in self._slots] + [
            (max(lo, end), hi, hazard, used) for lo, hi, hazard, used in self._old if hi > end
        ]
        count = min(SLOTS_MAX, self._depth // words)
        assert count >= 1
        self._words = words
        self._slots = []
        for base in range(0, count * words, words):
            under = [(h, used) for lo, hi, h, used in self._old if lo < base + words and base < hi]
            used = max((used for _, used in under), default=-1)
            self._slots.append(Slot(base, Hazard(h for h, _ in under), used))

    def tile(self, key, load):
        """The slot that holds tile `key`; `load(slot)` emits what fills it if none does."""
        self._clock += 1
        slot = next((s for s in self._slots if s.key == key), None)
        if slot is None:
            slot = min(self._slots, key=lambda s: s.used)
            slot.key = key
            load(slot)
        slot.used = self._clock
        return slot


class Lowering:
    """One program in the making: the instructions and the state of buffers that the last one
    leaves.

    Parameters
    ----------
    scheduler : Scheduler
        For the device that the program is for.
    """

    def __init__(self, scheduler):
        self.scheduler = scheduler
        config = self.config = scheduler.config
        self.program = Program()
        self.a, self.b = TileBuffer(config.a_depth), TileBuffer(config.b_depth)
        self._regions = [Hazard(), Hazard()]
        self._region = 0
        self._memory = {}  # region -> {(tensor id, piece): (Hazard, tensor)}

    def finished(self):
        """The Program, in the order in which the device should have it."""
        prefetch(self.program, self.config, self.scheduler.timing)
        return self.program

    def region(self):
        """The next accumulator region in turn: (first accumulator, hazard)."""
        self._region ^= 1
        return self._region * self.config.acc_depth, self._regions[self._region]

    def memory(self, tensor, pieces=(0,)):
        """Hazards of pieces (images, or one for the whole) of a tensor.

        Of a tensor with more than PIECES_MAX images, several share a hazard. A piece touched for
        the first time comes after all that was done to other tensors in its place.
        """
        tensor = getattr(tensor, "whole", tensor)
        region = getattr(tensor, "region", id(tensor))
        known = self._memory.setdefault(region, {})
        share = -(-getattr(tensor, "images", 1) // PIECES_MAX)
        found = []
        for piece in dict.fromkeys(p // share if isinstance(p, int) else p for p in pieces):
            key = (id(tensor), piece)
            if key not in known:
                older = [h for (other, _), h in known.items() if other != id(tensor)]
                known[key] = Hazard(older)
            found.append(known[key])
        return found

    def load(self, unit, slot, reads, loops, length, base, **fields):
        """Emit a LOAD of the runs (see `runs`) from byte address `base` into `slot`."""
        config = self.config
        ((n3, s3), (n2, s2), (n1, s1)), beats = runs(loops, length, config.beat_bytes, 3)
        full = {"sd1": 1, "sd0": 1, "nb": 1, "n2": 1, "n1": 1, "n0": 1, **fields}
        full.setdefault("hi1", full["n1"])
        full.setdefault("hi0", full["n0"])
        for name in ("k2", "k1", "k0"):
            full[name] = full.get(name, 0) % config.tn
        self.program.emit(
            unit,
            reads,
            [slot.hazard],
            d_base=base,
            d_len=beats,
            d_n1=n1,
            d_s1=s1,
            d_n2=n2,
            d_s2=s2,
            d_n3=n3,
            d_s3=s3,
            **full,
        )

    def compute(self, slots, acc, **fields):
        """Emit a COMPUTE on the buffer slots, into a region whose hazard is `acc`.

        `fence` stays 0: instructions of one tile visit the same accumulators in the same order or
        other ones, and between tiles in one region there is always a POST.
        """
        for name in (
            "ag",
            "bg",
            "at1",
            "at0",
            "bt1",
            "bt0",
            "bq2",
            "bq1",
            "bq0",
            "ar",
            "cq2",
            "cq1",
            "cq0",
            "al0",
            "al1",
        ):
            if name in fields:
                fields[name] = (fields[name] + 0x8000) % 0x10000 - 0x8000
        self.program.emit(
            Unit.COMPUTE, [s.hazard for s in slots], [acc], **{"sd1": 1, "sd0": 1, **fields}
        )

    def post(self, reads, writes, loops, length, base, opd_base=0, **fields):
        """Emit a POST that writes the runs from byte address `base`."""
        ((n2, s2), (n1, s1)), beats = runs(loops, length, self.config.beat_bytes, 2)
        full = {"p2": 1, "p1": 1, "p0": 1, "w1": 1, "w0": 1, **fields}
        self.program.emit(
            Unit.POST,
            reads,
            writes,
            out_base=base,
            opd_base=opd_base,
            o_len=beats,
            o_n1=n1,
            o_s1=s1,
            o_n2=n2,
            o_s2=s2,
            **full,
        )
