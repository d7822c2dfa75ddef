"""Tile shapes over a map, many at once, and sums over the tiles that each of them makes."""

from functools import cached_property
from itertools import product

import numpy as np

from .tiling import sizes

__all__ = ["Shapes"]

EVERY = 16  # rows and columns up to which all sizes are candidates, not only even splits
FEW = 8  # likewise images and blocks


class Shapes:
    """Candidate tiles: all combinations of some sizes, as arrays with one element each.

    Parameters
    ----------
    whole : (int, int, int)
        Images, rows and columns of the map.
    blocks : int
        Channel blocks, of which `sets` share a region of accumulators.

    Members
    -------
    images, rows, cols, sets : arrays
    """

    def __init__(self, whole, blocks):
        self.whole, self.blocks = whole, blocks
        images, rows, cols = whole
        choices = sizes(images, FEW), sizes(rows, EVERY), sizes(cols, EVERY), sizes(blocks, FEW)
        grid = np.meshgrid(*choices, indexing="ij")
        self.images, self.rows, self.cols, self.sets = (axis.ravel() for axis in grid)

    def __len__(self):
        return len(self.images)

    def only(self, chosen):
        """The Shapes that a mask or index array chooses."""
        found = Shapes.__new__(Shapes)
        found.whole, found.blocks = self.whole, self.blocks
        for name in ("images", "rows", "cols", "sets"):
            setattr(found, name, getattr(self, name)[chosen])
        return found

    @property
    def sizes(self):
        """(images, rows, columns), arrays."""
        return self.images, self.rows, self.cols

    @cached_property
    def places(self):
        """Tiles of the whole map."""
        found = 1
        for total, size in zip(self.whole, self.sizes, strict=True):
            found = found * -(-total // size)
        return found

    @cached_property
    def regions(self):
        """Sets of blocks."""
        return -(-self.blocks // self.sets)

    @cached_property
    def kinds(self):
        """(how many, (images, rows, columns)) of the up to eight kinds of tiles: full ones, and
        what is left at the ends."""
        pairs = zip(self.whole, self.sizes, strict=True)
        sides = [_parts(total, size) for total, size in pairs]
        found = []
        for parts in product(*sides):
            number = parts[0][0] * parts[1][0] * parts[2][0]
            if number.any():
                found.append((number, tuple(size for _, size in parts)))
        return found

    @cached_property
    def blocks_in(self):
        """(how many, blocks) of the sets: the full ones, and what is left."""
        return [part for part in _parts(self.blocks, self.sets) if part[0].any()]

    def along(self, axis, value):
        """Array of `value(size)` for the rows (axis 0) or columns of each tile."""
        distinct, where = np.unique(self.sizes[1 + axis], return_inverse=True)
        return np.array([value(int(size)) for size in distinct])[where]


def _parts(total, size):
    full, rest = np.divmod(total, size)
    return [(full, size), ((rest > 0).astype(int), rest)]
