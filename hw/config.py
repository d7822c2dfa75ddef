"""The one description of a build: every generator, model and compiler takes this object."""

from dataclasses import dataclass, fields

__all__ = ["Config", "CORES", "FORMATS", "check_config"]

FORMATS = {"bf16": (16, 7), "fp32": (32, 23)}  # name -> (bits, stored mantissa bits)
CORES = ("units", "micro")


def _log2(value):
    return value.bit_length() - 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """Parameters of one gradgate device.

    Parameters
    ----------
    tm : int
        Rows of the array: channels that accumulate at once. A power of two, 2..tn.
        Also the channel block of feature maps in memory.
    tn : int
        Lanes of a row: products summed at once. A power of two, 4..64.
    fmt : str
        Operand format, "bf16" or "fp32".
    beat_bits : int
        Width of one beat of the internal burst port: 32, 64 or 128; at most four operands, and at
        most one channel block (tm operands).
    a_depth, b_depth : int
        Tile buffer depth in words of tn operands. Powers of two, at most 32768.
    acc_depth : int
        Accumulators per row and region, of which there are two. A power of two, at most 32768.
    max_burst : int
        Longest burst in beats, at most 256.
    read_ports : int
        Memory ports to read from: 1, or 3 (LOAD_A; LOAD_B and momentum; program and POST).
    write_ports : int
        Memory ports to write to: 1, or 2 (the first and the second output of POST).
    core : str
        "units": four units that work at once. "micro": the small core, one instruction after the
        other; tm 2, tn 4, bf16, beats of 32 bits and a port each way.
    addr_bits : int
        Bits of a byte address that memory has, 16..32: addresses wrap there. Of no effect on the
        small core, whose memory is what it is.

    Raises
    ------
    TypeError
        A parameter has the wrong type.
    ValueError
        A parameter is out of range.
    """

    tm: int = 8
    tn: int = 16
    fmt: str = "bf16"
    beat_bits: int = 64
    a_depth: int = 1024
    b_depth: int = 2048
    acc_depth: int = 1024
    max_burst: int = 64
    read_ports: int = 1
    write_ports: int = 1
    core: str = "units"
    addr_bits: int = 32

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not field.type:
                raise TypeError(f"{field.name} must be {field.type.__name__}, not {value!r}")
        if self.fmt not in FORMATS:
            raise ValueError(f"fmt must be one of {sorted(FORMATS)}, not {self.fmt!r}")
        for name, low, high in (("tn", 4, 64), ("tm", 2, self.tn), ("beat_bits", 32, 128),
                                ("a_depth", 16, 32768), ("b_depth", 16, 32768),
                                ("acc_depth", 16, 32768), ("max_burst", 1, 256)):
            value = getattr(self, name)
            if not low <= value <= high or value & (value - 1):
                raise ValueError(f"{name} must be a power of two in {low}..{high}, not {value!r}")
        if not 16 <= self.addr_bits <= 32:
            raise ValueError(f"addr_bits must be in 16..32, not {self.addr_bits!r}")
        for name, choice in (("read_ports", (1, 3)), ("write_ports", (1, 2))):
            if getattr(self, name) not in choice:
                raise ValueError(f"{name} must be {choice[0]} or {choice[1]}, "
                                 f"not {getattr(self, name)!r}")
        widest = min(4, self.tm) * self.elem_bits
        if self.beat_bits > widest:
            raise ValueError(f"beat_bits must be at most {widest} for tm={self.tm} and {self.fmt}, "
                             f"not {self.beat_bits!r}")
        if self.core not in CORES:
            raise ValueError(f"core must be one of {sorted(CORES)}, not {self.core!r}")
        if self.core == "micro":
            for name, only in (("tm", 2), ("tn", 4), ("fmt", "bf16"), ("beat_bits", 32),
                               ("read_ports", 1), ("write_ports", 1)):
                if getattr(self, name) != only:
                    raise ValueError(f"{name} must be {only!r} for core 'micro', "
                                     f"not {getattr(self, name)!r}")

    @property
    def elem_bits(self):
        """Bits of one operand."""
        return FORMATS[self.fmt][0]

    @property
    def elem_bytes(self):
        return self.elem_bits // 8

    @property
    def man_bits(self):
        """Stored mantissa bits of an operand."""
        return FORMATS[self.fmt][1]

    @property
    def frame(self):
        """Fraction bits F kept by the dot product; see docs/numerics.md, section 1."""
        return 28 if self.fmt == "fp32" else 22 - self.lane_bits

    @property
    def lane_bits(self):
        """log2(tn)."""
        return _log2(self.tn)

    @property
    def macs(self):
        """Multiply-accumulates per cycle with every multiplier of the array busy: the small core
        has those of one row."""
        return (1 if self.core == "micro" else self.tm) * self.tn

    @property
    def beat_bytes(self):
        return self.beat_bits // 8

    @property
    def beat_elems(self):
        """Operands in one beat."""
        return self.beat_bits // self.elem_bits

    @property
    def vlanes(self):
        """Lanes of the vector unit: fp32 words in one beat."""
        return self.beat_bits // 32

    @property
    def groups(self):
        """Vectors of vlanes channels in one channel block."""
        return self.tm // self.vlanes

    @property
    def name(self):
        """A short name, unique per configuration: the key of build caches."""
        return (f"{self.tm}x{self.tn}_{self.fmt}_w{self.beat_bits}_a{self.a_depth}_b{self.b_depth}"
                f"_c{self.acc_depth}_l{self.max_burst}_p{self.read_ports}{self.write_ports}"
                f"{'_micro' * (self.core == 'micro')}"
                f"{f'_m{self.addr_bits}' * (self.addr_bits != 32)}")


def check_config(config):
    """Raise TypeError unless `config` is a Config: what every parametric block does first."""
    if not isinstance(config, Config):
        raise TypeError(f"config must be a Config, not {config!r}")
