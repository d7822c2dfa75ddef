# amaranth: UnusedElaboratable=no
"""hw/soc.py: a program through the serial line, in the Amaranth simulator; what the lights say."""

import random
from functools import partial

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from gradgate.frames import Request, Response
from gradgate.hw.config import Config
from gradgate.hw.control import REGISTERS
from gradgate.hw.link_format import REGISTERS as REGISTER
from gradgate.hw.link_format import WRITE, Identity
from gradgate.hw.port import ReadPort, WritePort
from gradgate.hw.soc import SoC

from tests.cocotb.convolution import Convolution
from tests.hw.memory import Memory

DIVISOR = 4
START, RESET = 1, 2
DONE, UNKNOWN_UNIT, BUS_ERROR = 1 << 1, 1 << 4, 1 << 5
CONFIG = Config(tm=2, tn=4, beat_bits=32, a_depth=64, b_depth=64, acc_depth=32, max_burst=16,
                read_ports=3, write_ports=2)


class Outside(wiring.Component):
    """Stands for memory: `read` and `write` are served by the test."""

    def __init__(self, config):
        super().__init__({"read": In(ReadPort(config.beat_bits)),
                          "write": In(WritePort(config.beat_bits)), "error": Out(1)})

    def elaborate(self, platform):
        return Module()


class Host:
    """The other end of the serial line of `dut`, in testbench `ctx`."""

    def __init__(self, dut, ctx):
        self.dut, self.ctx, self.number = dut, ctx, 0

    async def ask(self, operation, address, words, data=b""):
        """The data of the answer."""
        self.number += 1
        for byte in Request(operation, address, words, data).encode(self.number):
            for bit in (0, *(byte >> k & 1 for k in range(8)), 1):
                self.ctx.set(self.dut.rx, bit)
                await self.ctx.tick().repeat(DIVISOR)
        answer = bytearray()
        while not answer or answer[-1]:
            answer.append(await self._byte())
        answer = Response.decode(bytes(answer[:-1]))
        assert (answer.number, answer.words) == (self.number, words)
        return answer.data

    async def _byte(self):
        for _ in range(2000):
            await self.ctx.tick()
            if not self.ctx.get(self.dut.tx):
                break
        else:
            raise AssertionError("no answer")
        await self.ctx.tick().repeat(DIVISOR // 2)
        byte = 0
        for k in range(8):
            await self.ctx.tick().repeat(DIVISOR)
            byte |= self.ctx.get(self.dut.tx) << k
        await self.ctx.tick().repeat(DIVISOR)
        assert self.ctx.get(self.dut.tx)
        return byte

    async def set(self, name, *values):
        await self.ask(REGISTER | WRITE, REGISTERS[name], len(values),
                       b"".join(value.to_bytes(4, "little") for value in values))

    async def get(self, name):
        return int.from_bytes(await self.ask(REGISTER, REGISTERS[name], 1), "little")

    def lights(self):
        return "".join(name[0] for name in ("idle", "running", "error")
                       if self.ctx.get(getattr(self.dut, name)))


def test_program():
    """Memory through the link, a program on all ports, programs that fail; one light at a time."""
    config = CONFIG
    work = Convolution(config, 0)
    outside = Outside(config)
    identity = Identity(board="test", config=config, memory_size=work.SIZE, clock_hz=10**6)
    dut = SoC(identity, outside, DIVISOR)
    memory = Memory(config, random.Random(1), size=work.SIZE + 0x1000, latency=3)
    memory.data[:work.SIZE] = work.memory

    async def main(ctx):
        host = Host(dut, ctx)
        assert host.lights() == "i"
        await host.ask(REGISTER | WRITE, 0, 0)
        at = work.SIZE + 8
        await host.ask(WRITE, at, 2, b"12345678")
        assert memory.data[at:at + 8] == b"12345678"
        assert await host.ask(0, at - 4, 3) == memory.data[at - 4:at + 8]

        await host.set("PROG_ADDR", work.address, 100_000)
        await host.set("CTRL", START)
        assert host.lights() == "r"
        await ctx.tick().until(dut.idle)
        assert await host.get("STATUS") == DONE and host.lights() == "i"
        assert memory.data[:work.SIZE] == work.expected
        assert memory.data[at:at + 8] == b"12345678"

        # a unit that there is not; the light stays after the reset, and is off at the next start
        memory.data[work.SIZE:work.SIZE + 64] = b"\xee" * 64
        await host.set("PROG_ADDR", work.SIZE)
        await host.set("CTRL", START)
        assert await host.get("STATUS") == UNKNOWN_UNIT and host.lights() == "e"
        await host.set("CTRL", RESET)
        assert host.lights() == "e"
        # memory that answers with an error
        await host.set("PROG_ADDR", work.address)
        await host.set("CTRL", START)
        assert host.lights() == "r"
        ctx.set(outside.error, 1)
        await ctx.tick()
        ctx.set(outside.error, 0)
        assert await host.get("STATUS") == BUS_ERROR and host.lights() == "e"
        await host.set("CTRL", START)
        assert host.lights() == "r"

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(main)
    for bench in (partial(memory.serve_reads, port=wiring.flipped(outside.read)),
                  partial(memory.serve_writes, port=wiring.flipped(outside.write))):
        sim.add_testbench(bench, background=True)
    sim.run()


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_mistakes():
    identity = Identity(board="test", config=CONFIG, memory_size=4096, clock_hz=1)
    with pytest.raises(TypeError, match="^identity must be an Identity, not Config"):
        SoC(CONFIG, Outside(CONFIG), DIVISOR)
    with pytest.raises(ValueError, match="^divisor must be at least 4, not 3$"):
        SoC(identity, Outside(CONFIG), 3)
