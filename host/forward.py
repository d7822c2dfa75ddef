"""Forward pass of one layer: convolution, linear layer, pooling, ReLU."""

from dataclasses import dataclass

from gradgate.hw.isa import Unit

from .loads import load_map, load_weights
from .resident import Resident
from .tensors import FeatureMap, Weights
from .tiling import Window

__all__ = ["Forward", "pixel_tiles", "loop_order"]


def pixel_tiles(images, rows, cols, tile):
    """All tiles ((first image, count), (first row, count), (first column, count))."""
    return [
        (
            (i, min(tile.images, images - i)),
            (r, min(tile.rows, rows - r)),
            (c, min(tile.cols, cols - c)),
        )
        for i in range(0, images, tile.images)
        for r in range(0, rows, tile.rows)
        for c in range(0, cols, tile.cols)
    ]


def loop_order(tile, places, blocks):
    """All (place, blocks of one region of accumulators) in the order of Tile `tile`."""
    sets = [range(b, min(b + tile.sets, blocks)) for b in range(0, blocks, tile.sets)]
    if tile.pixels_outer:
        return [(place, some) for place in places for some in sets]
    return [(place, some) for some in sets for place in places]


@dataclass
class Forward:
    """The forward pass of a layer.

    Parameters
    ----------
    lw : Lowering
    w : Window
    x, out : FeatureMap
        Input; output of the window, or of the pooling that follows it.
    weights : Weights or None
        None for an identity pass (pooling), which works on one channel block at a time.
    bias, relu : bool
    scale : int or None
        fp32 bits of the factor on the results.
    tags : FeatureMap or None
        Where the winners of `w.pool` go.
    padneg : bool
        Pad with the most negative number instead of zero.
    resident : Resident or None
        Leave the weights in buffer A.
    """

    lw: object
    w: Window
    x: FeatureMap
    out: FeatureMap
    weights: Weights | None = None
    bias: bool = False
    relu: bool = False
    scale: int | None = None
    tags: FeatureMap | None = None
    padneg: bool = False
    resident: Resident | None = None

    def emit(self):
        """Emit the pass."""
        lw, w, out = self.lw, self.w, self.out
        tile = lw.tile("forward", w, held=self.resident)
        area = None
        if self.resident:
            area = lw.a.hold(self.resident.slots, tile.a_words)
        elif not w.ident:
            lw.a.partition(tile.a_words)
        lw.b.partition(tile.b_words)
        places = pixel_tiles(out.images, out.rows, out.cols, tile)
        for place, blocks in loop_order(tile, places, out.blocks):
            (_, ni), (_, nr), (_, nc) = place
            pixels = ni * w.pooled(0, nr) * w.pooled(1, nc)
            region, acc = lw.region(len(blocks) * pixels)
            bases = [region + number * pixels for number in range(len(blocks))]
            for index, chunk in enumerate(tile.chunks):
                for block, base in zip(blocks, bases, strict=True):
                    b, fields = self._moving(place, block, index, chunk)
                    slots = [b]
                    if not w.ident:
                        a, more = self._stationary(area, block, index, chunk)
                        slots, fields = [a, b], fields | more
                    lw.compute(slots, acc, first=int(index == 0), cbase=base, **fields)
            lw.filled()
            for block, base in zip(blocks, bases, strict=True):
                self._drain(place, block, base, acc)

    def _moving(self, place, block, index, chunk):
        """(slot, fields) of the window of x under a tile."""
        lw, w, tm, tn = self.lw, self.w, self.lw.config.tm, self.lw.config.tn
        images, (r0, nr), (c0, nc) = place
        if w.pool is not None:
            r0, c0 = r0 * w.pool[1][0], c0 * w.pool[1][1]
        nr, nc = w.pooled(0, nr), w.pooled(1, nc)
        span_r, span_c = w.span(0, nr, chunk.rows), w.span(1, nc, chunk.cols)
        rows = r0 * w.stride[0] - w.padding[0] + chunk.kr0, span_r
        cols = c0 * w.stride[1] - w.padding[1] + chunk.kc0, span_c
        channels = (block * tm, tm) if w.ident else (chunk.c0, chunk.channels)
        window = images, channels, rows, cols
        b = lw.b.tile(
            (place, index, block if w.ident else 0),
            lambda slot: load_map(
                lw, Unit.LOAD_B, slot, self.x, *window, packed=w.packed, padneg=self.padneg
            ),
        )
        pitch = -(-span_c // w.packed) * w.packed if w.packed else span_c
        image = span_r * pitch
        fields = {
            "rows": min(tm, w.m - block * tm),
            "bbase": b.base * (w.packed or 1),
            "t1": chunk.rows,
            "t0": chunk.cols,
            "ng": 1,
            "q2": images[1],
            "q1": nr,
            "q0": nc,
            "bt1": pitch,
            "bt0": 1,
            "bq2": image,
            "bq1": w.stride[0] * pitch,
            "bq0": w.stride[1],
            "cq2": nr * nc,
            "cq1": nc,
            "cq0": 1,
        }
        if w.ident:
            fields |= {"ident": 1, "lanes_last": tm, "al_n": 1}
        elif w.packed:
            groups = -(-chunk.cols // w.packed)
            fields |= {
                "pack": 1,
                "t0": groups,
                "bt0": w.packed,
                "lanes_last": 4 * (chunk.cols - (groups - 1) * w.packed),
            }
        else:
            fields |= {
                "ng": chunk.groups(tn),
                "lanes_last": chunk.last(tn),
                "bg": images[1] * image,
            }
        return b, fields

    def _stationary(self, area, block, index, chunk):
        """(slot, fields) of the weights of a chunk for a block; `area`: where they stay, or
        None."""
        lw, w, weights = self.lw, self.w, self.weights
        tm, tn = lw.config.tm, lw.config.tn
        per, taps = tn // tm, chunk.rows * chunk.cols
        group = block // per

        def load(slot):
            load_weights(
                lw,
                slot,
                weights,
                group * per,
                min(per, weights.blocks - group * per),
                (chunk.c0, chunk.channels),
                (chunk.kr0, chunk.rows),
                (chunk.kc0, chunk.cols),
                base=slot.base,
                k2=1,
                k0=4 if w.packed else 0,
            )

        if area is None:
            a = lw.a.tile((group, index), load)
        else:
            a = area.tile((group, index), load, self.resident.number(group, index))
        fields = {
            "a_pix": 1,
            "abase": a.base,
            "rch0": (block - group * per) * tm,
            "al0": taps,
            "at1": chunk.cols,
        }
        if w.packed:
            return a, fields | {"at0": w.packed, "al_n": 4, "al1": 1}
        return a, fields | {"ag": tn * taps, "at0": 1, "al_n": tn}

    def _drain(self, place, block, base, acc):
        lw, w, out = self.lw, self.w, self.out
        (i0, ni), (r0, nr), (c0, nc) = place
        cols = w.pooled(1, nc)
        window, step = w.pool or ((1, 1), (1, 1))
        fields = {
            "src_base": base,
            "p2": ni,
            "p1": nr,
            "p0": nc,
            "as2": w.pooled(0, nr) * cols,
            "as1": step[0] * cols,
            "as0": step[1],
            "aw1": cols,
            "aw0": 1,
            "w1": window[0],
            "w0": window[1],
            "pool": int(w.pool is not None),
        }
        images = range(i0, i0 + ni)
        reads, writes = [acc], lw.memory(out, images)
        if self.scale is not None:
            fields |= {"scale": 1, "imm0": self.scale}
        if self.bias:
            weights = self.weights
            last = weights.master + ((block + 1) * weights.entries - 1) * weights.entry_bytes
            fields |= {"bias": 1, "imm2": last}
            reads += lw.memory(weights, ("master",))
        if self.tags is not None:
            fields |= {"tags": 1, "aux_base": _place(self.tags, i0, block, r0, c0)}
            writes += lw.memory(self.tags, images)
        lw.post(
            reads,
            writes,
            [(ni, out.image_bytes), (nr, out.row_bytes)],
            nc * out.pixel_bytes,
            _place(out, i0, block, r0, c0),
            relu=int(self.relu),
            out_fp32=int(out.fmt == "fp32"),
            **fields,
        )


def _place(x, image, block, row, col):
    """Byte address of a pixel of feature map `x`."""
    return (
        x.address
        + image * x.image_bytes
        + block * x.block_bytes
        + row * x.row_bytes
        + col * x.pixel_bytes
    )
