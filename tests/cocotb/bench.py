"""cocotb tests of AXITop; test_axitop.py runs them.

The environment variable GRADGATE_CONFIG holds the parameters of the configuration as JSON.
"""

import itertools
import json
import os
import random
import struct

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam
from gradgate.hw.config import Config
from gradgate.hw.control import REGISTERS
from gradgate.hw.isa import Unit, encode

from tests.cocotb.convolution import IMAGES, Convolution

CONFIG = Config(**json.loads(os.environ["GRADGATE_CONFIG"]))
BUSY, DONE, TIMEOUT, UNKNOWN, BUS_ERROR, TOKENS_LEFT = (1 << k for k in (0, 1, 2, 4, 5, 8))
START, RESET = 1, 2
SHORT = 0x1000  # where the short programs go


class Bench:
    """Clock, host and memory around `dut`; with probability `stall` a channel pauses a cycle."""

    def __init__(self, dut, stall):
        self.dut, self.stall = dut, stall
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=Convolution.SIZE)
        self.sides = [self.ram.read_if, self.ram.write_if]
        for k in range(1, max(CONFIG.read_ports, CONFIG.write_ports)):
            ram = AxiRam(AxiBus.from_prefix(dut, f"m_axi{k}"), dut.clk, dut.rst, mem=self.ram.mem)
            self.sides += [ram.read_if, ram.write_if]
        self.bad = range(0)  # addresses that answer with SLVERR
        for side, name in zip(self.sides, itertools.cycle(("_read", "_write"))):
            setattr(side, name, self._guard(getattr(side, name)))
            side.log.setLevel("ERROR")
        self.host.read_if.log.setLevel("ERROR")
        self.host.write_if.log.setLevel("ERROR")

    @classmethod
    async def make(cls, dut, stall=0.3):
        Clock(dut.clk, 10, unit="ns").start()
        dut.rst.value = 1
        bench = cls(dut, stall)
        await ClockCycles(dut.clk, 5)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 2)
        for side in (*bench.sides, bench.host.write_if, bench.host.read_if):
            for name in ("aw_channel", "w_channel", "b_channel", "ar_channel", "r_channel"):
                if channel := getattr(side, name, None):
                    channel.set_pause_generator(
                        random.random() < stall for _ in itertools.count())
        return bench

    def _guard(self, access):
        async def guarded(address, *rest):
            if address in self.bad:
                raise ValueError(f"no memory at {address:#x}")
            return await access(address, *rest)
        return guarded

    async def read(self, name):
        return await self.host.read_dword(REGISTERS[name])

    async def read64(self, name):
        low = await self.read(name)
        return low | await self.host.read_dword(REGISTERS[name] + 4) << 32

    async def write(self, name, value):
        await self.host.write_dword(REGISTERS[name], value)

    async def start(self, address, timeout=2000):
        await self.write("PROG_ADDR", address)
        await self.write("TIMEOUT", timeout)
        await self.write("CTRL", START)

    async def finish(self, limit=20000):
        """Wait for the interrupt; returns STATUS."""
        for _ in range(limit):
            await RisingEdge(self.dut.clk)
            if self.dut.irq.value:
                return await self.read("STATUS")
        raise AssertionError(f"no interrupt after {limit} cycles")

    async def reset(self):
        await self.write("CTRL", RESET)
        while (status := await self.read("STATUS")) & BUSY:
            pass
        assert status == 0 and not self.dut.irq.value
        assert await self.read("STATE") == 0x04040404
        assert await self.read64("CYCLES") == await self.read("FETCHED") == 0
        assert await self.read("TOKENS0") == await self.read("TOKENS1") == 0

    def load(self, program, address=SHORT):
        for k, words in enumerate([*program, encode(Unit.END)]):
            self.ram.write(address + 64 * k, struct.pack("<16I", *words))

    async def convolve(self, seed):
        """Run a whole program and compare all of memory."""
        work = Convolution(CONFIG, seed)
        self.ram.write(0, work.memory)
        await self.start(work.address)
        assert await self.finish() == DONE
        assert self.ram.read(0, work.SIZE) == work.expected
        return work


@cocotb.test()
async def registers(dut):
    bench = await Bench.make(dut)
    assert await bench.read("ID") == 0x47474154
    assert await bench.read("VERSION") == 1
    parameters = await bench.read("CONFIG0")
    assert parameters & 0xffff == CONFIG.tm | CONFIG.tn << 8
    assert 1 << (parameters >> 20 & 15) == CONFIG.beat_bytes
    assert 1 << (parameters >> 24 & 15) == CONFIG.max_burst
    assert (parameters >> 28 & 1, parameters >> 29) == (CONFIG.read_ports == 3,
                                                        CONFIG.write_ports == 2)
    assert await bench.read("STATUS") == 0
    assert await bench.read("STATE") == 0x04040404


@cocotb.test()
@cocotb.parametrize(stall=[0.0, 0.3, 0.7])
async def convolution(dut, stall):
    """Memory is right whatever the bus does, and the counters tell what happened."""
    bench = await Bench.make(dut, stall)
    for seed in range(2):
        work = await bench.convolve(seed)
        assert await bench.read("FETCHED") == work.instructions
        for unit, count in ((Unit.LOAD_A, 1), (Unit.LOAD_B, 2 * IMAGES), (Unit.COMPUTE, IMAGES),
                            (Unit.POST, 2 * IMAGES)):
            assert await bench.read(f"COUNT_{unit.name}") == count
        assert await bench.read64("ACTIVE_COMPUTE") == work.moving
        assert await bench.read64("WRITE_BEATS") == work.beats_written
        assert await bench.read64("ACTIVE_POST") == work.beats_written
        # beyond the data: the program, which is read ahead
        program = await bench.read64("READ_BEATS") - work.beats_read
        before_end = (work.instructions - 1) * 64 // CONFIG.beat_bytes
        assert before_end < program <= before_end + 64
        cycles = await bench.read64("CYCLES")
        for unit in ("LOAD_A", "LOAD_B", "COMPUTE", "POST"):
            busy = await bench.read64(f"BUSY_{unit}")
            starved = await bench.read64(f"STARVED_{unit}")
            assert 0 < busy < cycles and starved < cycles
            assert await bench.read64(f"ACTIVE_{unit}") <= busy


@cocotb.test()
async def reset_at_any_time(dut):
    """A running program is abandoned with its bus transactions open, and the next runs right."""
    bench = await Bench.make(dut, 0.5)
    for k in range(24):
        work = Convolution(CONFIG, k)
        bench.ram.write(0, work.memory)
        await bench.start(work.address)
        await ClockCycles(dut.clk, random.randrange(1200))
        await bench.reset()
        if k % 4 == 3:
            await bench.convolve(k)


@cocotb.test()
async def restart_at_any_time(dut):
    """Reset and start in one write."""
    bench = await Bench.make(dut, 0.5)
    work = Convolution(CONFIG, 1)
    for _ in range(6):
        bench.ram.write(0, work.memory)
        await bench.start(work.address)
        await ClockCycles(dut.clk, random.randrange(1000))
        await bench.write("CTRL", START | RESET)
        assert await bench.finish() == DONE
        assert bench.ram.read(0, work.SIZE) == work.expected


@cocotb.test()
@cocotb.parametrize(where=["program", "features", "outputs"])
async def bus_error(dut, where):
    bench = await Bench.make(dut)
    work = Convolution(CONFIG, 3)
    address = {"program": work.address, "features": work.features_address + 8,
               "outputs": work.output(1)[0]}[where]
    bench.ram.write(0, work.memory)
    bench.bad = range(address, address + 16)
    await bench.start(work.address)
    assert await bench.finish() & ~DONE == BUS_ERROR
    bench.bad = range(0)
    await bench.reset()
    await bench.convolve(4)


@cocotb.test()
async def deadlock(dut):
    """A timeout, with a state that tells who waits for what."""
    bench = await Bench.make(dut)
    bench.load([encode(Unit.LOAD_A, signal=1 << Unit.COMPUTE | 1 << Unit.POST),
                encode(Unit.COMPUTE, wait=1 << Unit.LOAD_A | 1 << Unit.LOAD_B)])
    await bench.start(SHORT, timeout=150)
    assert await bench.finish() == TIMEOUT
    state = (await bench.read("STATE")).to_bytes(4, "little")
    assert list(state) == [4, 4, 2, 4]  # COMPUTE waits for tokens, the other queues are empty
    assert await bench.read("TOKENS0") == 1 << 4 | 1 << 8  # LOAD_A -> COMPUTE, LOAD_A -> POST
    assert await bench.read("TOKENS1") == 0
    assert await bench.read("FETCHED") == 3
    assert await bench.read64("STARVED_COMPUTE") >= 100
    await bench.reset()
    await bench.convolve(5)


@cocotb.test()
async def invalid_programs(dut):
    """Each has its status, and the next program needs no reset."""
    bench = await Bench.make(dut)
    bench.load([[7] + 15 * [0]])
    await bench.start(SHORT)
    assert await bench.finish() == UNKNOWN

    bench.load([encode(Unit.LOAD_A, signal=1 << Unit.POST)])
    await bench.start(SHORT)
    assert await bench.finish() == DONE | TOKENS_LEFT
    assert await bench.read("TOKENS0") == 1 << 8

    await bench.convolve(6)
