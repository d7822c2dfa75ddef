"""Microcode: the word, and an assembler for it.

A word names two registers `a` and `b` to read and one, `d`, to write; what the other fields mean is
in the enumerations. `docs/architecture.md`, section 7, has the picture.
"""

from dataclasses import dataclass
from enum import IntEnum

from gradgate.hw.control import REGISTERS

__all__ = ["Source", "Cut", "Operation", "Port", "Condition", "FIELDS", "WORD_BITS", "Value",
           "Assembler"]


class Source(IntEnum):
    """Where the second operand comes from."""

    REGISTER = 0
    MEMORY = 1  # the beat read last; the word waits for it
    ACCUMULATOR = 2  # the one read last
    STATE = 3  # number of the next word; bit 22 nonfinite, 23 overflow, 31 a start is asked for


class Cut(IntEnum):
    """What of the second operand is used: kind + 8 * part."""

    WHOLE = 0
    LOW = 1  # 16 bits
    HIGH = 1 + 8 * 2
    SIGNED_LOW = 2
    SIGNED_HIGH = 2 + 8 * 2
    BYTE0 = 3
    BYTE1 = 3 + 8 * 1
    BYTE2 = 3 + 8 * 2
    BYTE3 = 3 + 8 * 3
    NIBBLE4 = 4  # bits 19..16
    NIBBLE5 = 4 + 8 * 1
    NIBBLE6 = 4 + 8 * 2
    NIBBLE7 = 4 + 8 * 3
    # as fp32, for Operation.NUMBER only
    BF16_LOW = 5
    BF16_HIGH = 5 + 8 * 2
    FP32 = 6


class Operation(IntEnum):
    """The result, written to `d`."""

    ADD = 0
    SUB = 1
    AND = 2
    XOR = 3
    FADD = 4  # of whole registers
    FMUL = 5
    NUMBER = 6  # the second operand made canonical; of a beat it may set `nonfinite`


class Port(IntEnum):
    """What the word does besides; A and B are the operands, R is the result."""

    NONE = 0
    READ = 1  # begin to read the beat at A
    WRITE = 2  # B to memory at A
    FLUSH = 3  # wait until memory has acknowledged everything written
    BEGIN = 4  # a program starts if one is asked for: clear flags and clock
    END = 5  # it has ended, with an error unless R is 0
    OVERFLOW = 6  # set the flag
    UNIT = 7  # R is 1 << 8 * unit: that of the instruction at hand
    STARTED = 8  # events of that unit
    DONE = 9
    # the array
    BANK = 10  # R: bank of the next element
    STORE = 11  # top half of R to word A of the unit's buffer, on to the next bank
    ACCUMULATOR = 12  # read that of index A, row B
    LIMIT = 13  # R: lanes of the next rows of the tile that are not zero
    ROTATE = 14  # lane 0 in bank R
    ROW0 = 15  # a row of the tile from word A of buffer A; the next as well
    ROW1 = 16
    LANE0 = 17  # R: what lane 0 adds to addresses; lanes must be in their own banks
    LANE1 = 18
    LANE2 = 19
    LANE3 = 20
    COUNT = 21  # R: moving vectors of a run
    B_STEP = 22  # R: from address to address in it
    C_STEP = 23  # R: from accumulator to accumulator
    TAGS = 24  # R: from the addresses of moving vectors in buffer B to those of their tags in A
    MODE = 25  # R, see MicroArray; waits until all accumulators are written
    RUN = 26  # the run that begins at word A of buffer B and accumulator B


class Condition(IntEnum):
    """When the next word is the one at `target`."""

    NEVER = 0
    ALWAYS = 1
    ZERO = 2  # the result
    NONZERO = 3
    CARRY = 4  # of ADD; of SUB: A is at least B
    NO_CARRY = 5
    NEGATIVE = 6
    RETURN = 7  # always, but at the address in register `b`


FIELDS = {"a": 8, "b": 8, "d": 8, "target": 10, "source": 2, "cut": 5, "operation": 3, "port": 5,
          "condition": 3}  # bits, from the lowest on
WORD_BITS = sum(FIELDS.values())


@dataclass(frozen=True)
class Value:
    """A second operand."""

    source: Source = Source.REGISTER
    register: int = 0
    cut: Cut = Cut.WHOLE

    def __getitem__(self, cut):
        return Value(self.source, self.register, cut)


_CUTS = {(32, 0): Cut.WHOLE, (16, 0): Cut.LOW, (16, 16): Cut.HIGH,
         **{(8, 8 * k): Cut(Cut.BYTE0 + 8 * k) for k in range(4)},
         **{(4, 16 + 4 * k): Cut(Cut.NIBBLE4 + 8 * k) for k in range(4)}}


class Assembler:
    """Collects words.

    Registers that the host sees come first, at their offset / 4. `zero` is always 0, `trash` is
    where results go that nobody wants, `instruction` are the 16 words of the instruction at hand.

    Members
    -------
    memory, accumulator, state : Value
        The sources of that name.
    registers : list of int
        Initial values.
    """

    memory = Value(Source.MEMORY)
    accumulator = Value(Source.ACCUMULATOR)
    state = Value(Source.STATE)

    def __init__(self):
        self.registers = [0] * (max(REGISTERS.values()) // 4 + 2)
        self._words, self._labels, self._constants = [], {}, {}
        self._scratch, self._scratch_used = [], 0
        self.zero, self.trash = self.constant(0), self.register()
        self.instruction = [self.register() for _ in range(16)]

    def register(self, init=0):
        """A register of its own."""
        self.registers.append(init)
        return Value(register=len(self.registers) - 1)

    def host(self, name):
        """The register that the host knows by that name."""
        return Value(register=REGISTERS[name] // 4)

    def constant(self, value):
        """A register that holds `value` (32 bits), the same one for the same value."""
        value &= 0xffffffff
        if value not in self._constants:
            self._constants[value] = self.register(value)
        return self._constants[value]

    def scratch(self, names):
        """Registers for as long as an instruction is executed, one per word of `names`."""
        for _ in names.split():
            if self._scratch_used == len(self._scratch):
                self._scratch.append(self.register())
            self._scratch_used += 1
        return self._scratch[self._scratch_used - len(names.split()):self._scratch_used]

    def release(self):
        """Scratch registers may be handed out again: those so far belong to another unit."""
        self._scratch_used = 0

    def fields(self, layout):
        """Name -> Value of the fields of an instruction, flags apart."""
        return {name: self.instruction[f.word][_CUTS[f.width, f.lo] if not f.signed or f.width == 32
                                               else Cut.SIGNED_HIGH if f.lo else Cut.SIGNED_LOW]
                for name, f in layout.items() if (f.width, f.lo) in _CUTS}

    def label(self, name):
        """The next word is at `name`."""
        if name in self._labels:
            raise ValueError(f"two labels {name!r}")
        self._labels[name] = len(self._words)

    def _emit(self, operation, d, a, b, port=Port.NONE, when=Condition.NEVER, to=None):
        d, a = d or self.trash, a or self.zero
        if a.source or a.cut:
            raise ValueError(f"the first operand must be a register, not {a!r}")
        if to is not None and when == Condition.NEVER:
            when = Condition.ALWAYS
        self._words.append((to, {
            "a": a.register, "b": b.register, "d": d.register, "source": b.source, "cut": b.cut,
            "operation": operation, "port": port, "condition": when}))

    def add(self, d, a, b, **more):
        """d = a + b. `port`: a Port; `when`: a Condition, ALWAYS where only `to`, a label, is."""
        self._emit(Operation.ADD, d, a, b, **more)

    def sub(self, d, a, b, **more):
        self._emit(Operation.SUB, d, a, b, **more)

    def both(self, d, a, b, **more):
        """d = a AND b."""
        self._emit(Operation.AND, d, a, b, **more)

    def xor(self, d, a, b, **more):
        self._emit(Operation.XOR, d, a, b, **more)

    def fadd(self, d, a, b, **more):
        self._emit(Operation.FADD, d, a, b, **more)

    def fmul(self, d, a, b, **more):
        self._emit(Operation.FMUL, d, a, b, **more)

    def number(self, d, b, **more):
        """d = b, canonical."""
        self._emit(Operation.NUMBER, d, None, b, **more)

    def store(self, address, b, **more):
        """The canonical operand b to the word `address` of the buffer, on to the next bank."""
        self._emit(Operation.NUMBER, None, address, b if b.cut else b[Cut.FP32], port=Port.STORE,
                   **more)

    def move(self, d, b, **more):
        self._emit(Operation.ADD, d, None, b, **more)

    def count_down(self, register, to):
        """One less; to the label `to` unless it is 0 now."""
        self.sub(register, register, self.constant(1), when=Condition.NONZERO, to=to)

    def unless(self, flag, to):
        """To the label `to` unless `flag`, a Field of one bit of word 0, is set."""
        self.both(None, self.instruction[0], self.constant(1 << flag.lo), when=Condition.ZERO,
                  to=to)

    def jump(self, to):
        self.move(None, self.zero, to=to)

    def call(self, link, to):
        """To the subroutine at `to`, which ends with `ret(link)`."""
        self.move(link, self.state, to=to)

    def ret(self, link):
        self.move(None, link, when=Condition.RETURN)

    def words(self):
        """The program as integers of WORD_BITS bits.

        Raises KeyError for a label that there is not, ValueError for a field that does not fit.
        """
        words = []
        for number, (to, fields) in enumerate(self._words):
            fields["target"] = 0 if to is None else self._labels[to]
            word, at = 0, 0
            for name, width in FIELDS.items():
                if fields[name] >> width:
                    raise ValueError(f"{name} of word {number} is {fields[name]}, which takes "
                                     f"more than {width} bits")
                word |= fields[name] << at
                at += width
            words.append(word)
        return words
