"""Gradient of a layer's input: the transposed convolution, and pooling backward."""

from gradgate.hw.isa import Unit

from .forward import loop_order, pixel_tiles
from .loads import load_gradient, load_groups, load_map, load_weights

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
    tile = lw.scheduler.backward(w, w.ident and tags is not None)
    if tile.a_words:
        lw.a.partition(tile.a_words)
    lw.b.partition(tile.b_words)
    places = pixel_tiles(dx.images, dx.rows, dx.cols, tile)
    for place, blocks in loop_order(tile, places, dx.blocks):
        base, acc = lw.region()
        _multiply(lw, w, tile, dy, weights, tags, place, blocks, base, acc)
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


def _multiply(lw, w, tile, dy, weights, tags, place, blocks, base, acc):
    _, (r0, nr), (c0, nc) = place
    pixels = place[0][1] * nr * nc
    phases = [(p, q) for p in _phases(w, 0, r0, nr) for q in _phases(w, 1, c0, nc)]
    begun = set()
    for index, chunk in enumerate(tile.chunks):
        for number, block in enumerate(blocks):
            start = base + number * pixels
            for phase in phases:
                row, col = phase[0][0], phase[1][0]
                first = (block, row, col) not in begun
                if _sweep(
                    lw,
                    w,
                    dy,
                    weights,
                    tags,
                    place,
                    blocks,
                    block,
                    index,
                    chunk,
                    phase,
                    start,
                    acc,
                    first,
                ):
                    begun.add((block, row, col))
    for number, block in enumerate(blocks):
        for phase in phases:
            if (block, phase[0][0], phase[1][0]) not in begun:
                _clear(lw, w, place, phase, base + number * pixels, acc)


def _sweep(lw, w, dy, weights, tags, place, blocks, block, index, chunk, phase, base, acc, first):
    """Emit one phase of a chunk for one block; returns whether any of its taps is in the chunk."""
    tm, tn = lw.config.tm, lw.config.tn
    images, (r0, nr), (c0, nc) = place
    k0, (s1, s0) = w.kernel[1], w.stride
    (fr, q1, off_r, at_r), (fc, q0, off_c, at_c) = phase
    u0, t1 = _taps(fr, s1, chunk.kr0, chunk.rows)
    v0, t0 = _taps(fc, s0, chunk.kc0, chunk.cols)
    if not (t1 and t0):
        return False
    channels = (block * tm, tm) if w.ident else (chunk.c0, chunk.channels)
    rows_y = _reached(w, 0, r0, nr, chunk.kr0, chunk.rows)
    cols_y = _reached(w, 1, c0, nc, chunk.kc0, chunk.cols)
    span_c = cols_y[1]
    image = rows_y[1] * span_c
    window = images, channels, rows_y, cols_y
    key = (place, channels, rows_y, cols_y)
    b = lw.b.tile(key, lambda slot: load_gradient(lw, Unit.LOAD_B, slot, w, dy, tags, *window))
    start = (at_r - u0 - rows_y[0]) * span_c + at_c - v0 - cols_y[0]
    fields = {
        "first": int(first),
        "rows": min(tm, w.n - block * tm),
        "t1": t1,
        "t0": t0,
        "ng": 1,
        "cbase": base + off_r * nc + off_c,
        "q2": images[1],
        "q1": q1,
        "q0": q0,
        "bbase": b.base + start,
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
    if w.ident:
        slots = [b]
        fields["ident"] = 1
        if tags is not None:
            a = lw.a.tile(key, lambda slot: load_map(lw, Unit.LOAD_A, slot, tags, *window))
            slots.append(a)
            fields |= {
                "sel": 1,
                "abase": a.base + start,
                "tag0": (fr + s1 * u0) * k0 + fc + s0 * v0,
                "tg1": s1 * k0 % 128,
                "tg0": s0 % 128,
            }
        lw.compute(slots, acc, **fields)
        return True
    taps = chunk.rows * chunk.cols
    entries = min(len(blocks) * tm, w.n - blocks[0] * tm)
    a = lw.a.tile(
        (blocks, index),
        lambda slot: _load_transposed(lw, slot, weights, blocks[0], entries, chunk),
    )
    tap = (fr + s1 * u0 - chunk.kr0) * chunk.cols + fc + s0 * v0 - chunk.kc0
    fields |= {
        "abase": a.base + tap + (block - blocks[0]) * tm * taps,
        "rch0": (block - blocks[0]) * tm % tn,
        "ng": chunk.groups(tn),
        "lanes_last": chunk.last(tn),
        "ag": entries * taps,
        "bg": images[1] * image,
        "at1": s1 * chunk.cols,
        "at0": s0,
        "ar": taps,
    }
    lw.compute([a, b], acc, **fields)
    return True


def _clear(lw, w, place, phase, base, acc):
    """Emit zeros for the pixels of a phase that no tap reaches."""
    (_, ni), (_, nr), (_, nc) = place
    (_, q1, off_r, _), (_, q0, off_c, _) = phase
    lw.compute(
        [],
        acc,
        zero=1,
        first=1,
        ng=1,
        t1=1,
        t0=1,
        rows=lw.config.tm,
        lanes_last=lw.config.tm,
        al_n=1,
        cbase=base + off_r * nc + off_c,
        q2=ni,
        q1=q1,
        q0=q0,
        cq2=nr * nc,
        cq1=w.stride[0] * nc,
        cq0=w.stride[1],
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
            k2=1,
        )


def _drain(lw, dx, place, blocks, base, acc, scale, mask):
    (i0, ni), (r0, nr), (c0, nc) = place
    images = range(i0, i0 + ni)
    offset = i0 * dx.image_bytes + blocks[0] * dx.block_bytes
    offset += r0 * dx.row_bytes + c0 * dx.pixel_bytes
    fields = {"src_base": base, "out_fp32": int(dx.fmt == "fp32"), "as0": 1, "as2": nr * nc}
    if scale is not None:
        fields |= {"scale": 1, "imm0": scale}
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
