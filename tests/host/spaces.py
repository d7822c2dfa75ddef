"""Passes of one board, and their candidates, for tests of what the scheduler is made of."""

from types import SimpleNamespace

import pytest
from gradgate.boards import board
from gradgate.buffers import Lowering
from gradgate.candidates_backward import BackwardCandidates
from gradgate.candidates_forward import ForwardCandidates
from gradgate.candidates_gradient import GradientCandidates
from gradgate.costs import Costs
from gradgate.durations import Machine
from gradgate.tiling import Window
from gradgate.trial import emit

BOARD = board("zcu102")
DEPTHS = BOARD.config.a_depth, BOARD.config.b_depth
COSTS = Costs(Machine(BOARD.config, BOARD.timing))
SPACES = {"forward": ForwardCandidates, "backward": BackwardCandidates,
          "gradient": GradientCandidates}
WINDOWS = {
    "3x3": Window(4, 32, 64, (8, 8), (8, 8), (3, 3), (1, 1), (1, 1)),
    "1x1": Window(2, 64, 64, (14, 14), (14, 14)),
    "pooled": Window(2, 32, 32, (16, 16), (16, 16), (3, 3), (1, 1), (1, 1), pool=((2, 2), (2, 2))),
    "strided": Window(2, 32, 32, (15, 15), (8, 8), (3, 3), (2, 2), (1, 1)),
    "linear": Window(4, 512, 64, (1, 1), (1, 1)),
    "thin": Window(2, 3, 16, (32, 32), (32, 32), (3, 3), (1, 1), (1, 1), packed=4),
}


def space(kind, name):
    return SPACES[kind](WINDOWS[name], COSTS, *DEPTHS)


cases = pytest.mark.parametrize("kind, name", [(kind, name) for kind in SPACES for name in WINDOWS
                                               if (kind, name) != ("backward", "thin")])


def program(kind, name, tile):
    """The Program of a pass with a Tile, as it is emitted."""
    lw = Lowering(SimpleNamespace(config=BOARD.config, timing=BOARD.timing,
                                  **{kind: lambda *_: tile}))
    emit(kind, lw, WINDOWS[name], BOARD.config)
    return lw.program
