"""A hand-made program and what it must leave in memory, computed with gradgate.hw.numerics.

Per image a 1 x 2 convolution of `tn + tn/2` channels over a 3 x 4 map padded by one column on its
left, to `tm` channels; with bias and ReLU in the operand format, and as it is in fp32. Three
images, with both halves of tile buffer B and both accumulator regions in turn, so that all units
overlap.
"""

import random
import struct

from gradgate.hw import numerics
from gradgate.hw.isa import Unit, encode

__all__ = ["Convolution"]

ROWS, COLUMNS, TAPS, IMAGES = 3, 4, 2, 3
PADDED = COLUMNS + 1
PROGRAM, WEIGHTS, MASTER, FEATURES, OUTPUTS = 0x0000, 0x1000, 0x2000, 0x3f80, 0x5f80


def mask(*units):
    return sum(1 << u for u in units)


class Convolution:
    """The program of one configuration with random data.

    Members
    -------
    memory : bytes
        The first SIZE bytes of memory before the program.
    expected : bytes
        The same after it.
    address, instructions : int
        Of the program.
    moving, beats_read, beats_written : int
        Moving vectors of all COMPUTE; beats that the units move.
    features_address : int
    """

    SIZE = 0x8000
    address = PROGRAM
    features_address = FEATURES

    def __init__(self, config, seed):
        self.config = config
        self.rng = random.Random(seed)
        self.channels = config.tn + config.tn // 2
        self.blocks = self.channels // config.tm
        self.map_bytes = ROWS * COLUMNS * config.tm * config.elem_bytes
        memory = bytearray(self.rng.randbytes(self.SIZE))
        self._fill(memory)
        program = self._program()
        for k, words in enumerate(program):
            struct.pack_into("<16I", memory, PROGRAM + 64 * k, *words)
        self.instructions = len(program)
        self.moving = IMAGES * 2 * TAPS * ROWS * COLUMNS
        features = IMAGES * self.blocks * self.map_bytes
        weights = self.channels * TAPS * config.tm * config.elem_bytes
        bias = IMAGES * config.tm * 4
        self.beats_read = (features + weights + bias) // config.beat_bytes
        self.beats_written = IMAGES * ROWS * COLUMNS * config.tm * (config.elem_bytes + 4) \
            // config.beat_bytes
        self.memory = bytes(memory)
        self._convolve(memory)
        self.expected = bytes(memory)

    def output(self, image):
        """Addresses of the map in the operand format and of that in fp32."""
        start = OUTPUTS + image * 4 * self.map_bytes
        return start, start + self.map_bytes

    def _number(self, fmt):
        """A canonical number around 1, or zero."""
        bits = self.rng.choice([0, *[self.rng.getrandbits(32) & 0x807fffff
                                     | self.rng.randrange(120, 134) << 23] * 7])
        return bits >> 16 if fmt == "bf16" else bits

    def _fill(self, memory):
        c = self.config
        put = {"bf16": "<H", "fp32": "<I"}[c.fmt]
        self.weights = [[[self._number(c.fmt) for _ in range(c.tm)] for _ in range(TAPS)]
                        for _ in range(self.channels)]
        for n in range(self.channels):
            for k in range(TAPS):
                for m in range(c.tm):
                    entry = (n * TAPS + k) * c.tm + m
                    struct.pack_into(put, memory, WEIGHTS + entry * c.elem_bytes,
                                     self.weights[n][k][m])
        self.bias = [self._number("fp32") for _ in range(c.tm)]
        for m, value in enumerate(self.bias):
            struct.pack_into("<I", memory, MASTER + 4 * m, value)
        self.features = [[[[self._number(c.fmt) for _ in range(self.channels)]
                           for _ in range(COLUMNS)] for _ in range(ROWS)] for _ in range(IMAGES)]
        for image in range(IMAGES):
            for y in range(ROWS):
                for x in range(COLUMNS):
                    for n in range(self.channels):
                        block, lane = divmod(n, c.tm)
                        place = (((image * self.blocks + block) * ROWS + y) * COLUMNS + x) * c.tm
                        struct.pack_into(put, memory, FEATURES + (place + lane) * c.elem_bytes,
                                         self.features[image][y][x][n])

    def _program(self):
        c = self.config
        spp = c.tm // c.beat_elems
        group_size = ROWS * PADDED
        program = [encode(
            Unit.LOAD_A, signal=mask(Unit.COMPUTE),
            d_base=WEIGHTS, d_len=self.channels * TAPS * spp, d_n1=1, d_n2=1, d_n3=1,
            nb=1, n2=self.channels, n1=1, n0=TAPS, spp=spp, a2=TAPS, k2=1,
            hi1=1, hi0=TAPS, sd1=1, sd0=1)]
        for image in range(IMAGES):
            half = image % 2
            again, next_again = image >= 2, image + 2 < IMAGES
            for group, blocks in enumerate((c.tn // c.tm, c.tn // 2 // c.tm)):
                first = group * c.tn // c.tm
                program.append(encode(
                    Unit.LOAD_B, wait=mask(Unit.COMPUTE) if again and group == 0 else 0,
                    signal=mask(Unit.COMPUTE) if group else 0,
                    d_base=FEATURES + (image * self.blocks + first) * self.map_bytes,
                    d_len=blocks * ROWS * COLUMNS * spp, d_n1=1, d_n2=1, d_n3=1,
                    abase=half * c.b_depth // 2 + group * group_size, cstep=c.tm,
                    nb=blocks, n2=1, n1=ROWS, n0=PADDED, spp=spp, a1=PADDED,
                    hi1=ROWS, lo0=1, hi0=PADDED, sd1=1, sd0=1))
            region = half * c.acc_depth
            program.append(encode(
                Unit.COMPUTE,
                wait=mask(Unit.LOAD_B, *[Unit.LOAD_A] * (image == 0), *[Unit.POST] * again),
                signal=mask(Unit.POST, *[Unit.LOAD_B] * next_again),
                first=1, a_pix=1, rows=c.tm, lanes_last=c.tn // 2, bbase=half * c.b_depth // 2,
                cbase=region, ng=2, t1=1, t0=TAPS, q2=1, q1=ROWS, q0=COLUMNS,
                np=ROWS * COLUMNS, ag=c.tn * TAPS, bg=group_size, at0=1, bt0=1, bq1=PADDED, bq0=1,
                cq1=COLUMNS, cq0=1, al_n=c.tn, al0=TAPS, sd1=1, sd0=1))
            operands, floats = self.output(image)
            source = {"src_base": region, "p2": 1, "p1": ROWS, "p0": COLUMNS, "w1": 1, "w0": 1,
                      "as1": COLUMNS, "as0": 1, "o_n1": 1, "o_n2": 1}
            program.append(encode(
                Unit.POST, wait=mask(Unit.COMPUTE), **source, bias=1, imm2=MASTER, relu=1,
                out_base=operands, o_len=ROWS * COLUMNS * spp))
            program.append(encode(
                Unit.POST, signal=mask(Unit.COMPUTE) if next_again else 0, **source, out_fp32=1,
                out_base=floats, o_len=ROWS * COLUMNS * c.groups))
        return [*program, encode(Unit.END)]

    def _convolve(self, memory):
        c = self.config
        put = {"bf16": "<H", "fp32": "<I"}[c.fmt]
        for image in range(IMAGES):
            operands, floats = self.output(image)
            for y in range(ROWS):
                for x in range(COLUMNS):
                    for m in range(c.tm):
                        acc = self._pixel(image, y, x, m)
                        place = (y * COLUMNS + x) * c.tm + m
                        struct.pack_into("<I", memory, floats + 4 * place, acc)
                        value, _ = numerics.fadd(acc, self.bias[m])
                        value = 0 if value >> 31 else value
                        value, _ = numerics.to_operand(c.fmt, value)
                        struct.pack_into(put, memory, operands + c.elem_bytes * place, value)

    def _pixel(self, image, y, x, m):
        c = self.config
        acc = 0
        for first in range(0, self.channels, c.tn):
            lanes = range(first, min(first + c.tn, self.channels))
            for k in range(TAPS):
                column = x + k - 1
                a = [self.weights[n][k][m] for n in lanes]
                b = [self.features[image][y][column][n] if column >= 0 else 0 for n in lanes]
                rest = [0] * (c.tn - len(a))
                acc, overflow = numerics.dotacc(c, a + rest, b + rest, acc)
                assert not overflow
        return acc
