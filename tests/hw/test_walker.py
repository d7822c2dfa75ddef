# amaranth: UnusedElaboratable=no
"""Walker against nested loops."""

from itertools import product
from random import Random

import pytest
from amaranth.sim import Simulator
from gradgate.hw.walker import Walker


def test_only_the_outermost_level_is_endless():
    with pytest.raises(ValueError, match=r"^only the outermost level can do without a count, not "):
        Walker([4, None, 4], {})


@pytest.mark.parametrize("endless", [False, True])
def test_walks_nested_loops(endless):
    random = Random(7)
    dut = Walker([4, 5, None if endless else 6], {"x": 16, "y": 9})
    sim = Simulator(dut)
    sim.add_clock(1e-8)

    async def bench(ctx):
        for _ in range(12):
            counts = [random.choice([1, random.randint(1, 5)]) for _ in range(3)]
            widths = {"x": 16, "y": 9}
            bases = {name: random.getrandbits(width) for name, width in widths.items()}
            strides = {name: [random.getrandbits(width) for _ in range(3)]
                       for name, width in widths.items()}
            for level in range(2 if endless else 3):
                ctx.set(getattr(dut, f"n{level}"), counts[level])
                if level < 2:
                    ctx.set(getattr(dut, f"again{level}"), counts[level])
            for name in widths:
                ctx.set(getattr(dut, f"{name}_base"), bases[name])
                for level in range(3):
                    ctx.set(getattr(dut, f"{name}_stride")[level], strides[name][level])
            ctx.set(dut.load, 1)
            await ctx.tick()
            ctx.set(dut.load, 0)

            before = None
            for index in product(*(range(count) for count in reversed(counts))):
                index = index[::-1]
                values = {name: (bases[name]
                                 + sum(i * s for i, s in zip(index, strides[name], strict=True)))
                          % (1 << width) for name, width in widths.items()}
                if before is not None:
                    assert before == values
                for name, value in values.items():
                    assert ctx.get(getattr(dut, name)) == value
                ends = [index[k] == counts[k] - 1 for k in range(3)]
                if endless:
                    ends[2] = False
                else:
                    assert ctx.get(dut.left2) == counts[2] - index[2]
                assert ctx.get(dut.end) == sum(end << k for k, end in enumerate(ends))
                assert ctx.get(dut.last) == all(ends)

                while random.randrange(3) == 0:
                    await ctx.tick()
                before = {name: ctx.get(getattr(dut, f"{name}_next")) for name in widths}
                ctx.set(dut.step, 1)
                await ctx.tick()
                ctx.set(dut.step, 0)

    sim.add_testbench(bench)
    sim.run()
