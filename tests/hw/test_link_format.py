"""What a bitstream says that it is."""

from dataclasses import fields, replace

import pytest
from gradgate.boards import BOARDS
from gradgate.hw.config import Config
from gradgate.hw.link_format import Identity

ONE = Identity(board="ulx3s-85f", config=Config(), memory_size=1 << 25, clock_hz=80_000_000,
               build=b"\1\2\3\4\5\6\7\xff")


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_there_and_back(name):
    board = BOARDS[name]
    identity = Identity(board=name, config=board.config, memory_size=board.memory_size,
                        clock_hz=int(board.clock_hz))
    data = identity.pack()
    assert len(data) == Identity.size() and len(data) % 4 == 0 and len(data) <= 128
    assert Identity.unpack(data) == identity
    assert identity.differences(identity) == []


def test_every_parameter_counts():
    others = {"tm": 4, "tn": 32, "fmt": "fp32", "beat_bits": 32, "a_depth": 16, "b_depth": 32768,
              "acc_depth": 64, "max_burst": 256, "read_ports": 3, "write_ports": 2,
              "addr_bits": 25}
    assert {*others, "core"} == {field.name for field in fields(Config)}
    for name, value in others.items():
        other = Identity(board="x", config=Config(**{name: value}), memory_size=1 << 25,
                         clock_hz=80_000_000)
        assert Identity.unpack(other.pack()) == other
        assert ONE.differences(other) == [("board", "ulx3s-85f", "x"),
                                          (name, getattr(Config(), name), value)]
    small = Config(tm=2, tn=4, beat_bits=32)
    one, other = (Identity(board="x", config=config, memory_size=4, clock_hz=1)
                  for config in (small, replace(small, core="micro")))
    assert Identity.unpack(other.pack()) == other
    assert one.differences(other) == [("core", "units", "micro")]
    other = Identity(board="ulx3s-85f", config=Config(), memory_size=64, clock_hz=1)
    assert ONE.differences(other) == [("memory_size", 1 << 25, 64), ("clock_hz", 80_000_000, 1)]


def test_every_field_of_a_config_can_be_packed():
    assert {field.type for field in fields(Config)} <= {int, bool, str}


@pytest.mark.parametrize("offset, value, message", [
    (0, ord("X"), "it begins with b'XGLK', not b'GGLK'"),
    (4, 9, "its version of the link is 9, not 1"),
    (5, 3, "its number of parameters is 3, not "),
    (6, 1, "its payload of a frame is 257, not 256")])
def test_others_are_refused(offset, value, message):
    data = bytearray(ONE.pack())
    data[offset] = value
    with pytest.raises(ValueError, match=f"^{message}"):
        Identity.unpack(data)


@pytest.mark.parametrize("wrong, error, message", [
    ({"config": None}, TypeError, "config must be a Config, not None"),
    ({"board": "x" * 21}, ValueError, "board must be 1 to 20 ASCII characters, not 'x"),
    ({"build": b"1234"}, ValueError, "build must be 8 bytes, not b'1234'")])
def test_parameters_are_checked(wrong, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Identity(**{"board": "x", "config": Config(), "memory_size": 4, "clock_hz": 1} | wrong)
