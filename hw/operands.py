"""The operands of all rows of the array."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config

__all__ = ["Operands"]

_LANES = 4  # that share a register which enables them


class Operands(wiring.Component):
    """Registers of the stationary tile and of the moving vector.

    Groups of vlanes rows pass on to the next what comes, so that no wire goes to all rows: what is
    said here is of the first group, the others are a cycle later each. A moving vector is there a
    cycle after it has come. Of the stationary tile, row r is what comes a cycle after `filled[r]`;
    rows are gathered while others are in use, and used from two cycles after `swap`. No RAM; per
    lane and bit of it 2 flip-flops for each row, 2 for each group.

    Parameters
    ----------
    config : Config
    width : int
        Bits of a lane.

    Members
    -------
    row, vector : In(ArrayLayout(width, tn))
    filled : In(tm), swap : In(1)
    a : Out(ArrayLayout(width, tn)).array(tm)
        The stationary tile.
    b : Out(ArrayLayout(width, tn)).array(groups)
        The moving vector, for each group of rows.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config, width):
        check_config(config)
        self._config = config
        lanes = data.ArrayLayout(width, config.tn)
        super().__init__({
            "row": In(lanes), "vector": In(lanes), "filled": In(config.tm), "swap": In(1),
            "a": Out(lanes).array(config.tm), "b": Out(lanes).array(config.groups),
        })

    def elaborate(self, platform):
        m = Module()
        row, vector, filled, swap = self.row, self.vector, self.filled, self.swap
        for g in range(self._config.groups):
            near_vector = Signal.like(vector, name=f"near_vector_{g}", reset_less=True)
            m.d.sync += near_vector.eq(vector)
            m.d.comb += self.b[g].eq(near_vector)
            for r in range(g * self._config.vlanes, (g + 1) * self._config.vlanes):
                m.d.comb += self.a[r].eq(self._tile(m, r, row, filled[r], swap))

            if g + 1 < self._config.groups:
                near_row = Signal.like(row, name=f"near_row_{g}", reset_less=True)
                following = Signal(len(filled) + 1, name=f"following_{g}")
                m.d.sync += [near_row.eq(row), following[:-1].eq(filled), following[-1].eq(swap)]
                row, vector, filled, swap = near_row, near_vector, following[:-1], following[-1]
        return m

    def _tile(self, m, r, comes, filled, swap):
        """Row r of the stationary tile, gathered in `shadow`."""
        shadow, tile = (Signal.like(comes, name=f"{name}_{r}", reset_less=True)
                        for name in ("shadow", "tile"))
        for first in range(0, self._config.tn, _LANES):
            near_filled, near_swap = (Signal(name=f"near_{name}_{r}_{first}")
                                      for name in ("filled", "swap"))
            m.d.sync += [near_filled.eq(filled), near_swap.eq(swap)]
            for lane in range(first, min(first + _LANES, self._config.tn)):
                with m.If(near_filled):
                    m.d.sync += shadow[lane].eq(comes[lane])
                with m.If(near_swap):
                    m.d.sync += tile[lane].eq(shadow[lane])
        return tile
