"""How tensors lie in device memory, and the conversions between that and numpy arrays."""

from dataclasses import dataclass, replace

import numpy as np

from .errors import NumericError

__all__ = ["FeatureMap", "Weights", "to_operand", "from_operand", "canonical"]


def canonical(values, what="tensor"):
    """float32 array with subnormals and -0 replaced by +0 (docs/numerics.md, section 1).

    Raises NumericError if `values` has an infinity or a NaN.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    exponent = bits & 0x7F800000
    if (exponent == 0x7F800000).any():
        raise NumericError(f"{what} has values that are infinite or not a number")
    return np.where(exponent == 0, np.uint32(0), bits).view(np.float32)


def to_operand(values, fmt, what="tensor"):
    """`values` in the operand format: uint16 bits for bf16, uint32 bits for fp32; same shape.

    bf16 is rounded to nearest, ties to even. Raises NumericError for infinities, NaN, and numbers
    that bf16 rounds to infinity.
    """
    bits = canonical(values, what).view(np.uint32)
    if fmt == "fp32":
        return bits
    # in place: feature maps are large, and temporaries cost more than the arithmetic
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    if ((rounded & 0x7F80) == 0x7F80).any():
        raise NumericError(f"{what} has values that overflow bf16")
    return rounded.astype(np.uint16)


def from_operand(bits, fmt):
    """float32 array of the operands whose bits are `bits`."""
    if fmt == "fp32":
        return np.asarray(bits, np.uint32).view(np.float32)
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


@dataclass(eq=False)
class FeatureMap:
    """A feature map, its gradient or its tags in device memory:
    [image][channel block][row][column][block], fastest last.

    Parameters
    ----------
    name : str
    images, channels, rows, cols : int
    block : int
        Channels per channel block; channels that do not exist are zero.
    fmt : str
        Element format, "bf16" or "fp32".
    address : int
        Byte address; None until memory is planned.
    region : str
        Tensors of one region share memory, one after the other.
    view_of : FeatureMap or None
    """

    name: str
    images: int
    channels: int
    rows: int
    cols: int
    block: int
    fmt: str
    address: int | None = None
    region: str = ""
    view_of: "FeatureMap | None" = None

    @property
    def blocks(self):
        return -(-self.channels // self.block)

    @property
    def whole(self):
        """The tensor that this one is another view of, or itself."""
        return self if self.view_of is None else self.view_of

    def flattened(self):
        """The same memory as a dense map whose channels are everything one image has, padding
        too."""
        return replace(
            self,
            channels=self.blocks * self.block * self.rows * self.cols,
            rows=1,
            cols=1,
            view_of=self.whole,
        )

    @property
    def pixel_bytes(self):
        return self.block * (2 if self.fmt == "bf16" else 4)

    @property
    def row_bytes(self):
        return self.cols * self.pixel_bytes

    @property
    def block_bytes(self):
        return self.rows * self.row_bytes

    @property
    def image_bytes(self):
        return self.blocks * self.block_bytes

    @property
    def size(self):
        """Bytes."""
        return self.images * self.image_bytes

    @property
    def dense(self):
        """Whether the channels of one image are contiguous, as a linear layer wants them."""
        return self.rows == self.cols == 1

    def pack(self, values):
        """Bytes of `values`, float array [image, channel, row, column]; rounds to `fmt`."""
        bits = to_operand(values, self.fmt, self.name)
        full = np.zeros((self.images, self.blocks * self.block, self.rows, self.cols), bits.dtype)
        full[:, : self.channels] = bits
        full = full.reshape(self.images, self.blocks, self.block, self.rows, self.cols)
        return np.ascontiguousarray(full.transpose(0, 1, 3, 4, 2)).tobytes()

    def unpack(self, data):
        """float32 array [image, channel, row, column] of the bytes `data`."""
        bits = np.frombuffer(data, np.uint16 if self.fmt == "bf16" else np.uint32)
        full = bits.reshape(self.images, self.blocks, self.rows, self.cols, self.block)
        full = full.transpose(0, 1, 4, 2, 3).reshape(self.images, -1, self.rows, self.cols)
        return from_operand(np.ascontiguousarray(full[:, : self.channels]), self.fmt)


@dataclass(eq=False)
class Weights:
    """Weights and bias of one layer in device memory: master, momentum and gradient (fp32), and the
    compute copy (operands), which is the master where operands are fp32. See docs/program.md,
    section 6.

    Parameters
    ----------
    name : str
    m, n, k1, k0 : int
        Output channels, input channels as counted in memory, kernel rows and columns.
    flattened : tuple of int, optional
        (channels, rows, columns) of the feature map that a linear layer sees flattened.
    config : Config
    master, momentum, copy, gradient : int or None
        Byte addresses; None until memory is planned.
    """

    name: str
    m: int
    n: int
    k1: int
    k0: int
    config: object
    flattened: tuple | None = None
    master: int | None = None
    momentum: int | None = None
    copy: int | None = None
    gradient: int | None = None

    @property
    def blocks(self):
        return -(-self.m // self.config.tm)

    @property
    def entries(self):
        """Entries per m block: one for each (n, kr, kc), and the bias."""
        return self.n * self.k1 * self.k0 + 1

    @property
    def entry_bytes(self):
        """Bytes of an entry of master, momentum or gradient."""
        return self.config.tm * 4

    @property
    def size(self):
        """Bytes of master, momentum or gradient."""
        return self.blocks * self.entries * self.entry_bytes

    @property
    def copied(self):
        """Whether the compute copy is a tensor of its own."""
        return self.config.fmt != "fp32"

    @property
    def copy_entry_bytes(self):
        """Bytes of an entry of the compute copy."""
        return self.config.tm * self.config.elem_bytes

    @property
    def copy_size(self):
        """Bytes of the compute copy."""
        return self.blocks * self.entries * self.copy_entry_bytes

    def _gather(self, weight, bias):
        """float32 [m block, entry, tm] of `weight` in PyTorch's layout and `bias` [m] or None."""
        weight = np.asarray(weight, np.float32)
        if self.flattened is not None:
            channels, rows, cols = self.flattened
            tm = self.config.tm
            full = np.zeros((self.m, -(-channels // tm) * tm, rows, cols), np.float32)
            full[:, :channels] = weight.reshape(self.m, channels, rows, cols)
            weight = full.reshape(self.m, -1, tm, rows, cols).transpose(0, 1, 3, 4, 2)
        tm = self.config.tm
        full = np.zeros((self.blocks * tm, self.entries), np.float32)
        width = weight.size // self.m
        full[: self.m, :width] = weight.reshape(self.m, -1)
        if bias is not None:
            full[: self.m, -1] = np.asarray(bias, np.float32)
        return full.reshape(self.blocks, tm, self.entries).transpose(0, 2, 1)

    def _scatter(self, full, shape):
        """Inverse of `_gather`: (weight of `shape`, bias [m])."""
        tm = self.config.tm
        full = full.transpose(0, 2, 1).reshape(self.blocks * tm, self.entries)[: self.m]
        weight, bias = full[:, :-1], full[:, -1].copy()
        if self.flattened is not None:
            channels, rows, cols = self.flattened
            weight = weight.reshape(self.m, -1, rows, cols, tm).transpose(0, 1, 4, 2, 3)
            weight = weight.reshape(self.m, -1, rows, cols)[:, :channels]
        else:
            weight = weight[:, : int(np.prod(shape[1:]))]
        return np.array(weight, order="C").reshape(shape), bias

    def pack_copy(self, weight, bias):
        """Bytes of the compute copy."""
        return np.ascontiguousarray(
            to_operand(self._gather(weight, bias), self.config.fmt, self.name)
        ).tobytes()

    def pack(self, weight, bias, what=""):
        """Bytes of a master, momentum or gradient. Raises NumericError, which begins with `what`,
        for infinities and NaN."""
        full = np.ascontiguousarray(self._gather(weight, bias))
        if not np.isfinite(full).all():
            raise NumericError(f"{what}{self.name} has values that are infinite or not a number")
        return full.tobytes()

    def unpack(self, data, shape):
        """(weight, bias) of the bytes of a master, momentum or gradient; `shape` is the
        weight's."""
        full = np.frombuffer(data, np.float32)
        return self._scatter(full.reshape(self.blocks, self.entries, self.config.tm), shape)
