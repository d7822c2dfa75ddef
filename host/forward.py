"""Forward pass of one layer: convolution, linear layer, pooling, ReLU."""

from gradgate.hw.isa import Unit

from .loads import load_map, load_weights

__all__ = ["forward", "pixel_tiles", "loop_order"]


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


def forward(
    lw,
    w,
    x,
    out,
    *,
    weights=None,
    bias=False,
    relu=False,
    scale=None,
    tags=None,
    padneg=False,
    resident=None,
):
    """Emit the pass of Window `w` from feature map `x` to `out`.

    Parameters
    ----------
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
    tile = lw.tile("forward", w, held=resident)
    area = None
    if resident:
        area = lw.a.hold(resident.slots, tile.a_words)
    elif not w.ident:
        lw.a.partition(tile.a_words)
    lw.b.partition(tile.b_words)
    places = pixel_tiles(out.images, out.rows, out.cols, tile)
    bias = weights if bias else None
    for place, blocks in loop_order(tile, places, out.blocks):
        (_, ni), (_, nr), (_, nc) = place
        pixels = ni * w.pooled(0, nr) * w.pooled(1, nc)
        region, acc = lw.region(len(blocks) * pixels)
        bases = [region + number * pixels for number in range(len(blocks))]
        for index, chunk in enumerate(tile.chunks):
            for block, base in zip(blocks, bases, strict=True):
                _multiply(lw, area, w, x, weights, place, block, index, chunk, base, acc, padneg)
        lw.filled()
        for block, base in zip(blocks, bases, strict=True):
            _drain(lw, w, out, place, block, base, acc, bias, relu, scale, tags)


def _multiply(lw, area, w, x, weights, place, block, index, chunk, base, acc, padneg):
    config = lw.config
    tm, tn = config.tm, config.tn
    images, (r0, nr), (c0, nc) = place
    if w.pool is not None:
        r0, c0 = r0 * w.pool[1][0], c0 * w.pool[1][1]
    nr, nc = w.pooled(0, nr), w.pooled(1, nc)
    span_r, span_c = w.span(0, nr, chunk.rows), w.span(1, nc, chunk.cols)
    rows = (r0 * w.stride[0] - w.padding[0] + chunk.kr0, span_r)
    cols = (c0 * w.stride[1] - w.padding[1] + chunk.kc0, span_c)
    channels = (block * tm, tm) if w.ident else (chunk.c0, chunk.channels)
    b = lw.b.tile(
        (place, index, block if w.ident else 0),
        lambda slot: load_map(
            lw, Unit.LOAD_B, slot, x, images, channels, rows, cols, packed=w.packed, padneg=padneg
        ),
    )
    pitch = -(-span_c // w.packed) * w.packed if w.packed else span_c
    image = span_r * pitch
    taps = chunk.rows * chunk.cols
    fields = {
        "first": int(index == 0),
        "rows": min(tm, w.m - block * tm),
        "bbase": b.base * (w.packed or 1),
        "cbase": base,
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
        lw.compute([b], acc, ident=1, lanes_last=tm, al_n=1, **fields)
        return
    per = tn // tm
    first = block // per * per

    def load(slot):
        load_weights(
            lw,
            slot,
            weights,
            first,
            min(per, weights.blocks - first),
            (chunk.c0, chunk.channels),
            (chunk.kr0, chunk.rows),
            (chunk.kc0, chunk.cols),
            base=slot.base,
            k2=1,
            k0=4 if w.packed else 0,
        )

    key = first // per, index
    if area is None:
        a = lw.a.tile(key, load)
    else:
        a = area.tile(key, load, len(area.slots) // -(-weights.blocks // per) * key[0] + index)
    fields |= {
        "a_pix": 1,
        "abase": a.base,
        "rch0": (block - first) * tm,
        "al0": taps,
        "at1": chunk.cols,
    }
    if w.packed:
        groups = -(-chunk.cols // w.packed)
        fields |= {
            "pack": 1,
            "t0": groups,
            "at0": w.packed,
            "bt0": w.packed,
            "al_n": 4,
            "al1": 1,
            "lanes_last": 4 * (chunk.cols - (groups - 1) * w.packed),
        }
    else:
        fields |= {
            "ng": chunk.groups(tn),
            "lanes_last": chunk.last(tn),
            "ag": tn * taps,
            "at0": 1,
            "bg": images[1] * image,
            "al_n": tn,
        }
    lw.compute([a, b], acc, **fields)


def _drain(lw, w, out, place, block, base, acc, weights, relu, scale, tags):
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
    if scale is not None:
        fields |= {"scale": 1, "imm0": scale}
    if weights is not None:
        last = weights.master + ((block + 1) * weights.entries - 1) * weights.entry_bytes
        fields |= {"bias": 1, "imm2": last}
        reads += lw.memory(weights, ("master",))
    if tags is not None:
        fields |= {"tags": 1, "aux_base": _place(tags, i0, block, r0, c0)}
        writes += lw.memory(tags, images)
    lw.post(
        reads,
        writes,
        [(ni, out.image_bytes), (nr, out.row_bytes)],
        nc * out.pixel_bytes,
        _place(out, i0, block, r0, c0),
        relu=int(relu),
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
