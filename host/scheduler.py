"""The scheduler: which tiles, chunks and loop order make a pass fastest on a device.

For every candidate it counts what each unit and each memory channel has to do, by the formulas of
docs/model.md; since they overlap, the one with the most to do decides.
"""

from dataclasses import dataclass
from functools import cache
from math import prod

from .durations import Machine
from .errors import UnsupportedError
from .tiling import SLOTS_MAX, Tile, chunks_of, sizes, splits
from .trial import trial

__all__ = ["Scheduler", "scheduler"]

FETCHED = 6  # cycles in which the sequencer passes on an instruction
PERFECT = 1.004  # no candidate is tried out if the cheapest one comes that close to the least
TRIALS = 5  # candidates that are tried out
WORTH = 1.5  # how much more than the cheapest one they may seem to cost
AHEAD = 4  # tiles that a load unit can be ahead of the array: its queue holds no more
STARTED = 24  # cycles that a LOAD or POST costs besides its work
ACROSS = 8  # candidates for the number of parts that a row is cut into


@dataclass
class Load:
    """What a unit has to do in a pass: `cycles` of its datapath, and (port, write) -> (beats,
    runs). A load unit does it in `tiles` pieces, each into one of `slots`."""

    cycles: float
    streams: dict
    tiles: float = 0
    slots: int = 2


def _tiles(shape, whole):
    """All tiles of `shape` in `whole` as (how many, their shape), the full ones first."""
    found = [(1, ())]
    for size, total in zip(shape, whole, strict=True):
        full, rest = divmod(total, size)
        parts = [(full, size)] * (full > 0) + [(1, rest)] * (rest > 0)
        found = [(n * count, (*head, part)) for n, head in found for count, part in parts]
    return found


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
    a_depth, b_depth : int or None
        Words of the tile buffers that passes may use; None: all.
    """

    def __init__(self, config, timing, a_depth=None, b_depth=None):
        self.config, self.timing = config, timing
        self.a_depth = config.a_depth if a_depth is None else a_depth
        self.b_depth = config.b_depth if b_depth is None else b_depth
        self.machine = Machine(config, timing)
        # what a tile loses between load, array and drain, when they take turns
        self._fetch = self.machine.read_latency + config.tn + config.tm + self.machine.loop
        self._drain = self._fetch + self.machine.compute_latency + self.machine.write_latency()
        self._within = cache(lambda a, b: Scheduler(config, timing, a, b))
        self._forward = cache(self._forward)
        self._backward = cache(self._backward)
        self._gradient = cache(self._gradient)

    def forward(self, w, *, a_depth=None, b_depth=None):
        """Tile of the forward pass of Window `w`: rows and columns count outputs of the pooling, if
        any.

        Parameters
        ----------
        w : Window
        a_depth, b_depth : int or None
            Words of the tile buffers, from the first one on, that are free for the pass; None: all.

        Raises UnsupportedError if no tile fits.
        """
        return self._within(a_depth, b_depth)._forward(w)

    def backward(self, w, tags=False, *, a_depth=None, b_depth=None):
        """Tile of the dX pass of Window `w`: rows and columns count input pixels of the window;
        with `tags`, these take the place of weights in buffer A. Otherwise as `forward`."""
        return self._within(a_depth, b_depth)._backward(w, tags)

    def gradient(self, w, *, a_depth=None, b_depth=None):
        """Tile of the dW pass of Window `w`: rows and columns count output pixels of the window.
        Otherwise as `forward`."""
        return self._within(a_depth, b_depth)._gradient(w)

    # what candidates cost

    def _channels(self, parts):
        """Cycles of the busiest memory channel."""
        machine, timing = self.machine, self.machine.timing
        busy = {}
        for part in parts:
            for (port, write), (beats, runs) in part.streams.items():
                channel = machine.channel(port, write)
                bursts = max(runs, beats / self.config.max_burst)
                rows = bursts if timing.shared else runs
                time = max(
                    beats * float(timing.beat_cycles) + rows * machine.row_cycles,
                    bursts * machine.burst_cycles,
                )
                busy[channel] = busy.get(channel, 0.0) + time
        return max(busy.values(), default=0.0) / machine.capacity

    def _cost(self, overlap, compute, a, b, post, first, last, instructions):
        """Cycles of a pass: the busiest unit or channel, and what comes before and after it, of
        which the neighbouring passes hide some. Ties go to fewer instructions and less work for
        memory."""
        units = [compute, post.cycles, instructions * FETCHED]
        # short transfers show memory's latency
        units += [max(x.cycles + 2 * x.tiles, x.tiles * self._fetch) for x in (a, b)]
        channel = self._channels((a, b, post))
        if overlap:
            # a slot is filled, used, and free for the next tile
            fed = [
                (compute + x.cycles + x.tiles * self._fetch) / min(x.slots, AHEAD) for x in (a, b)
            ]
            longest = max(*units, *fed, channel)
        else:
            longest = max(sum(units), channel)
        return longest + (first + last) / 2 + instructions + 1e-3 * channel

    def _region(self, compute, drain):
        """Cycles per region of accumulators: of the two, one is filled while the other drains."""
        return max(compute, drain, (compute + drain + self._drain) / 2)

    def _sweeps(self, count, vectors, least, fill):
        """Cycles of a COMPUTE: during its last sweep the first tile of the next one is read."""
        period = max(vectors, least, self.machine.loop)
        return (count - 1) * period + max(period, fill)

    def _orders(self, places, sets, chunks, b, a):
        """Both orders of the loops: (pixels outside, times B is loaded, times A is loaded).

        `b` is words of a tile in buffer B; `a` is (words, tiles of one set and chunk) of A.
        """
        b_slots = min(SLOTS_MAX, self.b_depth // max(b, 1))
        a_slots = min(SLOTS_MAX, self.a_depth // max(a[0], 1))
        whole_set = a[1] * chunks
        yield (
            True,
            1 if chunks <= b_slots else sets,
            1 if whole_set * sets <= a_slots else places,
        )
        if sets > 1 and places > 1:
            yield (
                False,
                1 if places * chunks <= b_slots else sets,
                1 if whole_set <= a_slots else places,
            )

    def _shapes(self, whole, fits, across=True):
        """Candidate (images, rows, columns): whole images, rows of one, rectangles of one."""
        images, rows, cols = whole
        found = [(i, rows, cols) for i in sizes(images) if fits(i, rows, cols)][:4]
        widths = [cols] + (sizes(cols)[1:ACROSS] if across else [])
        for c in widths:
            heights = [r for r in sizes(rows) if fits(1, r, c) and (r, c) != (rows, cols)]
            found += [(1, r, c) for r in heights[:3]]
        if not found:
            found = [(1, r, c) for c in sizes(cols)[1:] for r in sizes(rows) if fits(1, r, c)]
        return found

    def _choose(self, candidates, what, kind, w, *select):
        """The best of candidates(parts), (cost, Tile) each: with buffers in two parts, so that
        units overlap, or undivided if nothing else fits. Raises UnsupportedError.

        Of candidates that differ in their loops the cheapest few are tried out.
        """
        for parts in (2, 1):
            best = {}
            for cost, tile in candidates(parts):
                loops = len(tile.chunks), tile.sets, tile.pixels_outer
                if loops not in best or cost < best[loops][0]:
                    best[loops] = cost, tile
            if not best:
                continue
            ranked = sorted(best.values(), key=lambda found: found[0])
            some = [tile for cost, tile in ranked[:TRIALS] if cost < WORTH * ranked[0][0]]
            if len(some) == 1 or ranked[0][0] < PERFECT * self._least(kind, w):
                return ranked[0][1]
            timing = self.machine.timing
            depths = self.a_depth, self.b_depth
            return min(
                some, key=lambda tile: trial(kind, w, tile, self.config, timing, depths, *select)
            )
        config = self.config
        raise UnsupportedError(
            f"no tile of {what} fits buffers of {self.a_depth} and {self.b_depth} words and "
            f"{config.acc_depth} accumulators"
        )

    def _least(self, kind, w):
        """Cycles of a pass with every lane and row that it can use busy in every cycle."""
        tm, tn = self.config.tm, self.config.tn
        pixels, taps = w.images * prod(w.out), prod(w.kernel)
        if kind == "gradient":
            return -(-pixels // tn) * -(-w.m // tm) * w.n * taps
        rows, lanes = (w.m, w.n) if kind == "forward" else (w.n, w.m)
        return pixels * taps * -(-rows // tm) * -(-lanes // tn)

    def _runs(self, shape, whole, blocks):
        """Runs of memory that a window of rows and columns consists of, per tile."""
        images, rows, cols = shape
        return images * blocks * (1 if cols >= whole[1] else rows)

    def _results(self, tiles, blocks, drained, fmt_beats, *, operand=0, aux=0):
        """Load of the vector unit: `drained` pixels -> cycles per block, for every tile."""
        cycles = beats = runs = 0
        for count, shape in tiles:
            cycles += count * blocks * (drained(*shape) + STARTED)
            beats += count * blocks * prod(shape) * fmt_beats
            runs += count * blocks * shape[0]
        streams = {(0, True): (beats, runs)}
        if aux:
            streams[1, True] = (beats, runs)
        if operand:
            streams[2, False] = (beats, runs)
        return Load(cycles, streams)

    # forward

    def _forward(self, w):
        config = self.config
        tm, tn, elems = config.tm, config.tn, config.beat_elems
        lanes, packed = tm if w.ident else tn, max(w.packed, 1)
        out = w.drained
        blocks, per = -(-w.m // tm), 1 if w.ident else tn // tm
        weight_beats = 0 if w.ident else blocks * w.n * prod(w.kernel) * tm // elems
        window = 1 if w.pool is None else prod(w.pool[0])
        fill = tm if w.ident else tm + tn

        def drained(i, r, c):
            return i * r * c * max(window, config.groups)

        def candidates(parts):
            for step, kr, kc in splits(w.n, w.kernel, lanes, lanes):
                if kc < w.kernel[1] and kc % packed:
                    continue
                groups = -(-min(step, w.n) // lanes)
                a_words = 0 if w.ident else (w.n if w.packed else groups * lanes) * kr * kc
                if a_words > self.a_depth // parts:
                    continue
                chunks = chunks_of(w.n, w.kernel, step, kr, kc)
                sweeps = sum(c.groups(lanes) * c.rows * -(-c.cols // packed) for c in chunks)

                def words(i, r, c, groups=groups, kr=kr, kc=kc):
                    pitch = -(-w.span(1, w.pooled(1, c), kc) // packed)
                    return groups * i * w.span(0, w.pooled(0, r), kr) * pitch

                for some in [1] if w.ident else sizes(blocks):

                    def fits(i, r, c, some=some, words=words):
                        moving = i * w.pooled(0, r) * w.pooled(1, c)
                        most = min(self.b_depth // parts, 0xFFFF // packed)
                        return moving * some <= config.acc_depth and words(i, r, c) <= most

                    for shape in self._shapes((w.images, *out), fits):
                        tiles = _tiles(shape, (w.images, *out))
                        places = sum(count for count, _ in tiles)
                        compute = b_beats = b_runs = 0
                        for count, (i, r, c) in tiles:
                            moving = i * w.pooled(0, r) * w.pooled(1, c)
                            one = len(chunks) * self._sweeps(sweeps / len(chunks), moving, tm, fill)
                            regions = count * blocks / some
                            drain = some * (drained(i, r, c) + STARTED)
                            compute += regions * self._region(some * one, drain)
                            b_beats += count * words(i, r, c)
                            b_runs += count * self._runs((i, r, c), out, groups * lanes // tm)
                        if w.ident:
                            b_beats *= blocks * tm // elems
                        else:
                            b_beats *= len(chunks) * (tn if w.packed else lanes) // elems
                        sets = -(-blocks // some)
                        b_words = words(*shape)
                        first_b = b_words * lanes // elems
                        post = self._results(
                            tiles, blocks, drained, tm // elems, aux=w.pool is not None
                        )
                        tail = some * drained(*shape)
                        for outer, b_times, a_times in self._orders(
                            places, sets, len(chunks), b_words, (a_words, -(-some // per))
                        ):
                            b_tiles = places * len(chunks) * b_times
                            a_tiles = -(-blocks // per) * len(chunks) * a_times
                            b = Load(
                                b_beats * b_times,
                                {(1, False): (b_beats * b_times, b_runs * len(chunks) * b_times)},
                                b_tiles * (blocks if w.ident else 1),
                                self.b_depth // b_words,
                            )
                            a = Load(
                                weight_beats * a_times,
                                {(0, False): (weight_beats * a_times, a_tiles * per)},
                                0 if w.ident else a_tiles,
                                self.a_depth // max(a_words, 1),
                            )
                            yield (
                                self._cost(
                                    parts == 2,
                                    compute,
                                    a,
                                    b,
                                    post,
                                    first_b,
                                    tail,
                                    b.tiles + a.tiles + places * blocks * (len(chunks) + 1),
                                ),
                                Tile(*shape, chunks, a_words, b_words, outer, some),
                            )

        return self._choose(candidates, f"a {w.kernel} window on {w.size}", "forward", w)

    # dX

    def _backward(self, w, tags):
        config = self.config
        tm, elems = config.tm, config.beat_elems
        lanes = tm if w.ident else config.tn
        blocks, phases = -(-w.n // tm), prod(w.stride)
        weight_beats = 0 if w.ident else blocks * w.m * prod(w.kernel) * tm // elems

        def drained(i, r, c):
            return i * r * c * config.groups

        def candidates(parts):
            for step, kr, kc in splits(w.m, w.kernel, lanes, lanes):
                groups = -(-min(step, w.m) // lanes)
                chunks = chunks_of(w.m, w.kernel, step, kr, kc)
                sweeps = sum(c.groups(lanes) * c.rows * c.cols for c in chunks)

                def words(i, r, c, groups=groups, kr=kr, kc=kc):
                    return groups * i * w.reach(0, r, kr) * w.reach(1, c, kc)

                for some in sizes(blocks):
                    a_words = 0 if w.ident else groups * min(some * tm, w.n) * kr * kc
                    if a_words > self.a_depth // parts:
                        continue

                    def fits(i, r, c, some=some, words=words):
                        depth = min(self.a_depth, self.b_depth) if tags else self.b_depth
                        enough = words(i, r, c) <= depth // parts
                        return enough and i * r * c * some <= config.acc_depth

                    for shape in self._shapes((w.images, *w.size), fits):
                        tiles = _tiles(shape, (w.images, *w.size))
                        places = sum(count for count, _ in tiles)
                        compute = b_beats = b_runs = b_cycles = 0
                        for count, (i, r, c) in tiles:
                            moving = -(-i * r * c // phases)
                            parted = len(chunks) * phases
                            one = parted * self._sweeps(sweeps / parted, moving, tm, tm)
                            regions = count * blocks / some
                            drain = some * (drained(i, r, c) + STARTED)
                            compute += regions * self._region(some * one, drain)
                            size = words(i, r, c) * lanes // elems * len(chunks)
                            b_beats += count * size
                            size = groups * i * lanes // elems * len(chunks)
                            for axis, taps, part in ((0, kr, r), (1, kc, c)):
                                size *= w.unpooled(axis, w.reach(axis, part, taps))
                            b_cycles += count * size
                            b_runs += count * self._runs((i, r, c), w.size, groups * lanes // tm)
                        if w.ident:
                            b_beats, b_cycles = b_beats * blocks, b_cycles * blocks
                        elif w.pool is not None:
                            b_beats = b_beats // prod(w.pool[1]) * 2
                        sets = -(-blocks // some)
                        b_words = words(*shape)
                        post = self._results(tiles, blocks, drained, tm // elems, operand=1)
                        tail = some * drained(*shape)
                        for outer, b_times, a_times in self._orders(
                            places, sets, len(chunks), b_words, (a_words, 1)
                        ):
                            b_tiles = places * len(chunks) * b_times
                            b = Load(
                                b_cycles * b_times,
                                {(1, False): (b_beats * b_times, b_runs * len(chunks) * b_times)},
                                b_tiles * (blocks if w.ident else 1),
                                self.b_depth // b_words,
                            )
                            if tags:
                                a = b
                            elif w.ident:
                                a = Load(0, {})
                            else:
                                beats = weight_beats * a_times
                                a = Load(
                                    beats,
                                    {(0, False): (beats, a_times * len(chunks) * -(-w.m // tm))},
                                    sets * len(chunks) * a_times,
                                    self.a_depth // a_words,
                                )
                            first = b_words * lanes // elems
                            yield (
                                self._cost(
                                    parts == 2,
                                    compute,
                                    a,
                                    b,
                                    post,
                                    first,
                                    tail,
                                    b.tiles + a.tiles + places * (blocks * parted + sets),
                                ),
                                Tile(
                                    *shape,
                                    chunks,
                                    b_words if tags else a_words,
                                    b_words,
                                    outer,
                                    some,
                                ),
                            )

        return self._choose(
            candidates, f"the gradient of a {w.kernel} window on {w.size}", "backward", w, tags
        )

    # dW

    def _gradient(self, w):
        config = self.config
        tm, tn, elems = config.tm, config.tn, config.beat_elems
        blocks, per = -(-w.m // tm), tn // tm
        cb = 4 if w.packed else tm

        def candidates(parts):
            for step, kr, kc in splits(w.n, w.kernel, tn, cb):
                entries = min(step, w.n) * kr * kc + 1
                if entries > config.acc_depth:
                    continue
                chunks = chunks_of(w.n, w.kernel, step, kr, kc)
                groups = -(-min(step, w.n) // tn)
                width = cb if step <= cb else tn

                def words(i, r, c, groups=groups, kr=kr, kc=kc):
                    return groups * i * w.span(0, r, kr) * w.span(1, c, kc)

                for some in sizes(blocks):
                    if some * entries > config.acc_depth:
                        continue
                    a_tiles = -(-some // per)

                    def fits(i, r, c, words=words, a_tiles=a_tiles):
                        pixels = i * r * c <= self.a_depth // max(parts, a_tiles)
                        return pixels and words(i, r, c) <= self.b_depth // parts

                    sets = -(-blocks // some)
                    update = blocks * len(chunks) * (entries * config.groups + STARTED)
                    word_beats = update * 4 // config.elem_bytes
                    post = Load(update, {(0, True): (word_beats, 0), (2, False): (word_beats, 0)})
                    for shape in self._shapes((w.images, *w.out), fits):
                        tiles = _tiles(shape, (w.images, *w.out))
                        places = sum(count for count, _ in tiles)
                        compute = a_beats = b_beats = a_cycles = a_runs = b_runs = 0
                        for count, (i, r, c) in tiles:
                            pixels = i * r * c
                            cycles = self._sweeps(-(-pixels // tn), entries, tn, tn)
                            compute += count * some * cycles
                            size = i * blocks * tm // elems * len(chunks)
                            for axis, part in ((0, r), (1, c)):
                                size *= w.unpooled(axis, part, part % w.step(axis) == 0)
                            a_cycles += count * size
                            a_beats += count * pixels * blocks * tm // elems * len(chunks)
                            b_beats += count * words(i, r, c) * width // elems * len(chunks) * sets
                            a_runs += count * self._runs((i, r, c), w.out, blocks) * len(chunks)
                            b_runs += count * self._runs((i, r, c), w.out, groups) * len(chunks)
                        if w.pool is not None:
                            a_beats = a_beats // prod(w.pool[1]) * 2
                        drain = some * (entries * config.groups + STARTED)
                        compute = self._region(compute, drain) * sets * len(chunks)
                        resident = a_tiles * places <= self.a_depth // max(1, prod(shape))
                        if resident and len(chunks) > 1:
                            a_beats //= len(chunks)
                            a_cycles //= len(chunks)
                        b_words = words(*shape)
                        a = Load(
                            a_cycles,
                            {(0, False): (a_beats, a_runs)},
                            places * len(chunks) * sets * a_tiles,
                            self.a_depth // prod(shape),
                        )
                        b = Load(
                            b_beats,
                            {(1, False): (b_beats, b_runs * sets)},
                            places * len(chunks) * sets,
                            self.b_depth // b_words,
                        )
                        first = b_words * width // elems
                        tail = some * entries * config.groups
                        yield (
                            self._cost(
                                parts == 2,
                                compute,
                                a,
                                b,
                                post,
                                first,
                                tail,
                                b.tiles + a.tiles + (places + 1) * blocks * len(chunks),
                            ),
                            Tile(*shape, chunks, prod(shape), b_words, True, some),
                        )

        return self._choose(
            candidates, f"the weight gradient of a {w.kernel} window on {w.size}", "gradient", w
        )
