"""Weights that stay in buffer A from the forward pass of a training step to its backward pass."""

from dataclasses import dataclass
from math import prod

from .tiling import Tile

__all__ = ["Resident", "residents"]

SHARE = 0.75  # of buffer A; the passes in between need the rest


@dataclass(frozen=True)
class Resident:
    """How the weights of a layer lie in buffer A: a slot per group of m blocks that share a word,
    and chunk; in it the entries of the chunk, with the input channel, counted from the first of the
    chunk, as skew.

    Parameters
    ----------
    tile : Tile
        Of the forward pass; its chunks have all taps.
    groups : int
    taps : int
    """

    tile: Tile
    groups: int
    taps: int

    @property
    def slots(self):
        return self.groups * len(self.tile.chunks)

    @property
    def words(self):
        return self.slots * self.tile.a_words

    @property
    def stride(self):
        """Words from a group to the next."""
        return len(self.tile.chunks) * self.tile.a_words

    def number(self, group, index):
        """Of the slot of a group and chunk."""
        return group * len(self.tile.chunks) + index

    def entry(self, group, channel):
        """(word, skew) of the first tap of an input channel, counted from the first slot."""
        index, chunk = next(
            (i, c) for i, c in enumerate(self.tile.chunks) if c.c0 <= channel < c.c0 + c.channels
        )
        past = channel - chunk.c0
        return self.number(group, index) * self.tile.a_words + past * self.taps, past


def residents(tensors):
    """{number of the step: Resident} of a training step on Tensors: the last layers, as many as
    there is room for beside what other passes need meanwhile; the first of them come first."""
    t, found, held, needed = tensors, {}, 0, 0
    depth, scheduler = t.config.a_depth, t.scheduler
    first = next((i for i, step in enumerate(t.steps) if step.weights is not None), None)
    for i in reversed(range(len(t.steps))):
        step = t.steps[i]
        if step.weights is None:
            if step.layer.op == "maxpool":  # tags in buffer A
                needed = max(needed, scheduler.backward(t.pooling(i), True).a_words)
            continue
        if i == first:  # the gradient of the input is seldom wanted
            break
        w = t.windows(i)
        tile = scheduler.forward(w)
        one = Resident(tile, -(-step.weights.blocks * t.config.tm // t.config.tn), prod(w.kernel))
        held += one.words
        room = held <= SHARE * depth and held + needed <= depth
        if not room or any((c.rows, c.cols) != w.kernel for c in tile.chunks):
            break
        found[i] = one
        needed = max(needed, scheduler.gradient(w).a_words)
    return dict(reversed(found.items()))
