"""What both ends of the link agree on; docs/link.md says what the numbers mean."""

import struct
from dataclasses import dataclass, fields

from gradgate.hw.config import CORES, FORMATS, Config, check_config

__all__ = ["VERSION", "WRITE", "REGISTERS", "FRESH", "HEADER", "CHECK", "BUFFER", "PAYLOAD",
           "IDENTITY", "Identity"]

VERSION = 1

WRITE, REGISTERS = 1, 2  # of the operation byte of a request
FRESH = 0x80  # of the operation byte of a response: nobody has opened the link since reset
HEADER = 7  # bytes of a request before its payload: operation, sequence number, address, words
CHECK = 4  # bytes of the CRC
BUFFER = 512  # bytes of checked requests that the gateware keeps
PAYLOAD = 256  # most bytes written or read by one request
IDENTITY = 0x100  # register address of the identity

_MAGIC = b"GGLK"
_HEAD = struct.Struct("<4sBBHQI8s20s")
_NAMES = {"fmt": tuple(FORMATS), "core": CORES}  # of what is not a number; packed by its index


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a bitstream was built from, as it tells its host.

    Parameters
    ----------
    board : str
        Name of the board, 1..20 ASCII characters.
    config : Config
    memory_size : int
        Bytes.
    clock_hz : int
        Clock of the gateware, less than 2^32.
    build : bytes
        8 bytes that tell one build from another: the beginning of a hash of its Verilog sources.

    Raises
    ------
    TypeError
        `config` is not a Config.
    ValueError
        `board` or `build` has the wrong length.
    """

    board: str
    config: Config
    memory_size: int
    clock_hz: int
    build: bytes = bytes(8)

    def __post_init__(self):
        check_config(self.config)
        if not (self.board.isascii() and 1 <= len(self.board) <= 20):
            raise ValueError(f"board must be 1 to 20 ASCII characters, not {self.board!r}")
        if len(self.build) != 8:
            raise ValueError(f"build must be 8 bytes, not {self.build!r}")

    def pack(self):
        """As bytes, a multiple of four."""
        values = {field.name: getattr(self.config, field.name) for field in fields(Config)}
        numbers = [_NAMES[name].index(value) if name in _NAMES else int(value)
                   for name, value in values.items()]
        data = _HEAD.pack(_MAGIC, VERSION, len(numbers), PAYLOAD, self.memory_size, self.clock_hz,
                          self.build, self.board.encode())
        data += struct.pack(f"<{len(numbers)}H", *numbers)
        return data + bytes(-len(data) % 4)

    @classmethod
    def size(cls):
        """Length of what `pack` returns."""
        return -(-(_HEAD.size + 2 * len(fields(Config))) // 4) * 4

    @classmethod
    def unpack(cls, data):
        """The Identity of which `pack` has made `data`.

        Raises ValueError, with the reason, if it is not one or one of another version.
        """
        (magic, version, count, payload, memory_size, clock_hz, build,
         board) = _HEAD.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError(f"it begins with {magic!r}, not {_MAGIC!r}")
        known = fields(Config)
        for name, found, wanted in (("version of the link", version, VERSION),
                                    ("number of parameters", count, len(known)),
                                    ("payload of a frame", payload, PAYLOAD)):
            if found != wanted:
                raise ValueError(f"its {name} is {found}, not {wanted}")
        numbers = struct.unpack_from(f"<{count}H", data, _HEAD.size)
        values = {}
        for field, number in zip(known, numbers, strict=True):
            values[field.name] = (_NAMES[field.name][number] if field.name in _NAMES
                                  else field.type(number))
        return cls(board=board.rstrip(b"\0").decode(), config=Config(**values),
                   memory_size=memory_size, clock_hz=clock_hz, build=build)

    def differences(self, other):
        """In which parameters the two differ, `build` apart: a list of (name, mine, its)."""
        def flat(identity):
            config = identity.config
            return {name: getattr(identity, name) for name in ("board", "memory_size", "clock_hz")
                    } | {field.name: getattr(config, field.name) for field in fields(Config)}
        mine, its = flat(self), flat(other)
        return [(name, mine[name], its[name]) for name in mine if mine[name] != its[name]]
