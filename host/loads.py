"""LOAD instructions: feature maps and weights into the tile buffers, in every order passes need."""

from gradgate.hw.isa import Unit

__all__ = ["load_map", "load_gradient", "load_weights", "load_groups"]


def load_map(
    lw,
    unit,
    slot,
    x,
    images,
    channels,
    rows,
    cols,
    *,
    skew=(0, 0, 0),
    sd=(1, 1),
    packed=0,
    padneg=False,
):
    """Load a window of feature map `x`; lane groups of Tn channels follow each other in the slot.

    Parameters
    ----------
    images, channels, rows, cols : (first, count)
        Rows and columns outside the map are padding. The first channel starts a channel block.
    skew, sd : see docs/program.md, section 3 (k2, k1, k0) and (sd1, sd0)
    packed : int
        Pixels per buffer word, 0 for one without `pack`.

    Returns the words of one group.
    """
    (i0, ni), (ch0, nch), (r0, nr), (c0, nc) = images, channels, rows, cols
    pitch = -(-nc // packed) if packed else nc
    words = ni * nr * pitch
    common = {
        "padneg": int(padneg),
        "k2": skew[0],
        "k1": skew[1],
        "k0": 4 if packed else skew[2],
        "sd1": sd[0],
        "sd0": sd[1],
    }

    if x.dense and (r0, nr, c0, nc) == (0, 1, 0, 1) and not packed:
        per = max(1, lw.config.tn // x.block)
        whole, rest = divmod(-(-nch // x.block), per)
        base = x.address + i0 * x.image_bytes + ch0 // x.block * x.block_bytes
        for first, groups, width in ((0, whole, per), (whole, 1, rest)):
            if groups and width:
                lw.load(
                    unit,
                    slot,
                    lw.memory(x, range(i0, i0 + ni)),
                    [(ni, x.image_bytes)],
                    groups * width * x.pixel_bytes,
                    base + first * per * x.pixel_bytes,
                    abase=slot.base + first * words,
                    spp=width * x.block // lw.config.beat_elems,
                    n2=ni,
                    n1=groups,
                    a2=1,
                    a1=ni,
                    **common | {"k1": 0},
                )
        return words

    inside_r, inside_c = _inside(r0, nr, x.rows), _inside(c0, nc, x.cols)
    common |= {"n1": nr, "n0": nc, "a1": pitch, "a2": nr * pitch, "pack": int(bool(packed))}
    _load_blocks(lw, unit, slot, x, images, channels, (r0, *inside_r), (c0, *inside_c), **common)
    return words


def load_gradient(lw, unit, slot, w, dy, tags, images, channels, rows, cols, *, skew=(0, 0, 0)):
    """Load a window of the gradient of Window `w`'s output.

    Where a pooling follows (`w.pool`), `dy` is the gradient of its output and `tags` its winners,
    while `rows` and `cols` count before it. Other parameters and result as of `load_map`.
    """
    if w.pool is None:
        return load_map(lw, unit, slot, dy, images, channels, rows, cols, skew=skew)
    (v1, v0), (u1, u0) = w.pool
    (_, ni), (r0, nr), (c0, nc) = images, rows, cols
    p1, p0 = r0 // u1, c0 // u0  # first windows of the pooling
    x1, x0 = r0 - p1 * u1, c0 - p0 * u0
    n1, n0 = -(-(x1 + nr) // u1), -(-(x0 + nc) // u0)
    _load_blocks(
        lw,
        unit,
        slot,
        dy,
        images,
        channels,
        (p1, *_inside(p1, n1, dy.rows)),
        (p0, *_inside(p0, n0, dy.cols)),
        tags=tags,
        k2=skew[0],
        k1=skew[1],
        k0=skew[2],
        n1=n1,
        n0=n0,
        a1=nc,
        a2=nr * nc,
        v1=v1,
        v0=v0,
        u1=u1,
        u0=u0,
        x1=x1,
        x0=x0,
    )
    return ni * nr * nc


def _inside(first, count, size):
    """(first, end) of those of `count` rows (columns) from `first` on that a map of `size` has."""
    return max(0, -first), max(0, min(count, size - first))


def _load_blocks(lw, unit, slot, x, images, channels, rows, cols, *, tags=None, a2, **fields):
    """Load rows and columns (first, lo, hi) of all channel blocks, with `tags` undoing a pooling;
    those from lo to hi-1, counted from the first one, are inside the map. `a2` is the words of an
    image."""
    config = lw.config
    (i0, ni), (ch0, nch), (r0, lo1, hi1), (c0, lo0, hi0) = images, channels, rows, cols
    first_block, blocks = ch0 // x.block, -(-nch // x.block)
    per = max(1, config.tn // x.block)
    reads = lw.memory(x, range(i0, i0 + ni))
    start = i0 * x.image_bytes + first_block * x.block_bytes
    if hi1 <= lo1 or hi0 <= lo0:
        lo1 = hi1 = lo0 = hi0 = 0
    else:
        start += (r0 + lo1) * x.row_bytes + (c0 + lo0) * x.pixel_bytes
    fields |= {"spp": x.block // config.beat_elems, "cstep": x.block, "a2": a2}
    fields |= {"lo1": lo1, "hi1": hi1, "lo0": lo0, "hi0": hi0}
    if tags is not None:
        reads += lw.memory(tags, range(i0, i0 + ni))

    def emit(first, count, loop, **more):
        offset = start + first * x.block_bytes
        if tags is not None:
            more |= {"unpool": 1, "t_base": tags.address + offset}
        lw.load(
            unit,
            slot,
            reads,
            [(count, x.block_bytes), loop, (hi1 - lo1, x.row_bytes)] if hi1 else [],
            (hi0 - lo0) * x.pixel_bytes,
            x.address + offset,
            abase=slot.base + first // per * ni * a2,
            nb=count,
            **fields | more,
        )

    if ni == 1:  # the loop over images is free to run over lane groups
        whole, rest = divmod(blocks, per)
        if whole:
            emit(0, per, (whole, per * x.block_bytes), n2=whole, k2=0)
        if rest:
            emit(whole * per, rest, (1, 0), n2=1)
    else:
        for first in range(0, blocks, per):
            emit(first, min(per, blocks - first), (ni, x.image_bytes), n2=ni)


def load_weights(lw, slot, w, block, blocks, channels, taps_r, taps_c, *, base, **skew):
    """Load entries (channels) x (tap rows) x (tap columns) of some m blocks side by side in a word.

    `channels`, `taps_r`, `taps_c` are (first, count); `base` is the word in the buffer.
    """
    (n0, nn), (r0, nr), (c0, nc) = channels, taps_r, taps_c
    size = w.copy_entry_bytes
    start = w.copy + block * w.entries * size + ((n0 * w.k1 + r0) * w.k0 + c0) * size
    lw.load(
        Unit.LOAD_A,
        slot,
        lw.memory(w, ("copy" if w.copied else "master",)),
        [(blocks, w.entries * size), (nn, w.k1 * w.k0 * size), (nr, w.k0 * size)],
        nc * size,
        start,
        abase=base,
        spp=lw.config.tm // lw.config.beat_elems,
        nb=blocks,
        cstep=lw.config.tm,
        n2=nn,
        n1=nr,
        n0=nc,
        a2=nr * nc,
        a1=nc,
        **skew,
    )


def load_groups(lw, slot, w, block, blocks, channels, taps_r):
    """Load entries (channels) x (tap rows) of all columns, with the channel as skew, for several
    lane groups.

    `blocks` is (m blocks of a group, groups), from m block `block` on; groups follow each other.
    """
    (per, groups), (n0, nn), (r0, nr) = blocks, channels, taps_r
    size, taps = w.copy_entry_bytes, nr * w.k0
    start = w.copy + (block * w.entries + (n0 * w.k1 + r0) * w.k0) * size
    stride = w.entries * size
    lw.load(
        Unit.LOAD_A,
        slot,
        lw.memory(w, ("copy" if w.copied else "master",)),
        [(per, stride), (groups, per * stride), (nn, w.k1 * w.k0 * size)],
        taps * size,
        start,
        abase=slot.base,
        spp=lw.config.tm // lw.config.beat_elems,
        nb=per,
        cstep=lw.config.tm,
        n2=groups,
        n1=nn,
        n0=taps,
        a2=nn * taps,
        a1=taps,
        k1=1,
    )
