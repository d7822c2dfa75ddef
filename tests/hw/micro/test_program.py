"""The microcode as a whole; what it does, tests/sim/test_micro.py compares with the model."""

from gradgate.hw.control import REGISTERS
from gradgate.hw.micro.assembler import FIELDS, WORD_BITS
from gradgate.hw.micro.program import FAULT, program


def test_size():
    """It fits the processor, and the RAM that a small FPGA has for it."""
    words, registers = program(0, 0)
    assert len(words) <= 768 and WORD_BITS <= 52
    assert len(registers) <= 1 << FIELDS["a"]


def test_registers_of_the_host():
    _, registers = program(0x1234, 0x5678)
    assert [registers[REGISTERS[name] // 4] for name in ("ID", "VERSION", "CONFIG0", "CONFIG1")
            ] == [0x47474154, 1, 0x1234, 0x5678]
    assert not any(registers[REGISTERS["CTRL"] // 4:REGISTERS["WRITE_BEATS"] // 4 + 2])


def test_fault():
    """Word FAULT stands by itself: the one before always goes elsewhere."""
    words, _ = program(0, 0)
    at = sum(width for name, width in list(FIELDS.items())[:-1])
    assert words[FAULT - 1] >> at == words[FAULT] >> at == 1  # Condition.ALWAYS
