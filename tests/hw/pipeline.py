"""Pipelines that take operands and give a result every cycle."""

from amaranth.sim import Simulator


def run_pipeline(dut, inputs, outputs, latency, vectors):
    """Outputs of a pipeline, each read `latency` cycles after its inputs.

    inputs, outputs : lists of port names; vectors : one tuple of inputs per cycle.
    """
    results = []
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)

    async def bench(ctx):
        for cycle in range(len(vectors) + latency):
            if cycle < len(vectors):
                for name, bits in zip(inputs, vectors[cycle], strict=True):
                    ctx.set(getattr(dut, name), bits)
            await ctx.delay(1e-9)
            if cycle >= latency:
                results.append(tuple(ctx.get(getattr(dut, name)) for name in outputs))
            await ctx.tick()

    simulator.add_testbench(bench)
    simulator.run()
    return results
