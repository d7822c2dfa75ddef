"""Loads of gradients before a pooling, by the text of docs/program.md section 3, against numpy."""

import struct

import numpy as np
import pytest
from gradgate.boards import MemoryTiming
from gradgate.buffers import Lowering
from gradgate.hw.config import Config
from gradgate.hw.isa import LOAD, Unit, decode
from gradgate.loads import load_gradient
from gradgate.scheduler import scheduler
from gradgate.tensors import FeatureMap
from gradgate.tiling import Window
from hypothesis import given, settings
from hypothesis import strategies as st

CONFIGS = [Config(tm=4, tn=8, beat_bits=32), Config(tm=4, tn=4, fmt="fp32", beat_bits=64),
           Config(tm=2, tn=8, beat_bits=32)]
TAGS = 1 << 20  # address of the tags


def stream(f, base, beat_bytes):
    """Byte addresses of the beats from `base`."""
    return [base + i3 * f["d_s3"] + i2 * f["d_s2"] + i1 * f["d_s1"] + i * beat_bytes
            for i3 in range(f["d_n3"]) for i2 in range(f["d_n2"]) for i1 in range(f["d_n1"])
            for i in range(f["d_len"])]


def unpool(f, config, read, buffer):
    """Execute a LOAD with `unpool`: `read(address)` gives an operand, `buffer[bank, word]` takes
    it."""
    elems, size = config.beat_elems, config.elem_bytes
    gradients, tags = (iter(stream(f, f[base], config.beat_bytes)) for base in ("d_base", "t_base"))
    for b, i2, i1, i0, s in np.ndindex(f["nb"], f["n2"], f["n1"], f["n0"], f["spp"]):
        valid = f["lo1"] <= i1 < f["hi1"] and f["lo0"] <= i0 < f["hi0"]
        if valid:
            gradient, tag = next(gradients), next(tags)
        for j1, j0, x in np.ndindex(f["u1"], f["u0"], elems):
            r, c = i1 * f["u1"] + j1 - f["x1"], i0 * f["u0"] + j0 - f["x0"]
            if r < 0 or c < 0 or c >= f["a1"] or r * f["a1"] >= f["a2"]:
                continue
            wins = (valid and j1 < f["v1"] and j0 < f["v0"]
                    and read(tag + x * size) == j1 * f["v0"] + j0)
            skew = i2 * f["k2"] + r * f["k1"] + c * f["k0"]
            bank = (skew + f["ch0"] + b * f["cstep"] + s * elems + x) % config.tn
            word = f["abase"] + i2 * f["a2"] + r * f["a1"] + c
            buffer[bank, word] = read(gradient + x * size) if wins else 0
    assert next(gradients, None) is None and next(tags, None) is None, "beats are left over"


@st.composite
def cases(draw):
    """(config, pooling, map before it, gradient, tags, window to be loaded, skew)."""
    config = draw(st.sampled_from(CONFIGS))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(2))
    stride = tuple(k + draw(st.integers(0, 2)) for k in kernel)
    size = tuple(k + draw(st.integers(0, 9)) for k in kernel)
    images, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3 * config.tn))
    pooled = tuple((s - k) // u + 1 for s, k, u in zip(size, kernel, stride, strict=True))
    shape = images, channels, *pooled
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    gradient = rng.integers(1, 100, shape)
    tags = rng.integers(0, kernel[0] * kernel[1], shape)
    window = []
    for total, least in ((images, 0), (size[0], -4), (size[1], -4)):
        first = draw(st.integers(least, total - 1))
        room = total - first if least == 0 else total + 4 - first
        window.append((first, draw(st.integers(1, room))))
    first = draw(st.integers(0, (channels - 1) // config.tm)) * config.tm
    window.insert(1, (first, draw(st.integers(1, channels - first))))
    return config, (kernel, stride), size, gradient, tags, window, draw(st.booleans())


def undone(gradient, tags, kernel, stride, size):
    """The gradient before the pooling, [image, channel, row, column]."""
    full = np.zeros((*gradient.shape[:2], *size), int)
    for i, c, r, k in np.ndindex(gradient.shape):
        row, col = divmod(int(tags[i, c, r, k]), kernel[1])
        full[i, c, r * stride[0] + row, k * stride[1] + col] = gradient[i, c, r, k]
    return full


@settings(max_examples=150, deadline=None)
@given(cases())
def test_pooling_is_undone(case):
    config, (kernel, stride), size, gradient, tags, window, skewed = case
    images, channels, *pooled = gradient.shape
    dy, winners = (FeatureMap(name, images, channels, *pooled, config.tm, config.fmt, address)
                   for name, address in (("dy", 0), ("tags", TAGS)))
    memory = {}
    for x, values in ((dy, gradient), (winners, tags)):
        for i, c, r, k in np.ndindex(images, dy.blocks * config.tm, *pooled):
            address = (x.address + i * x.image_bytes + c // config.tm * x.block_bytes
                       + r * x.row_bytes + k * x.pixel_bytes + c % config.tm * config.elem_bytes)
            memory[address] = int(values[i, c, r, k]) if c < channels else 0
    (i0, ni), (ch0, nch), (r0, nr), (c0, nc) = window
    skew = (nr * nc, nc, 1) if skewed else (0, 0, 0)
    lw = Lowering(scheduler(config, MemoryTiming()))
    w = Window(images, 1, channels, size, size, pool=(kernel, stride))
    words = ni * nr * nc
    lw.b.partition(words * -(-nch // config.tn))
    slot = lw.b.tile(0, lambda slot: load_gradient(
        lw, Unit.LOAD_B, slot, w, dy, winners, *window, skew=skew))
    code, buffer = lw.program.assemble(), {}
    for at in range(0, len(code) - 64, 64):
        f = decode(struct.unpack_from("<16I", code, at))
        assert set(f) == set(LOAD) and f["unpool"]
        unpool(f, config, memory.__getitem__, buffer)

    full = undone(gradient, tags, kernel, stride, size)
    for i, c, r, k in np.ndindex(ni, nch, nr, nc):
        row, col = r0 + r, c0 + k
        inside = 0 <= row < size[0] and 0 <= col < size[1]
        wanted = full[i0 + i, ch0 + c, row, col] if inside else 0
        pixel = i * nr * nc + r * nc + k
        bank = (c + pixel * skewed) % config.tn
        assert buffer[bank, slot.base + c // config.tn * words + pixel] == wanted


def test_without_pooling_the_gradient_is_loaded_as_it_is():
    lw = Lowering(scheduler(CONFIGS[0], MemoryTiming()))
    lw.b.partition(6)
    dy = FeatureMap("dy", 1, 4, 3, 2, 4, "bf16", 0)
    w = Window(1, 1, 4, (3, 2), (3, 2))
    lw.b.tile(0, lambda slot: load_gradient(
        lw, Unit.LOAD_B, slot, w, dy, None, (0, 1), (0, 4), (0, 3), (0, 2)))
    (_, f), = lw.program.instructions
    assert not f.get("unpool") and f["d_len"] * f["d_n1"] == 12


@pytest.mark.parametrize("rows, beats", [((-1, 11), 3), ((2, 4), 2), ((8, 1), 1), ((9, 1), 0)])
def test_only_windows_within_the_map_are_read(rows, beats):
    """A 2x1 pooling of ten rows with stride 3 has three windows; the last row is in none."""
    lw = Lowering(scheduler(CONFIGS[0], MemoryTiming()))
    lw.b.partition(32)
    dy, tags = (FeatureMap("dy", 1, 4, 3, 1, 4, "bf16", address) for address in (0, TAGS))
    w = Window(1, 1, 4, (10, 1), (10, 1), pool=((2, 1), (3, 1)))
    lw.b.tile(0, lambda slot: load_gradient(
        lw, Unit.LOAD_B, slot, w, dy, tags, (0, 1), (0, 4), rows, (0, 1)))
    (_, f), = lw.program.instructions
    assert f["d_len"] * f["d_n1"] * f["d_n2"] * f["d_n3"] == 2 * beats
