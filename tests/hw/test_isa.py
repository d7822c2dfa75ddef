"""The instruction table: fields do not overlap, and encoding is undone by decoding."""

import random

import pytest
from gradgate.hw import isa
from gradgate.hw.isa import LAYOUTS, Unit, decode, encode


@pytest.mark.parametrize("unit", list(Unit))
def test_fields_do_not_overlap(unit):
    taken = {}
    for name, field in LAYOUTS[unit].items():
        assert 0 <= field.lo and field.lo + field.width <= 32 and 0 <= field.word < isa.WORDS, name
        for bit in range(field.lo, field.lo + field.width):
            assert taken.setdefault((field.word, bit), name) == name


@pytest.mark.parametrize("unit", list(Unit))
def test_decode_undoes_encode(unit):
    rng = random.Random(int(unit))
    for _ in range(200):
        values = {name: rng.choice([*field.range, rng.randint(*field.range)])
                  for name, field in LAYOUTS[unit].items() if name != "unit"}
        words = encode(unit, **values)
        assert len(words) == isa.WORDS and all(0 <= w < 2**32 for w in words)
        assert decode(words) == values | {"unit": unit}


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match="COMPUTE.ag must be in -32768..32767, not 40000"):
        encode(Unit.COMPUTE, ag=40000)
    with pytest.raises(ValueError, match="LOAD_A.d_len must be in 0..65535, not -1"):
        encode(Unit.LOAD_A, d_len=-1)
    with pytest.raises(KeyError):
        encode(Unit.POST, d_len=1)
