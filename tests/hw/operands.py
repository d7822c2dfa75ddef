"""Random canonical numbers, bit patterns, that dwell on the corners of the formats."""

from gradgate.hw.config import FORMATS

__all__ = ["FloatSource"]


class FloatSource:
    """Canonical numbers of one format from a random.Random.

    Parameters
    ----------
    rng : random.Random
    fmt : str
    """

    def __init__(self, rng, fmt):
        self.rng = rng
        self.width, self.man_bits = FORMATS[fmt]

    def near(self, exponent, spread=0):
        """A number, not 0, whose biased exponent is within `spread` of `exponent`, in 1..254."""
        rng, full = self.rng, (1 << self.man_bits) - 1
        exponent = min(max(exponent + rng.randint(-spread, spread), 1), 254)
        anything = rng.getrandbits(self.man_bits)
        mantissa = rng.choice([anything, anything, 0, full, 1 << rng.randrange(self.man_bits),
                               full ^ rng.getrandbits(3)])
        return rng.getrandbits(1) << (self.width - 1) | exponent << self.man_bits | mantissa

    def any(self):
        """A number: zero, around one, at either end of the range, or anywhere."""
        kind = self.rng.randrange(10)
        if kind == 0:
            return 0
        if kind <= 4:
            return self.near(127, 3)
        if kind <= 6:
            return self.near(127, 30)
        if kind <= 8:
            return self.near(self.rng.choice([1, 254]), 2)
        return self.near(self.rng.randint(1, 254))

    def relative(self, bits):
        """A number close to +-`bits`, for cancellations and ties."""
        if bits == 0:
            return self.any()
        flip = self.rng.choice([0, 1, 1 << self.man_bits, self.rng.getrandbits(self.man_bits),
                                1 << self.rng.randrange(self.man_bits)])
        other = bits ^ self.rng.getrandbits(1) << (self.width - 1) ^ flip
        return other if 0 < other >> self.man_bits & 255 < 255 else bits
