"""The blocks that a device consists of, as benchmarks/area.py synthesises them one by one."""

from dataclasses import dataclass, field

from amaranth.hdl import IOPort
from gradgate.dram import controller
from gradgate.hw.accumulators import Accumulators
from gradgate.hw.buffer import TileBuffer
from gradgate.hw.compute import ComputeUnit
from gradgate.hw.control import Control, config_registers
from gradgate.hw.core import Core
from gradgate.hw.dma import ReadDMA, WriteDMA
from gradgate.hw.dot import Accumulate, DotRow
from gradgate.hw.fetch import Fetch
from gradgate.hw.issue import Issue
from gradgate.hw.link import Link
from gradgate.hw.link_format import Identity
from gradgate.hw.load import LoadUnit
from gradgate.hw.micro.array import MicroArray
from gradgate.hw.micro.core import MicroCore
from gradgate.hw.micro.processor import Processor
from gradgate.hw.micro.program import program
from gradgate.hw.moving import Moving
from gradgate.hw.post import PostUnit
from gradgate.hw.sdram import SDRAM
from gradgate.hw.sequencer import Sequencer
from gradgate.hw.soc import SoC
from gradgate.hw.spram import SPRAM
from gradgate.hw.stationary import Stationary
from gradgate.hw.vector import VectorPipeline

__all__ = ["Block", "details", "parts", "whole"]

CLOCK_HZ = 50_000_000  # of which the SDRAM's times are made
DIVISOR = 16  # clock cycles per bit of the serial line
BUILD = bytes(range(8))  # no more constants than a real one has


@dataclass(frozen=True)
class Block:
    """A block, and how many of it a device has.

    Parameters
    ----------
    name : str
        That of its estimate in `gradgate.resources.luts`, but for `details` and `whole`.
    component : Component
    count : int
    without : dict of str to class
        Submodules that are not counted: they are blocks of their own.
    pins : tuple of IOPort
        Pins of the component, besides its ports.
    files : dict of str to str
        Verilog that it needs, by file name.
    reset : bool
        The core resets it. All else has no reset, but on an iCE40.
    """

    name: str
    component: object
    count: int = 1
    without: dict = field(default_factory=dict)
    pins: tuple = ()
    files: dict = field(default_factory=dict)
    reset: bool = False


def _identity(config):
    return Identity(board="area", config=config, memory_size=32 << 20, clock_hz=CLOCK_HZ,
                    build=BUILD)


def _memory(config):
    """(memory of the device, its pins, its Verilog): an SDRAM, or what an iCE40UP5K has."""
    if config.core == "micro":
        return SPRAM(config), (), {}
    made, pins = controller(CLOCK_HZ), IOPort(16, name="dq")
    return SDRAM(config, made.init, pins), (pins,), {"litedram_core.v": made.verilog}


def whole(config):
    """The whole device but for clocks, reset and cells of pins: a Block."""
    memory, pins, files = _memory(config)
    return Block("whole", SoC(_identity(config), memory, DIVISOR), pins=pins, files=files)


def parts(config):
    """All Blocks of a device; together they are what `whole` is."""
    memory, pins, files = _memory(config)
    board = [Block("link", Link(_identity(config))),
             Block("memory", memory, pins=pins, files=files)]
    soc = SoC(_identity(config), _memory(config)[0], DIVISOR)
    if config.core == "micro":
        return [
            Block("array", MicroArray(config)),
            Block("processor", Processor(*program(*config_registers(config)))),
            *board,
            Block("UART, arbiters", soc, without={
                "link": Link, "memory": SPRAM, "core": MicroCore}),
        ]
    compute = ComputeUnit(config)
    return [
        Block("rows of the array", DotRow(config), config.tm, reset=True),
        Block("adders of the array", Accumulate(config), config.tm, reset=True),
        Block("accumulators", Accumulators(config), reset=True),
        Block("tile buffer A", TileBuffer(config, config.a_depth), reset=True),
        Block("tile buffer B", TileBuffer(config, config.b_depth), reset=True),
        Block("stationary", Stationary(config), reset=True),
        Block("moving", Moving(config, compute.loop), reset=True),
        Block("operands", compute, reset=True, without={
            "stationary": Stationary, "moving": Moving, "accumulators": Accumulators,
            **{f"row_{row}": DotRow for row in range(config.tm)},
            **{f"accumulate_{row}": Accumulate for row in range(config.tm)}}),
        Block("LOAD", LoadUnit(config), 2, reset=True),
        Block("POST", PostUnit(config), reset=True),
        Block("sequencer", Sequencer(config), reset=True),
        Block("ports of the core", Core(config), without={
            "sequencer": Sequencer, "load_a": LoadUnit, "load_b": LoadUnit,
            "buffer_a": TileBuffer, "buffer_b": TileBuffer, "compute": ComputeUnit,
            "post": PostUnit}),
        Block("registers", Control(config)),
        *board,
        Block("UART, arbiters", soc, without={
            "link": Link, "memory": SDRAM, "core": Core, "control": Control}),
    ]


def details(config):
    """Blocks within those of `parts`."""
    if config.core == "micro":
        return []
    return [
        Block("ReadDMA (2 per LOAD, 3 in POST)", ReadDMA(config), 7, reset=True),
        Block("WriteDMA (in POST)", WriteDMA(config), 2, reset=True),
        Block("VectorPipeline (in POST)", VectorPipeline(config), reset=True),
        Block("Fetch (in the sequencer)", Fetch(config), reset=True),
        Block("Issue (in the sequencer)", Issue(config), 4, reset=True),
    ]
