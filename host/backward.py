"""Gradient of a layer's input: the transposed convolution, and pooling backward."""

from gradgate.hw.isa import Unit

from .forward import pixel_tiles
from .loads import load_gradient, load_groups, load_map, load_weights
from .tiling import backward_tiling

__all__ = ["backward"]


def backward(lw, w, dy, dx, *, weights=None, scale=None, tags=None, mask=None):
    """Emit the pass from the gradient `dy` of the output of Window `w`, or of the pooling that
    follows it, to that of its input, `dx`.

    Parameters
    ----------
    weights : Weights or None
        None for pooling, which works on one channel block at a time.
    scale : int or None
        fp32 bits of the factor on the results (average pooling).
    tags : FeatureMap or None
        Winners of the windows where `w` is a maximum pooling, or of the pooling that follows it.
    mask : FeatureMap or None
        The gradient is kept where this one is positive: the output of a ReLU before the layer.
    """
    config = lw.config
    tile = backward_tiling(w, config, w.ident and tags is not None)
    if tile.a_words:
        lw.a.partition(tile.a_words)
    lw.b.partition(tile.b_words)
    places = pixel_tiles(dx.images, dx.rows, dx.cols, tile)
    sets = [range(b, min(b + tile.sets, dx.blocks)) for b in range(0, dx.blocks, tile.sets)]
    order = (
        [(p, s) for p in places for s in sets]
        if tile.pixels_outer
        else [(p, s) for s in sets for p in places]
    )
    for place, blocks in order:
        base, acc = lw.region()
        pixels = place[0][1] * place[1][1] * place[2][1]
        for number, block in enumerate(blocks):
            start = base + number * pixels
            _multiply(lw, w, tile, dy, weights, tags, place, blocks, block, start, acc)
        _drain(lw, dx, place, blocks, base, acc, scale, mask)


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


def _multiply(lw, w, tile, dy, weights, tags, place, blocks, block, base, acc):
    config = lw.config
    tm, tn = config.tm, config.tn
    images, (r0, nr), (c0, nc) = place
    k0, (s1, s0) = w.kernel[1], w.stride
    select = w.ident and tags is not None
    begun = set()
    phases = [(p, q) for p in _phases(w, 0, r0, nr) for q in _phases(w, 1, c0, nc)]
    for index, chunk in enumerate(tile.chunks):
        channels = (block * tm, tm) if w.ident else (chunk.c0, chunk.channels)

        rows_y = _reached(w, 0, r0, nr, chunk.kr0, chunk.rows)
        cols_y = _reached(w, 1, c0, nc, chunk.kc0, chunk.cols)
        span_c = cols_y[1]
        image = rows_y[1] * span_c

        window = images, channels, rows_y, cols_y
        key = (place, channels, rows_y, cols_y)
        slots = [
            lw.b.tile(
                key,
                lambda slot, window=window: load_gradient(
                    lw, Unit.LOAD_B, slot, w, dy, tags, *window
                ),
            )
        ]
        fields = {"bbase": slots[0].base, "rows": min(tm, w.n - block * tm)}
        pixels = chunk.rows * chunk.cols
        if select:
            slots.append(
                lw.a.tile(
                    key,
                    lambda slot, window=window: load_map(lw, Unit.LOAD_A, slot, tags, *window),
                )
            )
        elif not w.ident:
            entries = min(len(blocks) * tm, w.n - blocks[0] * tm)
            slots.append(
                lw.a.tile(
                    (blocks, index),
                    lambda slot, chunk=chunk, entries=entries: _load_transposed(
                        lw, slot, weights, blocks[0], entries, chunk
                    ),
                )
            )
        for (fr, q1, off_r, at_r), (fc, q0, off_c, at_c) in phases:
            u0, t1 = _taps(fr, s1, chunk.kr0, chunk.rows)
            v0, t0 = _taps(fc, s0, chunk.kc0, chunk.cols)
            if not (t1 and t0):
                continue
            start = (at_r - u0 - rows_y[0]) * span_c + at_c - v0 - cols_y[0]
            sweep = fields | {
                "first": int((fr, fc) not in begun),
                "t1": t1,
                "t0": t0,
                "ng": 1,
                "cbase": base + off_r * nc + off_c,
                "q2": images[1],
                "q1": q1,
                "q0": q0,
                "bbase": slots[0].base + start,
                "bt1": -span_c,
                "bt0": -1,
                "bq2": image,
                "bq1": span_c,
                "bq0": 1,
                "cq2": nr * nc,
                "cq1": s1 * nc,
                "cq0": s0,
                "lanes_last": tm,
                "al_n": 1,
            }
            begun.add((fr, fc))
            if select:
                sweep |= {
                    "sel": 1,
                    "abase": slots[1].base + start,
                    "tag0": (fr + s1 * u0) * k0 + fc + s0 * v0,
                    "tg1": s1 * k0 % 128,
                    "tg0": s0 % 128,
                }
            if w.ident:
                sweep["ident"] = 1
            else:
                groups = chunk.groups(tn)
                tap = (fr + s1 * u0 - chunk.kr0) * chunk.cols + fc + s0 * v0 - chunk.kc0
                tap += (block - blocks[0]) * tm * pixels
                sweep |= {
                    "abase": slots[1].base + tap,
                    "ng": groups,
                    "lanes_last": chunk.last(tn),
                    "ag": entries * pixels,
                    "bg": images[1] * image,
                    "at1": s1 * chunk.cols,
                    "at0": s0,
                    "ar": pixels,
                }
            lw.compute(slots, acc, **sweep)
    for (fr, q1, off_r, _), (fc, q0, off_c, _) in phases:
        if (fr, fc) not in begun:
            lw.compute(
                [],
                acc,
                zero=1,
                first=1,
                ng=1,
                t1=1,
                t0=1,
                rows=tm,
                lanes_last=tm,
                al_n=1,
                cbase=base + off_r * nc + off_c,
                q2=images[1],
                q1=q1,
                q0=q0,
                cq2=nr * nc,
                cq1=s1 * nc,
                cq0=s0,
            )


def _load_transposed(lw, slot, weights, block, entries, chunk):
    """Weights of the chunk's output channels and taps, for `entries` input channels from those of
    `block` on; groups of lanes follow each other."""
    tm, tn = lw.config.tm, lw.config.tn
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
        )


def _drain(lw, dx, place, blocks, base, acc, scale, mask):
    (i0, ni), (r0, nr), (c0, nc) = place
    images = range(i0, i0 + ni)
    offset = i0 * dx.image_bytes + blocks[0] * dx.block_bytes
    offset += r0 * dx.row_bytes + c0 * dx.pixel_bytes
    fields = {"src_base": base, "out_fp32": int(dx.fmt == "fp32"), "as0": 1, "p2": ni}
    if scale is not None:
        fields |= {"scale": 1, "imm0": scale}
    reads = [acc]
    if mask is not None:
        fields |= {"mask": 1, "opd_base": mask.address + offset}
        fields["opd_fp32"] = int(mask.fmt == "fp32")
        reads += lw.memory(mask, images)
    if nc == dx.cols:
        fields |= {"p1": len(blocks), "p0": nr * nc, "as2": nr * nc, "as1": ni * nr * nc}
        inner = (len(blocks), dx.block_bytes), nr * dx.row_bytes
    else:
        fields |= {"p1": nr, "p0": nc, "as2": nr * nc, "as1": nc}
        inner = (nr, dx.row_bytes), nc * dx.pixel_bytes
    loops = [(ni, dx.image_bytes), inner[0]]
    lw.post(reads, lw.memory(dx, images), loops, inner[1], dx.address + offset, **fields)
