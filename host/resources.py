"""What a build needs of a chip: multipliers and memory blocks by counting, LUTs by estimate.

A build is a whole device: core, registers, link, and the controller of its memory. Multipliers and
memories follow from the gateware: each multiplication and each memory is listed here with its
size. LUTs come from formulas fitted to the synthesis of the single blocks, docs/area.md.
"""

from dataclasses import dataclass

from gradgate.hw.control import config_registers
from gradgate.hw.fetch import Fetch
from gradgate.hw.isa import BYTES
from gradgate.hw.issue import Issue
from gradgate.hw.link_format import BUFFER
from gradgate.hw.micro.assembler import WORD_BITS
from gradgate.hw.micro.program import program

__all__ = [
    "CHIPS",
    "LIMITS",
    "NAMES",
    "TECHNOLOGIES",
    "Chip",
    "Memory",
    "Resources",
    "luts",
    "memories",
    "multipliers",
    "resources",
    "shortages",
]

# share of a chip that a build may take: the rest is for routing
LIMITS = {"luts": 0.85, "blocks": 0.9}

TILE = ("tile buffers", "accumulators")
DMA_DEPTH = 64  # least depth of the FIFO of a DMA
MICRO = {  # logic cells of an iCE40
    "array": 2978,
    "processor": 875,
    "link": 580,
    "memory": 182,
    "UART, arbiters": 194,
}


@dataclass(frozen=True)
class Technology:
    """How a family of FPGAs builds memories and multipliers.

    Parameters
    ----------
    shapes : tuple of (int, int)
        Bits, words of a memory block with one read and one write port.
    halves : int
        Of such blocks in one that is counted.
    shallow, rom : int
        Memories, and memories that are never written, of at most so many words are made of LUTs or
        flip-flops.
    luts : float
        LUTs of this family for one LUT4 of an ECP5.
    """

    shapes: tuple
    halves: int
    shallow: int
    rom: int
    luts: float


EIGHTEEN = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
TECHNOLOGIES = {  # factors for LUTs: of rows of the array, and of LOAD and Accumulate on iCE40
    "ecp5": Technology(EIGHTEEN, 1, 32, 256, 1.0),
    "ultrascale": Technology(EIGHTEEN, 2, 32, 256, 0.65),
    "ice40": Technology(((16, 256), (8, 512), (4, 1024), (2, 2048)), 1, 32, 32, 0.9),
}


@dataclass(frozen=True)
class Chip:
    """What there is: `technology`, LUTs, multipliers, memory blocks, and how many of these tile
    buffers and accumulators may take (None: all)."""

    technology: str
    luts: int
    multipliers: int
    blocks: int
    tile_blocks: int | None = None


CHIPS = {
    "ulx3s-85f": Chip("ecp5", 83_640, 156, 208),
    # 64 more of its memory blocks are the device memory
    "ecpix5-85f": Chip("ecp5", 83_640, 156, 144),
    # as much tile memory as EF-Train
    "zcu102": Chip("ultrascale", 274_080, 2520, 912, 672),
    # its four blocks of 256 kbit are the device memory
    "icebreaker": Chip("ice40", 5_280, 8, 30),
}


@dataclass(frozen=True)
class Resources:
    """What a build needs; `tile_blocks` are those of `blocks` that hold tiles and accumulators.

    A multiplier has 18 x 18 bits (ECP5), 16 x 16 (iCE40) or 27 x 18 (UltraScale+); a memory block
    18 kbit, 4 kbit or 36 kbit.
    """

    multipliers: int
    blocks: int
    tile_blocks: int
    luts: int


NAMES = {
    "multipliers": "multipliers",
    "blocks": "memory blocks",
    "tile_blocks": "memory blocks for tiles and accumulators",
    "luts": "LUTs",
}


@dataclass(frozen=True)
class Memory:
    """`count` memories of `words` words of `bits` bits, of a `part` of the gateware; a `rom` is
    never written."""

    part: str
    bits: int
    words: int
    count: int
    rom: bool = False

    def blocks(self, technology):
        """Blocks, in halves where the technology has them; 0 if it is made of LUTs."""
        if self.words <= (technology.rom if self.rom else technology.shallow):
            return 0
        return self.count * min(
            -(-self.bits // b) * -(-self.words // w) for b, w in technology.shapes
        )


def memories(config):
    """All memories of a build with more than a few words, but for the device's own."""
    link = [
        Memory("link", 8, BUFFER, 1),
        Memory("identity", 8, 256, 1, rom=True),
    ]
    if config.core == "micro":
        words, registers = program(*config_registers(config))
        deepest = max(config.a_depth, config.b_depth)
        return [
            Memory("tile buffers", config.elem_bits, 2 * deepest, config.tn),
            Memory("accumulators", 32, 2 * config.tm * config.acc_depth, 1),
            # Yosys gives the columns that are left over blocks of another shape
            Memory("microcode", WORD_BITS // 16 * 16, len(words), 1),
            Memory("microcode", WORD_BITS % 16, len(words), 1),
            Memory("registers", 32, len(registers), 2),  # a copy per operand
            *link,
        ]
    beat, beats = config.beat_bits, BYTES // config.beat_bytes
    reads = max(2 * config.max_burst, DMA_DEPTH) - 1  # one word is in the FIFO's output register
    writes = max(4 * config.max_burst, DMA_DEPTH) - 1
    drain = max(16, 2 * config.groups) - 1
    return [
        Memory("tile buffers", config.elem_bits, config.a_depth, config.tn),
        Memory("tile buffers", config.elem_bits, config.b_depth, config.tn),
        Memory("accumulators", 32 * config.vlanes, config.acc_depth, 2 * config.groups),
        Memory("reads of LOAD", beat, reads, 4),
        Memory("reads of POST", beat, reads, 3),
        Memory("writes of POST", beat, writes, 2),
        Memory("instructions", beat, Issue.DEPTH * beats - 1, 4),
        Memory("fetch", beat, Fetch.AHEAD - 1, 1),
        Memory("vectors", 39 * config.vlanes + 1, drain, 1),
        Memory("bias", beat, 2 * config.groups, 1),
        *link,
    ]


def multipliers(config):
    """Multipliers of the array and of the three products per lane of the vector unit; a product of
    24 bits, of fp32, is made of four, on blocks of 27 x 18 bits too: hw/multiplier.py. The small
    core has one row, and one product."""
    if config.core == "micro":
        return config.tn + 4
    product = 4 if config.fmt == "fp32" else 1
    return config.tm * config.tn * product + 3 * 4 * config.vlanes


def luts(config):
    """LUTs of an ECP5 for a build, {part: number}, as nextpnr counts them; of the small core logic
    cells of an iCE40. A whole device takes their sum.

    Fitted to what benchmarks/area.py has found (docs/area.md): from 2 x 4 to 8 x 16 bf16, 4 x 4 and
    4 x 8 fp32, beats of 32 to 128 bits, an SDRAM behind LiteDRAM. There each part is within 10 %,
    and the whole within 5 %. The small core comes in one size.
    """
    if config.core == "micro":
        return dict(MICRO)
    tm, tn, beat, lanes = config.tm, config.tn, config.beat_bits, config.lane_bits
    fp32 = config.fmt == "fp32"

    def buffer(depth):
        # a rotator for addresses and one for operands; a multiplexer per bank for beats
        bits = (depth - 1).bit_length() + config.elem_bits
        return tn * lanes * bits + tn * beat / 4 + tn

    queues = next(m for m in memories(config) if m.part == "instructions")
    shallow, rows = queues.words <= TECHNOLOGIES["ecp5"].shallow, -(-queues.words // 16)
    # RAMs of 16 words of 4 bits, and multiplexers where there are several one above the other
    ram = shallow * queues.count * queues.bits * (6 / 4 * rows + rows - 1)
    slices = config.read_ports + config.write_ports + 2
    wide = 12.5 * (config.addr_bits - 25)  # of a DMA: bits beyond those of 32 MB
    return {
        "rows of the array": tm * (324 * tn + 253 if fp32 else 171 * tn + 258),
        "adders of the array": tm * (742 + 16 * lanes if fp32 else 623),
        "accumulators": 66 * tm + 12,
        "tile buffer A": buffer(config.a_depth),
        "tile buffer B": buffer(config.b_depth),
        "stationary": 52 * tn + 925,
        "moving": 26 * tn + 700,
        "operands": 70 + 24.5 * tn + 12.5 * tm,
        "LOAD": 2 * (2427 + 40 * lanes + 1.5 * beat + 2 * wide),
        "POST": 3280 * config.vlanes + 111 * tm + 4860 + 5 * wide,
        "sequencer": 1480 - beat + ram,
        "ports of the core": 865 + 1.3 * beat,
        "registers": 1160,
        "link": 485 + 1.05 * beat,
        "memory": 1330 + 4 * beat,
        "UART, arbiters": 200 + slices * (120 + 1.21 * beat),
    }


def resources(config, technology="ecp5"):
    """Resources of a build.

    Parameters
    ----------
    config : Config
    technology : str
        "ecp5", "ultrascale" or "ice40".
    """
    of = TECHNOLOGIES[technology]
    needs = [(m.part in TILE, m.blocks(of)) for m in memories(config)]
    total, tiles = sum(n for _, n in needs), sum(n for tile, n in needs if tile)
    factor = 1 if config.core == "micro" else of.luts
    return Resources(
        multipliers(config),
        -(-total // of.halves),
        -(-tiles // of.halves),
        round(sum(luts(config).values()) * factor),
    )


def shortages(need, chip, limits=None):
    """What a chip has too little of for Resources `need`, a list of texts, empty if it fits.

    `limits` are shares of what there is that may be taken, by name; 1 where nothing is said.
    """
    found = []
    for name, text in NAMES.items():
        have, share = getattr(chip, name), (limits or {}).get(name, 1)
        if have is not None and getattr(need, name) > share * have:
            of = "" if share == 1 else f"{share:.0%} of "
            found.append(f"{getattr(need, name):,} {text}, there are {of}{have:,}")
    return found
