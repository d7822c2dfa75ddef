"""Tile buffers, accumulators and memory as the compiler sees them: who may touch what, when."""

from contextlib import suppress
from itertools import count

from gradgate.hw.isa import Unit

from .background import STARTED, Background
from .durations import Machine
from .errors import UnsupportedError
from .prefetch import prefetch
from .program import Hazard, Program, Tiling, runs
from .tiling import SLOTS_MAX

__all__ = ["Area", "TileBuffer", "Lowering"]

# A unit may be ahead of another by all pieces of a tensor, and of the next one, and a counter holds
# 255 tokens.
PIECES_MAX = 64


class Slot:
    """A piece of a tile buffer: first word and the first behind it, what lies in it, and when it
    was used last."""

    def __init__(self, base, end, under):
        self.base, self.end, self.key = base, end, None
        self.hazard = Hazard(older.hazard for older in under)
        self.used = max((older.used for older in under), default=-1)

    def outside(self, first, end):
        """What is left of it beside the words first..end-1: Slots of the same past."""
        parts = (self.base, min(self.end, first)), (max(self.base, end), self.end)
        return [Slot(lo, hi, [self]) for lo, hi in parts if lo < hi]


class Area:
    """Some words of a tile buffer, cut into slots of equal size. Tiles stay until their slot is
    needed, and the slot used longest ago is needed first.

    Parameters
    ----------
    slots : list of Slot
    clock : iterator of int
        Counts uses.
    """

    def __init__(self, slots, clock):
        self.slots, self._clock = slots, clock

    @property
    def base(self):
        """The first word."""
        return self.slots[0].base

    @property
    def end(self):
        """The first word behind it."""
        return self.slots[-1].end

    def tile(self, key, load, number=None):
        """The slot that holds tile `key`; `load(slot)` emits what fills it if none does: that slot
        `number`, any without."""
        slot = next((s for s in self.slots if s.key == key), None)
        if slot is None:
            slot = min(self.slots, key=lambda s: s.used) if number is None else self.slots[number]
            slot.key = key
            load(slot)
        slot.used = next(self._clock)
        return slot


class TileBuffer:
    """A tile buffer: an area for the pass under way, and behind it areas held over several passes.

    Parameters
    ----------
    depth : int
        Words.
    """

    def __init__(self, depth):
        self._depth = depth
        self._clock = count()
        self._area = None
        self._held = []  # areas, each below the one before
        self._past = []  # slots that were, in any place

    @property
    def held(self):
        """Whether any words are held."""
        return bool(self._held)

    @property
    def free(self):
        """Words that are not held, from the first one on."""
        return self._held[-1].base if self._held else self._depth

    def partition(self, words):
        """Start over with slots of `words` words, at least one; forgets what lies in the buffer,
        but for what is held."""
        self._retire()
        number = min(SLOTS_MAX, self.free // words)
        assert number >= 1
        self._area = self._cut(0, number, words)

    def tile(self, key, load):
        """As Area.tile, for the pass under way."""
        return self._area.tile(key, load)

    def hold(self, number, words):
        """An Area of `number` slots of `words` words that stays over the passes to come, at the
        upper end of what is free; `partition` again after it."""
        assert number * words < self.free
        self._retire()
        area = self._cut(self.free - number * words, number, words)
        self._held.append(area)
        return area

    def release(self):
        """Give up the Area held last."""
        self._retire(self._held.pop())

    def _cut(self, base, number, words):
        """An Area whose slots come after all that was done to the words under them."""
        slots = []
        for first in range(base, base + number * words, words):
            end = first + words
            under = [s for s in self._past if s.base < end and first < s.end]
            slots.append(Slot(first, end, under))
        return Area(slots, self._clock)

    def _retire(self, area=None):
        """The area of the pass under way, or another one, becomes past."""
        if area is None:
            area, self._area = self._area, None
        if area is not None:
            # its slots know what was under them
            left = [part for s in self._past for part in s.outside(area.base, area.end)]
            self._past = [*area.slots, *left]


class Lowering:
    """One program in the making: the instructions and the state of buffers that the last one
    leaves.

    Parameters
    ----------
    scheduler : Scheduler
        For the device that the program is for.
    notify : function
        Called with the name of each pass before its tile is chosen.
    pause : int or None
        See Background.
    """

    def __init__(self, scheduler, notify=lambda text: None, pause=None):
        self.scheduler, self._notify = scheduler, notify
        config = self.config = scheduler.config
        self.program = Program()
        self.background = Background(config.acc_depth, pause)
        self._machine = Machine(config, scheduler.timing)
        self.a, self.b = TileBuffer(config.a_depth), TileBuffer(config.b_depth)
        self._regions = [Hazard(), Hazard()]
        self._region = 0
        # cycles of the array for this region, and of the vector unit since the last one was full
        self._array = self._vector = 0
        self._memory = {}  # region -> {(tensor id, piece): (Hazard, tensor)}

    def finished(self):
        """The Program, in the order in which the device should have it."""
        prefetch(self.program, self.config, self.scheduler.timing)
        return self.program

    def tile(self, kind, w, *select, held=None):
        """The Tile for Window `w` in the pass under way.

        Parameters
        ----------
        kind : str
            "forward", "backward" or "gradient": the method of the Scheduler.
        select : passed on to it
        held : Resident or None
            The weights are in buffer A, or are to stay there after the pass.

        Raises UnsupportedError, which names the pass, if none fits.
        """
        name = " ".join(self.program.label)
        self._notify(name)
        choose = getattr(self.scheduler, kind)
        try:
            tile = choose(w, *select)
            wanted = (self.a, 0 if held else tile.a_words), (self.b, tile.b_words)
            if any(buffer.held and buffer.free < 2 * words for buffer, words in wanted):
                with suppress(UnsupportedError):  # it fits, but units will take turns
                    tile = choose(w, *select, a_depth=self.a.free, b_depth=self.b.free)
        except UnsupportedError as error:
            raise UnsupportedError(
                f"{name}: {error}; it needs a build with a larger a_depth, b_depth or acc_depth"
            ) from None
        if held and kind == "forward":
            tile = held.tile
        words = held.words if held and kind == "backward" else 0
        self.program.tiles[self.program.label] = Tiling(w, tile, select, words)
        return tile

    def region(self, size):
        """The next accumulator region in turn, for `size` results: (first accumulator, hazard)."""
        self._region ^= 1
        if size > self.background.free(self._region):
            self.background.finish()
        self._array = 0
        return self._accumulators(self._region)

    def _accumulators(self, region, first=0):
        return region * self.config.acc_depth + first, self._regions[region]

    def filled(self):
        """All COMPUTEs into the region are emitted: what waits in the other one may leave it
        meanwhile."""
        self.background.offer(self._region ^ 1, self._array - self._vector)
        self._vector = 0

    def put_off(self, size):
        """A place for `size` results that are to wait: (region, first accumulator, hazard)."""
        region, first = self.background.reserve(size)
        return region, *self._accumulators(region, first)

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
        fields = {"sd1": 1, "sd0": 1, **fields}
        self.program.emit(Unit.COMPUTE, [s.hazard for s in slots], [acc], **fields)
        if self.background.waiting:
            work = self._machine.sweeps(fields)
            self._array += work.count * work.period

    def post(self, reads, writes, loops, length, base, opd_base=0, **fields):
        """Emit a POST that writes the runs from byte address `base`."""
        ((n2, s2), (n1, s1)), beats = runs(loops, length, self.config.beat_bytes, 2)
        runs_of = {"o_len": beats, "o_n1": n1, "o_s1": s1, "o_n2": n2, "o_s2": s2}
        full = {"p2": 1, "p1": 1, "p0": 1, "w1": 1, "w0": 1, **runs_of, **fields}
        self.program.emit(Unit.POST, reads, writes, out_base=base, opd_base=opd_base, **full)
        if self.background.waiting:
            self._vector += self._machine.vector_cycles(full) + STARTED
