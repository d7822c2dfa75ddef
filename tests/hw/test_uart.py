# amaranth: UnusedElaboratable=no
"""The serial line, against one driven bit by bit."""

import random

import pytest
from amaranth.sim import Simulator
from gradgate.hw.uart import UARTReceiver, UARTTransmitter


async def send(ctx, line, data, cycles, stop=1):
    """Put `data` on `line`, `cycles` (a float) per bit."""
    now = position = 0.0
    for byte in data:
        for bit in (0, *(byte >> k & 1 for k in range(8)), stop):
            ctx.set(line, bit)
            position += cycles
            while now + 1 <= position:
                await ctx.tick()
                now += 1
    ctx.set(line, 1)


def receive(divisor, body, cycles=10000):
    """What a receiver makes of what `body(ctx, dut)` does to its line; the consumer is ready."""
    dut, got = UARTReceiver(divisor), []

    async def main(ctx):
        ctx.set(dut.o.ready, 1)
        await body(ctx, dut)
        for _ in range(2 * divisor + 8):
            await ctx.tick()

    async def sink(ctx):
        for _ in range(cycles):
            _, _, valid, byte = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid:
                got.append(byte)
        raise AssertionError(f"no end after {cycles} cycles")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(main)
    simulator.add_testbench(sink, background=True)
    simulator.run()
    return bytes(got)


@pytest.mark.parametrize("divisor, speed", [(4, 1), (5, 1), (8, 0.97), (8, 1), (8, 1.03),
                                            (27, 0.96), (27, 1), (27, 1.04)])
def test_receiver_at_many_speeds(divisor, speed):
    data = random.Random(divisor).randbytes(20) + b"\0\xff\x55\xaa"

    async def body(ctx, dut):
        await send(ctx, dut.rx, data, divisor * speed)
    assert receive(divisor, body) == data


def test_receiver_drops_what_is_no_byte():
    async def body(ctx, dut):
        ctx.set(dut.rx, 0)  # a glitch
        await ctx.tick().repeat(2)
        ctx.set(dut.rx, 1)
        await ctx.tick().repeat(20)
        await send(ctx, dut.rx, b"\x12", 8, stop=0)
        await ctx.tick().repeat(100)
        await send(ctx, dut.rx, b"\x34", 8)
        ctx.set(dut.rx, 0)  # break
        await ctx.tick().repeat(1000)
        ctx.set(dut.rx, 1)
        await ctx.tick().repeat(100)
        await send(ctx, dut.rx, b"\x56", 8)
    assert receive(8, body) == b"\x34\x56"


@pytest.mark.parametrize("divisor", [4, 5, 16])
def test_transmitter(divisor):
    """Bits of the right length, bytes without gaps between them."""
    data, dut, levels = random.Random(divisor).randbytes(6), UARTTransmitter(divisor), []

    async def line(ctx):
        while True:
            _, _, level = await ctx.tick().sample(dut.tx)
            levels.append(level)

    async def main(ctx):
        ctx.set(dut.i.valid, 1)
        for byte in data:
            ctx.set(dut.i.payload, byte)
            await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(12 * divisor)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(line, background=True)
    simulator.add_testbench(main)
    simulator.run()
    expected = [bit for byte in data for bit in (0, *(byte >> k & 1 for k in range(8)), 1)
                for _ in range(divisor)]
    start = levels.index(0)
    assert levels[start:start + len(expected)] == expected
    assert all(levels[start + len(expected):])


@pytest.mark.parametrize("block", [UARTReceiver, UARTTransmitter])
def test_divisor_is_checked(block):
    with pytest.raises(TypeError, match="^divisor must be int, not 8.0$"):
        block(8.0)
    with pytest.raises(ValueError, match="^divisor must be at least 4, not 3$"):
        block(3)
