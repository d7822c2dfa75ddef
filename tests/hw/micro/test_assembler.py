"""Words of microcode, registers, labels."""

import pytest
from gradgate.hw.isa import COMPUTE, LOAD, POST
from gradgate.hw.micro.assembler import (
    FIELDS,
    WORD_BITS,
    Assembler,
    Condition,
    Cut,
    Operation,
    Port,
    Source,
)


def decoded(word):
    fields = {}
    for name, width in FIELDS.items():
        fields[name] = word & ((1 << width) - 1)
        word >>= width
    assert not word
    return fields


def test_fields_of_a_word():
    asm = Assembler()
    x, y = asm.register(), asm.register()
    asm.label("here")
    asm.sub(x, y, asm.memory[Cut.BYTE3], port=Port.BANK, when=Condition.CARRY, to="there")
    asm.label("there")
    asm.jump("here")
    first, second = map(decoded, asm.words())
    assert first == {"a": y.register, "b": 0, "d": x.register, "target": 1,
                     "source": Source.MEMORY, "cut": Cut.BYTE3, "operation": Operation.SUB,
                     "port": Port.BANK, "condition": Condition.CARRY}
    assert second["target"] == 0 and second["condition"] == Condition.ALWAYS
    assert second["d"] == asm.trash.register and second["a"] == asm.zero.register
    assert sum(FIELDS.values()) == WORD_BITS


def test_registers():
    """The host's come first; a constant has one register; scratch is shared after `release`."""
    asm = Assembler()
    assert asm.host("STATUS").register == 5 and asm.host("COUNT_POST").register == 13
    assert asm.constant(7) == asm.constant(7 + (1 << 32)) != asm.constant(8)
    assert asm.registers[asm.constant(-1).register] == 0xffffffff
    first = asm.scratch("x y")
    other = asm.scratch("z")
    assert len({v.register for v in [*first, *other, *asm.instruction]}) == 19
    asm.release()
    assert asm.scratch("p q r") == first + other


@pytest.mark.parametrize("layout", [LOAD, COMPUTE, POST])
def test_fields_of_instructions(layout):
    """Every field but the flags, and the masks of word 0, is a cut of a word."""
    asm = Assembler()
    fields = asm.fields(layout)
    assert set(fields) == {n for n, f in layout.items() if f.width > 1} - {"unit", "wait", "signal"}
    for name, value in fields.items():
        assert value.register == asm.instruction[layout[name].word].register
        signed = value.cut in (Cut.SIGNED_LOW, Cut.SIGNED_HIGH)
        assert signed == (layout[name].signed and layout[name].width == 16)


def test_mistakes():
    asm = Assembler()
    with pytest.raises(ValueError, match="^the first operand must be a register, not Value"):
        asm.add(None, asm.memory, asm.zero)
    asm.label("x")
    with pytest.raises(ValueError, match="^two labels 'x'$"):
        asm.label("x")
    asm.jump("nowhere")
    with pytest.raises(KeyError, match="nowhere"):
        asm.words()
    asm = Assembler()
    for _ in range(300):
        last = asm.register()
    asm.move(last, asm.zero)
    with pytest.raises(ValueError, match="^d of word 0 is 363, which takes more than 8 bits$"):
        asm.words()
