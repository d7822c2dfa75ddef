"""Addresses of nested loops, by additions only."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Walker"]


class Walker(wiring.Component):
    """Nested loops, level 0 innermost, and values that grow by a stride per level and iteration.

    One iteration per cycle. One adder of its width per value, no multipliers, no RAM.

    Parameters
    ----------
    counts : sequence of int or None
        Width of the iteration count of each level; the outermost may be None: it never ends.
    values : dict of str to int
        Name and width of each value.

    Members
    -------
    load, step : In(1)
        Begin the loops anew; go to the next iteration. `load` wins. `step` after the last
        iteration leaves everything undefined until the next `load`.
    n{level} : In(count), at least 1
        Iterations; looked at with `load`.
    again{level} : In(count), at least 1
        The same when the loop of a level but the outermost begins again; looked at with `step`.
    {value}_base : In(width)
        Looked at with `load`.
    {value}_stride : In(width) per level
        Looked at with `step`.
    {value} : Out(width)
    {value}_next : Out(width)
        What `step` makes of it.
    end : Out(levels)
        Bit k: this is the last iteration of level k. 0 for a level that never ends.
    left{level} : Out(count)
        Iterations left, this one included.
    last : Out(1)
        All bits of `end`.
    last_next : Out(1)
        What `step` makes of it.

    Raises
    ------
    ValueError
        A level but the outermost has no count.
    """

    def __init__(self, counts, values):
        if None in counts[:-1]:
            raise ValueError(f"only the outermost level can do without a count, not {counts!r}")
        self._counts = tuple(counts)
        self._values = dict(values)
        levels = len(counts)
        members = {"load": In(1), "step": In(1), "end": Out(levels), "last": Out(1),
                   "last_next": Out(1)}
        for level, width in enumerate(counts):
            if width is not None:
                members |= {f"n{level}": In(width), f"left{level}": Out(width)}
                if level < levels - 1:
                    members[f"again{level}"] = In(width)
        for name, width in values.items():
            members |= {f"{name}_base": In(width), f"{name}_stride": In(width).array(levels),
                        name: Out(width), f"{name}_next": Out(width)}
        super().__init__(members)

    @property
    def counts(self):
        return self._counts

    @property
    def values(self):
        return self._values

    def elaborate(self, platform):
        m = Module()
        levels = range(len(self.counts))

        # The level that goes on is the innermost one that has not ended; those inside begin again.
        # `end` as a value sees it, from copies of the registers near it
        near = {name: [] for name in self.values}
        ended = [self.end[:level].all() for level in levels]
        for level, width in enumerate(self.counts):
            if width is None:
                for ends in near.values():
                    ends.append(Const(0, 1))
                continue
            n, left = getattr(self, f"n{level}"), Signal(width, name=f"r_left{level}",
                                                         reset_less=True)
            end = Signal(name=f"r_end{level}", reset_less=True)
            m.d.comb += [getattr(self, f"left{level}").eq(left), self.end[level].eq(end)]
            # `load` and `step` come late: all that they choose from is there before
            next_left, ends_next = left - 1, left == 2
            if level < len(levels) - 1:
                again = getattr(self, f"again{level}")
                next_left = Mux(end, again, left - 1)
                ends_next = Mux(end, again == 1, left == 2)
            copies = [Signal(name=f"near_{name}_end{level}", reset_less=True) for name in near]
            for ends, copy in zip(near.values(), copies, strict=True):
                ends.append(copy)
            with m.If(self.load):
                m.d.sync += [left.eq(n), *(e.eq(n == 1) for e in (end, *copies))]
            with m.Elif(self.step & ended[level]):
                m.d.sync += [left.eq(next_left), *(e.eq(ends_next) for e in (end, *copies))]

        # known from a register, as much follows from it in the same cycle
        if None in self._counts:
            m.d.comb += [self.last.eq(0), self.last_next.eq(0)]
        else:
            lefts = [getattr(self, f"left{level}") for level in levels]
            alone = [getattr(self, f"again{level}") == 1 for level in levels[:-1]]
            goes_on = [Cat(ended[level], ~self.end[level], lefts[level] == 2, *alone[:level],
                           self.end[level + 1:]).all() for level in levels]
            last = Signal(name="r_last", reset_less=True)
            m.d.comb += [self.last.eq(last), self.last_next.eq(Cat(goes_on).any())]
            with m.If(self.load):
                m.d.sync += last.eq(Cat(getattr(self, f"n{level}") == 1 for level in levels).all())
            with m.Elif(self.step):
                m.d.sync += last.eq(self.last_next)

        for name, width in self.values.items():
            starts = [Signal(width, name=f"r_{name}{level}", reset_less=True) for level in levels]
            start, stride = starts[-1], getattr(self, f"{name}_stride")[-1]
            ended = [Cat(near[name][:level]).all() for level in levels]
            for level in reversed(levels[:-1]):
                goes_on = ended[level] & ~near[name][level]
                start = Mux(goes_on, starts[level], start)
                stride = Mux(goes_on, getattr(self, f"{name}_stride")[level], stride)
            following = getattr(self, f"{name}_next")
            m.d.comb += [getattr(self, name).eq(starts[0]), following.eq(start + stride)]
            for level in levels:
                with m.If(self.load):
                    m.d.sync += starts[level].eq(getattr(self, f"{name}_base"))
                with m.Elif(self.step & ended[level]):
                    m.d.sync += starts[level].eq(following)
        return m
