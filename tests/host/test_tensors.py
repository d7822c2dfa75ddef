"""Layouts in memory against their definition, and the host's conversions."""

import struct

import numpy as np
import pytest
import torch
from gradgate.errors import NumericError
from gradgate.hw.config import Config
from gradgate.tensors import FeatureMap, Weights, canonical, from_operand, to_operand

BF16, FP32 = Config(), Config(tm=4, tn=8, fmt="fp32", beat_bits=64)


def random(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def operand(data, address, config):
    size = config.elem_bytes
    bits = int.from_bytes(data[address:address + size], "little") << (32 - 8 * size)
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def test_bf16_rounds_like_pytorch():
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    bits = np.concatenate([bits, np.arange(0x3F7F7FF0, 0x3F808010, dtype=np.uint32)])
    values = bits.view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) < 3.3e38)]
    wanted = torch.from_numpy(values.copy()).bfloat16().float().numpy()
    wanted[np.abs(values) < 2.0**-126] = 0
    got = from_operand(to_operand(values, "bf16"), "bf16")
    np.testing.assert_array_equal(got.view(np.uint32), (wanted + np.float32(0)).view(np.uint32))


def test_canonical():
    values = np.array([-0.0, 1e-40, -1e-40, 2.0**-126, -1.5], np.float32)
    assert canonical(values).view(np.uint32).tolist() == [
        0, 0, 0, 0x00800000, 0xBFC00000]
    for bad in (np.inf, -np.inf, np.nan):
        with pytest.raises(NumericError, match="^the map has values that are infinite"):
            to_operand(np.array([1, bad]), "fp32", "the map")
    with pytest.raises(NumericError, match="overflow"):
        to_operand(np.array([3.4e38], np.float32), "bf16")


@pytest.mark.parametrize("config", [BF16, FP32], ids=lambda c: c.fmt)
@pytest.mark.parametrize("channels", [3, 8, 11])
def test_feature_map(config, channels):
    block = 4 if channels == 3 else config.tm
    x = FeatureMap("x", 2, channels, 3, 5, block, config.fmt)
    values = from_operand(to_operand(random((2, channels, 3, 5)), config.fmt), config.fmt)
    data = x.pack(values)
    assert len(data) == x.size == 2 * -(-channels // block) * 3 * 5 * block * config.elem_bytes
    for i, c, r, k in ((0, 0, 0, 0), (1, channels - 1, 2, 4), (0, 2, 1, 3), (1, 1, 0, 2)):
        address = (i * x.image_bytes + c // block * x.block_bytes + r * x.row_bytes
                   + k * x.pixel_bytes + c % block * config.elem_bytes)
        assert operand(data, address, config) == values[i, c, r, k]
    np.testing.assert_array_equal(x.unpack(data), values)
    if channels % block:
        words = np.frombuffer(data, np.uint16 if config.fmt == "bf16" else np.uint32)
        unused = words.reshape(2, -1, 3, 5, block)[:, -1, :, :, channels % block:]
        assert not unused.any()


@pytest.mark.parametrize("config", [BF16, FP32], ids=lambda c: c.fmt)
def test_convolution_weights(config):
    shape = (11, 5, 3, 2)
    w = Weights("w", 11, 5, 3, 2, config)
    weight, bias = random(shape), random(11, 1)
    copy, master = w.pack_copy(weight, bias), w.pack(weight, bias)
    assert (len(copy), len(master)) == (w.copy_size, w.size)
    assert w.copied == (config.fmt == "bf16")
    if not w.copied:
        assert copy == master
    tm = config.tm
    rounded = from_operand(to_operand(weight, config.fmt), config.fmt)
    for m, n, kr, kc in ((0, 0, 0, 0), (10, 4, 2, 1), (9, 3, 0, 1)):
        entry = (n * 3 + kr) * 2 + kc
        at = ((m // tm) * w.entries + entry) * tm
        assert operand(copy, (at + m % tm) * config.elem_bytes, config) == rounded[m, n, kr, kc]
        assert struct.unpack_from("<f", master, 4 * (at + m % tm))[0] == weight[m, n, kr, kc]
    at = (w.entries - 1) * tm + 3
    assert struct.unpack_from("<f", master, 4 * at)[0] == bias[3]
    for got, wanted in zip(w.unpack(master, shape), (weight, bias), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("config", [BF16, FP32], ids=lambda c: c.fmt)
def test_linear_weights_follow_the_map_in_memory(config):
    """Input i of a flattened map multiplies what memory holds at place i of an image."""
    channels, rows, cols, m = 11, 3, 2, 5
    x = FeatureMap("x", 1, channels, rows, cols, config.tm, config.fmt)
    flat = x.flattened()
    w = Weights("w", m, flat.channels, 1, 1, config, (channels, rows, cols))
    weight = np.arange(m * channels * rows * cols, dtype=np.float32).reshape(m, -1) % 251
    values = np.arange(channels * rows * cols, dtype=np.float32).reshape(1, channels, rows, cols)
    memory = flat.unpack(x.pack(values))[0, :, 0, 0]
    data = w.pack(weight, None)
    full, _ = Weights("w", m, flat.channels, 1, 1, config).unpack(data, (m, flat.channels, 1, 1))
    np.testing.assert_allclose(full[:, :, 0, 0] @ memory, weight @ values.reshape(-1), rtol=1e-6)
    np.testing.assert_array_equal(w.unpack(data, weight.shape)[0], weight)


def test_weights_that_are_not_finite_are_refused():
    w = Weights("conv3", 1, 1, 1, 1, BF16)
    with pytest.raises(NumericError, match="^conv3 has values"):
        w.pack(np.array([[[[np.nan]]]]), None)
    with pytest.raises(NumericError, match="^gradient of conv3 has values"):
        w.pack(np.array([[[[np.inf]]]]), None, "gradient of ")
