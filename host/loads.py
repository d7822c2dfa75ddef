"""LOAD instructions: feature maps and weights into the tile buffers, in every order passes need."""

from gradgate.hw.isa import Unit

__all__ = ["load_map", "load_weights", "load_groups"]


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
    config = lw.config
    elems = config.beat_elems
    (i0, ni), (ch0, nch), (r0, nr), (c0, nc) = images, channels, rows, cols
    block0, blocks = ch0 // x.block, -(-nch // x.block)
    per = max(1, config.tn // x.block)
    reads = lw.memory(x, range(i0, i0 + ni))
    base = x.address + i0 * x.image_bytes + block0 * x.block_bytes
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
        whole, rest = divmod(blocks, per)
        for first, groups, width in ((0, whole, per), (whole, 1, rest)):
            if groups and width:
                lw.load(
                    unit,
                    slot,
                    reads,
                    [(ni, x.image_bytes)],
                    groups * width * x.pixel_bytes,
                    base + first * per * x.pixel_bytes,
                    abase=slot.base + first * words,
                    spp=width * x.block // elems,
                    n2=ni,
                    n1=groups,
                    a2=1,
                    a1=ni,
                    **common | {"k1": 0},
                )
        return words

    lo1, lo0 = max(0, -r0), max(0, -c0)
    hi1, hi0 = min(nr, x.rows - r0), min(nc, x.cols - c0)
    if hi1 <= lo1 or hi0 <= lo0:
        lo1 = hi1 = lo0 = hi0 = 0
    else:
        base += (r0 + lo1) * x.row_bytes + (c0 + lo0) * x.pixel_bytes
    common |= {
        "spp": x.block // elems,
        "cstep": x.block,
        "n1": nr,
        "n0": nc,
        "a1": pitch,
        "lo1": lo1,
        "hi1": hi1,
        "lo0": lo0,
        "hi0": hi0,
        "pack": int(bool(packed)),
    }

    def emit(first, count, loop, **fields):
        inner = [(count, x.block_bytes), loop, (hi1 - lo1, x.row_bytes)] if hi1 else []
        lw.load(
            unit,
            slot,
            reads,
            inner,
            (hi0 - lo0) * x.pixel_bytes,
            base + first * x.block_bytes,
            abase=slot.base + first // per * words,
            nb=count,
            **common | fields,
        )

    if ni == 1:  # the loop over images is free to run over lane groups
        whole, rest = divmod(blocks, per)
        if whole:
            emit(0, per, (whole, per * x.block_bytes), n2=whole, a2=words, k2=0)
        if rest:
            emit(whole * per, rest, (1, 0), n2=1)
    else:
        for first in range(0, blocks, per):
            emit(first, min(per, blocks - first), (ni, x.image_bytes), n2=ni, a2=nr * pitch)
    return words


def load_weights(lw, slot, w, block, blocks, channels, taps_r, taps_c, *, base, **skew):
    """Load entries (channels) x (tap rows) x (tap columns) of some m blocks side by side in a word.

    `channels`, `taps_r`, `taps_c` are (first, count); `base` is the word in the buffer.
    """
    (n0, nn), (r0, nr), (c0, nc) = channels, taps_r, taps_c
    size = w.entry_bytes
    start = w.copy + block * w.entries * size + ((n0 * w.k1 + r0) * w.k0 + c0) * size
    lw.load(
        Unit.LOAD_A,
        slot,
        lw.memory(w, ("copy",)),
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
    """Load entries (channels) x (tap rows) of all columns, without skew, for several lane groups.

    `blocks` is (m blocks of a group, groups), from m block `block` on; groups follow each other.
    """
    (per, groups), (n0, nn), (r0, nr) = blocks, channels, taps_r
    size, taps = w.entry_bytes, nr * w.k0
    start = w.copy + (block * w.entries + (n0 * w.k1 + r0) * w.k0) * size
    stride = w.entries * size
    lw.load(
        Unit.LOAD_A,
        slot,
        lw.memory(w, ("copy",)),
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
    )
