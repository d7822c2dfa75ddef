"""Weight gradients, and the SGD update."""

from gradgate.hw.isa import Unit

from .forward import pixel_tiles
from .loads import load_gradient, load_map

__all__ = ["weight_gradient", "sgd", "refresh"]


def weight_gradient(
    lw, w, x, dy, weights, *, tags=None, train=(True, True), key=None, momentum=False
):
    """Emit the pass from feature map `x` and gradient `dy` to the gradient of `weights`.

    Parameters
    ----------
    tags : FeatureMap or None
        Winners of the pooling that follows Window `w`; `dy` is the gradient of its output.
    train : (bool, bool)
        Whether the weight, the bias is wanted; entries of the other are left as they are.
    key : hashable or None
        With a key, SGD is done while the gradient leaves the accumulators, with hyperparameters
        patched under that key, and no gradient is stored.
    momentum : bool
        Whether SGD uses and changes the momentum.
    """
    config = lw.config
    tm, tn = config.tm, config.tn
    tile = lw.scheduler.gradient(w)
    lw.a.partition(tile.a_words)
    lw.b.partition(tile.b_words)
    places = pixel_tiles(dy.images, *w.out, tile)
    chunks = tile.chunks if train[0] else tile.chunks[-1:]
    per = tn // tm
    for first in range(0, dy.blocks, tile.sets):
        blocks = range(first, min(first + tile.sets, dy.blocks))
        for index, chunk in enumerate(chunks):
            entries = chunk.channels * chunk.rows * chunk.cols
            ones = train[1] and index == len(chunks) - 1
            base, acc = lw.region()
            for count, place in enumerate(places):
                _multiply(
                    lw,
                    w,
                    x,
                    dy,
                    tags,
                    chunk,
                    index,
                    place,
                    blocks,
                    per,
                    base,
                    entries + ones,
                    acc,
                    count == 0,
                    ones,
                )
            for block in blocks:
                start = base + (block - first) * (entries + ones)
                for source, offset, loops, length in _pieces(weights, chunk, train[0], ones):
                    at = block * weights.entries + offset
                    _drain(lw, weights, start + source, at, loops, length, acc, key, momentum)


def _pieces(w, chunk, weight, ones):
    """Runs of entries in which a chunk leaves the accumulators: (first accumulator, first entry,
    loops, length of a run)."""
    size, taps = w.entry_bytes, w.k1 * w.k0
    entries = chunk.channels * chunk.rows * chunk.cols
    first = (chunk.c0 * w.k1 + chunk.kr0) * w.k0 + chunk.kc0
    if weight and chunk.rows * chunk.cols == taps:  # the bias follows
        return [(0, first, [], entries + ones)]
    pieces = []
    if weight:
        loops = [(chunk.channels, taps * size), (chunk.rows, w.k0 * size)]
        pieces.append((0, first, loops, chunk.cols))
    if ones:
        pieces.append((entries, w.entries - 1, [], 1))
    return pieces


def _multiply(lw, w, x, dy, tags, chunk, index, place, blocks, per, base, stride, acc, first, ones):
    config = lw.config
    tm, tn = config.tm, config.tn
    images, (r0, nr), (c0, nc) = place
    (s1, s0), ni = w.stride, images[1]
    span_r, span_c = w.span(0, nr, chunk.rows), w.span(1, nc, chunk.cols)
    skew = (nr * nc, nc, 1)
    b = lw.b.tile(
        (place, index),
        lambda slot: load_map(
            lw,
            Unit.LOAD_B,
            slot,
            x,
            images,
            (chunk.c0, chunk.channels),
            (r0 * s1 - w.padding[0] + chunk.kr0, span_r),
            (c0 * s0 - w.padding[1] + chunk.kc0, span_c),
            skew=skew,
            sd=(s1, s0),
        ),
    )
    image = span_r * span_c
    for number, block in enumerate(blocks):
        group = block // per
        channels = group * tn, min(tn, (dy.blocks - group * per) * tm)
        a = lw.a.tile(
            (place, group),
            lambda slot, channels=channels: load_gradient(
                lw,
                Unit.LOAD_A,
                slot,
                w,
                dy,
                tags,
                images,
                channels,
                (r0, nr),
                (c0, nc),
                skew=skew,
            ),
        )
        lw.compute(
            [a, b],
            acc,
            dw=1,
            first=int(first),
            ones=int(ones),
            abase=a.base,
            bbase=b.base,
            cbase=base + number * stride,
            rows=min(tm, w.m - block * tm),
            rch0=(block - group * per) * tm,
            np=ni * nr * nc,
            ng=chunk.groups(tn),
            lanes_last=chunk.last(tn),
            t1=chunk.rows,
            t0=chunk.cols,
            q2=ni,
            q1=nr,
            q0=nc,
            bg=ni * image,
            bt1=span_c,
            bt0=1,
            bq2=image,
            bq1=s1 * span_c,
            bq0=s0,
            rskew=nc % tn,
            sd1=s1,
            sd0=s0,
            al_n=1,
        )


def _drain(lw, w, source, offset, loops, length, acc, key, momentum):
    """Runs of `length` entries from entry `offset` on, from accumulators to gradient or update."""
    size, entries = w.entry_bytes, length
    for count, _ in loops:
        entries *= count
    fields = {"src_base": source, "p0": entries, "as0": 1}
    if key is not None:
        _update(lw, w, [acc], loops, length, offset, key, momentum, **fields)
        return
    lw.post(
        [acc],
        lw.memory(w, ("gradient",)),
        loops,
        length * size,
        w.gradient + offset * size,
        out_fp32=1,
        **fields,
    )


def _update(lw, w, reads, loops, length, offset, key, momentum, **fields):
    """Emit the update of runs of `length` entries, from entry `offset` on."""
    size = w.entry_bytes
    master, hazards = w.master + offset * size, lw.memory(w, ("master",))
    if momentum:
        hazards += lw.memory(w, ("momentum",))
        fields |= {"mom": 1, "aux_base": w.momentum + offset * size}
    lw.post(
        [*reads, *hazards],
        hazards,
        loops,
        length * size,
        master,
        opd_base=master,
        sgd=1,
        opd_fp32=1,
        out_fp32=1,
        patch=key,
        **fields,
    )


def sgd(lw, w, key, momentum, train=(True, True)):
    """Emit the update of the master by the gradient in memory; parameters as for
    `weight_gradient`."""
    size, per_block = w.entry_bytes, w.entries - 1
    if train == (True, True):
        pieces = [(0, w.blocks, w.entries)]
    elif train[0]:
        pieces = [(b * w.entries, 1, per_block) for b in range(w.blocks)]
    else:
        pieces = [(b * w.entries + per_block, 1, 1) for b in range(w.blocks)]
    for offset, blocks, entries in pieces:
        _update(
            lw,
            w,
            lw.memory(w, ("gradient",)),
            [(blocks, entries * size), (entries, size)],
            1,
            offset,
            key,
            momentum,
            src_mem=1,
            src_fp32=1,
            src_base=w.gradient + offset * size,
            p1=blocks,
            p0=entries,
        )


def refresh(lw, w):
    """Emit the conversion of the master to the compute copy, where that is a tensor of its own."""
    if not w.copied:
        return
    size = w.copy_entry_bytes
    lw.post(
        lw.memory(w, ("master",)),
        lw.memory(w, ("copy",)),
        [(w.blocks, w.entries * size), (w.entries, size)],
        size,
        w.copy,
        src_mem=1,
        src_fp32=1,
        src_base=w.master,
        p1=w.blocks,
        p0=w.entries,
    )
