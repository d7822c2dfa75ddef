"""Gradient of a layer's input: the transposed convolution, and pooling backward."""

from dataclasses import dataclass

from gradgate.hw.isa import Unit

from .forward import loop_order, pixel_tiles
from .loads import load_gradient, load_groups, load_map, load_weights
from .tensors import FeatureMap, Weights
from .tiling import Window

__all__ = ["InputGradient"]


@dataclass
class InputGradient:
    """The dX pass of a layer.

    Parameters
    ----------
    lw : Lowering
    w : Window
    dy, dx : FeatureMap
        Gradient of the output of the window, or of the pooling that follows it; of its input.
    weights : Weights or None
        None for pooling, which works on one channel block at a time.
    scale : int or None
        fp32 bits of the factor on the results (average pooling).
    tags : FeatureMap or None
        Winners of the windows where `w` is a maximum pooling, or of the pooling that follows it.
    mask : FeatureMap or None
        The gradient is kept where this one is positive: the output of a ReLU before the layer.
    resident : (Resident, Area) or None
        The weights are in buffer A already, there.
    """

    lw: object
    w: Window
    dy: FeatureMap
    dx: FeatureMap
    weights: Weights | None = None
    scale: int | None = None
    tags: FeatureMap | None = None
    mask: FeatureMap | None = None
    resident: tuple | None = None

    def emit(self):
        """Emit the pass."""
        lw, w, dx = self.lw, self.w, self.dx
        select = w.ident and self.tags is not None
        tile = lw.tile("backward", w, select, held=self.resident and self.resident[0])
        if tile.a_words and self.resident is None:
            lw.a.partition(tile.a_words)
        lw.b.partition(tile.b_words)
        places = pixel_tiles(dx.images, dx.rows, dx.cols, tile)
        for place, blocks in loop_order(tile, places, dx.blocks):
            pixels = place[0][1] * place[1][1] * place[2][1]
            base, acc = lw.region(len(blocks) * pixels)
            self._multiply(tile, place, blocks, base, acc)
            lw.filled()
            self._drain(place, blocks, base, acc)

    def _multiply(self, tile, place, blocks, base, acc):
        _, (r0, nr), (c0, nc) = place
        pixels = place[0][1] * nr * nc
        phases = [(p, q) for p in _phases(self.w, 0, r0, nr) for q in _phases(self.w, 1, c0, nc)]
        begun = set()
        for index, chunk in enumerate(tile.chunks):
            for number, block in enumerate(blocks):
                for phase in phases:
                    taps = [
                        _taps(one[0], stride, first, count)
                        for one, stride, first, count in zip(
                            phase,
                            self.w.stride,
                            (chunk.kr0, chunk.kc0),
                            (chunk.rows, chunk.cols),
                            strict=True,
                        )
                    ]
                    if not all(steps for _, steps in taps):
                        continue
                    slots, fields = self._moving(place, block, chunk, phase, taps)
                    if not self.w.ident:
                        a, more = self._stationary(blocks, block, index, chunk, phase, taps)
                        slots, fields = [a, *slots], fields | more
                    done = number, phase
                    self.lw.compute(
                        slots,
                        acc,
                        first=int(done not in begun),
                        **fields | self._visited(place, phase, base + number * pixels),
                    )
                    begun.add(done)
        for number in range(len(blocks)):
            for phase in phases:
                if (number, phase) not in begun:
                    self._clear(place, phase, base + number * pixels, acc)

    def _visited(self, place, phase, base):
        """Fields for the accumulators of a phase of the tile."""
        (_, ni), (_, nr), (_, nc) = place
        (_, q1, off_r, _), (_, q0, off_c, _) = phase
        s1, s0 = self.w.stride
        return {
            "cbase": base + off_r * nc + off_c,
            "q2": ni,
            "q1": q1,
            "q0": q0,
            "cq2": nr * nc,
            "cq1": s1 * nc,
            "cq0": s0,
        }

    def _moving(self, place, block, chunk, phase, taps):
        """(slots, fields) of the window of dY, and where tags take the place of weights of those,
        for a phase of a chunk."""
        lw, w, tm = self.lw, self.w, self.lw.config.tm
        images, (r0, nr), (c0, nc) = place
        (k0, (s1, s0)) = w.kernel[1], w.stride
        (fr, _, _, at_r), (fc, _, _, at_c) = phase
        (u0, t1), (v0, t0) = taps
        channels = (block * tm, tm) if w.ident else (chunk.c0, chunk.channels)
        rows = _reached(w, 0, r0, nr, chunk.kr0, chunk.rows)
        cols = _reached(w, 1, c0, nc, chunk.kc0, chunk.cols)
        window = images, channels, rows, cols
        key = place, channels, rows, cols
        b = lw.b.tile(
            key, lambda slot: load_gradient(lw, Unit.LOAD_B, slot, w, self.dy, self.tags, *window)
        )
        image = rows[1] * cols[1]
        start = (at_r - u0 - rows[0]) * cols[1] + at_c - v0 - cols[0]
        fields = {
            "rows": min(tm, w.n - block * tm),
            "t1": t1,
            "t0": t0,
            "ng": 1,
            "bbase": b.base + start,
            "bt1": -cols[1],
            "bt0": -1,
            "bg": images[1] * image,
            "bq2": image,
            "bq1": cols[1],
            "bq0": 1,
            "lanes_last": tm,
            "al_n": 1,
        }
        if not w.ident:
            return [b], fields
        fields["ident"] = 1
        if self.tags is None:
            return [b], fields
        a = lw.a.tile(key, lambda slot: load_map(lw, Unit.LOAD_A, slot, self.tags, *window))
        return [a, b], fields | {
            "sel": 1,
            "abase": a.base + start,
            "tag0": (fr + s1 * u0) * k0 + fc + s0 * v0,
            "tg1": s1 * k0 % 128,
            "tg0": s0 % 128,
        }

    def _stationary(self, blocks, block, index, chunk, phase, taps):
        """(slot, fields) of the weights for a phase of a chunk and a block."""
        w, tm, tn = self.w, self.lw.config.tm, self.lw.config.tn
        (s1, s0), ((u0, _), (v0, _)) = w.stride, taps
        row, col = phase[0][0] + s1 * u0, phase[1][0] + s0 * v0  # the first tap
        if self.resident is not None:
            resident, area = self.resident
            a, rows, cols, kr0, kc0 = area.slots[0], *w.kernel, 0, 0
            word, skew = resident.entry(chunk.c0 // tn, block * tm)
            group = resident.stride
        else:
            rows, cols, kr0, kc0 = chunk.rows, chunk.cols, chunk.kr0, chunk.kc0
            entries = min(len(blocks) * tm, w.n - blocks[0] * tm)
            a = self.lw.a.tile(
                (blocks, index), lambda slot: self._load(slot, blocks[0], entries, chunk)
            )
            skew = (block - blocks[0]) * tm
            word, group = skew * rows * cols, entries * rows * cols
        return a, {
            "abase": a.base + word + (row - kr0) * cols + col - kc0,
            "rch0": skew % tn,
            "ng": chunk.groups(tn),
            "lanes_last": chunk.last(tn),
            "ag": group,
            "at1": s1 * cols,
            "at0": s0,
            "ar": rows * cols,
        }

    def _clear(self, place, phase, base, acc):
        """Emit zeros for the pixels of a phase that no tap reaches."""
        one = dict.fromkeys(("zero", "first", "ng", "t1", "t0", "al_n"), 1)
        tm = self.lw.config.tm
        self.lw.compute([], acc, rows=tm, lanes_last=tm, **one, **self._visited(place, phase, base))

    def _load(self, slot, block, entries, chunk):
        """Load weights of the chunk's output channels and taps, for `entries` input channels from
        those of `block` on; groups of lanes follow each other."""
        lw, weights, tm, tn = self.lw, self.weights, self.lw.config.tm, self.lw.config.tn
        per, first, blocks = tn // tm, chunk.c0 // tm, -(-chunk.channels // tm)
        channels, taps_r = (block * tm, entries), (chunk.kr0, chunk.rows)
        words = entries * chunk.rows * chunk.cols
        whole = blocks // per if chunk.cols == weights.k0 else 0
        if whole:
            load_groups(lw, slot, weights, first, (per, whole), channels, taps_r)
        for at in range(whole * per, blocks, per):
            load_weights(
                lw,
                slot,
                weights,
                first + at,
                min(per, blocks - at),
                channels,
                taps_r,
                (chunk.kc0, chunk.cols),
                base=slot.base + at // per * words,
                k2=1,
            )

    def _drain(self, place, blocks, base, acc):
        lw, dx, mask = self.lw, self.dx, self.mask
        (i0, ni), (r0, nr), (c0, nc) = place
        images = range(i0, i0 + ni)
        offset = i0 * dx.image_bytes + blocks[0] * dx.block_bytes
        offset += r0 * dx.row_bytes + c0 * dx.pixel_bytes
        fields = {"src_base": base, "out_fp32": int(dx.fmt == "fp32"), "as0": 1, "as2": nr * nc}
        if self.scale is not None:
            fields |= {"scale": 1, "imm0": self.scale}
        reads = [acc]
        if mask is not None:
            fields |= {"mask": 1, "opd_base": mask.address + offset}
            fields["opd_fp32"] = int(mask.fmt == "fp32")
            reads += lw.memory(mask, images)
        if nc == dx.cols:
            fields |= {"p2": ni, "p1": len(blocks), "p0": nr * nc, "as1": ni * nr * nc}
            loops = [(ni, dx.image_bytes), (len(blocks), dx.block_bytes)]
            length = nr * dx.row_bytes
        else:  # of one image
            fields |= {"p2": len(blocks), "p1": nr, "p0": nc, "as1": nc}
            loops = [(len(blocks), dx.block_bytes), (nr, dx.row_bytes)]
            length = nc * dx.pixel_bytes
        lw.post(reads, lw.memory(dx, images), loops, length, dx.address + offset, **fields)


def _phases(w, axis, first, count):
    """Per phase of the stride: (phase, steps, offset of the first in the tile, row of dY that its
    tap 0 meets)."""
    stride, padding = w.stride[axis], w.padding[axis]
    for phase in range(min(stride, count)):
        at = first + phase
        yield (
            (at + padding) % stride,
            -(-(count - phase) // stride),
            phase,
            (at + padding) // stride,
        )


def _reached(w, axis, first, count, tap, taps):
    """(first, count) of the rows of dY that some taps of any phase meet."""
    stride, first = w.stride[axis], first + w.padding[axis]
    low = first // stride - (tap + taps - 1) // stride
    return low, (first + count - 1) // stride - tap // stride - low + 1


def _taps(phase, stride, first, count):
    """Taps first..first+count-1 of a phase as (first step, steps): tap = phase + stride * step."""
    low = max(0, -(-(first - phase) // stride))
    high = (first + count - 1 - phase) // stride
    return low, max(0, high - low + 1)
