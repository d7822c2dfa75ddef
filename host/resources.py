"""What a build needs of a chip: multipliers and memory blocks by counting, LUTs by estimate.

Multipliers and memories follow from the gateware: each multiplication and each memory is listed
here with its size. LUTs come from formulas fitted to Yosys' synthesis of the single blocks.
"""

from dataclasses import dataclass

from gradgate.hw.control import config_registers
from gradgate.hw.fetch import Fetch
from gradgate.hw.isa import BYTES
from gradgate.hw.issue import Issue
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

# share of a chip that a build may take: the rest is for the board's own, and for routing
LIMITS = {"luts": 0.85, "blocks": 0.9}

TILE = ("tile buffers", "accumulators")
DMA_DEPTH = 64  # least depth of the FIFO of a DMA
MICRO = {"array": 2300, "processor": 760}  # LUTs of an iCE40


@dataclass(frozen=True)
class Technology:
    """How a family of FPGAs builds memories and multipliers.

    Parameters
    ----------
    shapes : tuple of (int, int)
        Bits, words of a memory block with one read and one write port.
    halves : int
        Of such blocks in one that is counted.
    shallow : int
        Memories of at most so many words are made of LUTs or flip-flops.
    luts : float
        LUTs of this family for one LUT4 of an ECP5.
    """

    shapes: tuple
    halves: int
    shallow: int
    luts: float


EIGHTEEN = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
TECHNOLOGIES = {  # factors for LUTs: of rows of the array, and of LOAD and Accumulate on iCE40
    "ecp5": Technology(EIGHTEEN, 1, 32, 1.0),
    "ultrascale": Technology(EIGHTEEN, 2, 32, 0.65),
    "ice40": Technology(((16, 256), (8, 512), (4, 1024), (2, 2048)), 1, 32, 0.9),
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
    "ulx3s-85f-45mhz": Chip("ecp5", 83_640, 156, 208),
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
    """`count` memories of `words` words of `bits` bits, of a `part` of the gateware."""

    part: str
    bits: int
    words: int
    count: int

    def blocks(self, technology):
        """Blocks, in halves where the technology has them; 0 if it is made of LUTs."""
        if self.words <= technology.shallow:
            return 0
        return self.count * min(
            -(-self.bits // b) * -(-self.words // w) for b, w in technology.shapes
        )


def memories(config):
    """All memories of a build with more than a few words."""
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
        ]
    beat, beats = config.beat_bits, BYTES // config.beat_bytes
    reads = max(2 * config.max_burst, DMA_DEPTH) - 1  # one word is in the FIFO's output register
    writes = max(4 * config.max_burst, DMA_DEPTH) - 1
    drain = max(16, 2 * config.groups) - 1
    return [
        Memory("tile buffers", config.elem_bits, config.a_depth, config.tn),
        Memory("tile buffers", config.elem_bits, config.b_depth, config.tn),
        Memory("accumulators", 32 * config.tm, config.acc_depth, 2),
        Memory("reads of LOAD", beat, reads, 4),
        Memory("reads of POST", beat, reads, 3),
        Memory("writes of POST", beat, writes, 2),
        Memory("instructions", beat, Issue.DEPTH * beats - 1, 4),
        Memory("fetch", beat, Fetch.AHEAD - 1, 1),
        Memory("vectors", 39 * config.vlanes + 1, drain, 1),
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
    """LUT4 of an ECP5 for a build, {part: number}: LUT4, two per carry cell, six per 16 x 4 of RAM.

    Fitted to Yosys 0.69 (synth_ecp5 -abc9) of single blocks, from 2 x 4 to 8 x 32 bf16, 4 x 8 and
    16 x 16 fp32, beats of 32 to 128 bits. Rows, tile buffers, stationary sequencer, LOAD and POST
    are within 5 % of what was measured, the moving sequencer within 13 %, the rest within 10 %; a
    whole 2 x 4 ComputeUnit comes out 6 % too large. No whole device was synthesised.

    The small core comes in one size; its parts were synthesised for iCE40.
    """
    if config.core == "micro":
        return {part: number / TECHNOLOGIES["ice40"].luts for part, number in MICRO.items()}
    tm, tn, beat, vlanes = config.tm, config.tn, config.beat_bits, config.vlanes
    row = 330 * tn + 453 + 1126 if config.fmt == "fp32" else 180 * tn + 278 + 871

    def buffer(depth):
        bits = (depth - 1).bit_length() + config.elem_bits
        return 1.24 * tn * config.lane_bits * bits + 4.1 * tn + 2.75 * beat

    queues = next(m for m in memories(config) if m.part == "instructions")
    shallow = queues.words <= TECHNOLOGIES["ecp5"].shallow
    return {
        "rows of the array": tm * row,
        "accumulators": 129 * tm + 78,
        "tile buffers": buffer(config.a_depth) + buffer(config.b_depth),
        # its sequencers, and multiplexers before the operands
        "control of the array": 69 * tn + 1755 + 2 * tn * config.elem_bits,
        "LOAD": 2 * (9 * beat + 2350),
        "POST": 3440 * vlanes + 5770,
        "sequencer": 1265
        + shallow * 6 * queues.count * -(-queues.bits // 4) * -(-queues.words // 16),
        "registers": 4060,
        "ports": 450 * config.read_ports + (9 * beat if config.read_ports == 1 else 0),
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
    return Resources(
        multipliers(config),
        -(-total // of.halves),
        -(-tiles // of.halves),
        round(sum(luts(config).values()) * of.luts),
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
