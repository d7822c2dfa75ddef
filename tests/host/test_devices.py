"""Devices by name."""

import gradgate
import pytest
from gradgate.boards import MemoryTiming
from gradgate.hw.config import Config
from gradgate.sim.model import ModelDevice


def test_boards_in_every_spelling():
    board = gradgate.board("tiny")
    for spelling in ("tiny", board):
        with gradgate.device("model", board=spelling) as device:
            assert isinstance(device, ModelDevice)
            assert (device.config, device.memory_size) == (board.config, board.memory_size)
            assert device.timing == board.timing != MemoryTiming()
    config = Config(tm=4, tn=8, fmt="fp32", beat_bits=64)
    assert gradgate.device("model", board=config, memory_size=4096).memory_size == 4096
    for bits, size in ((32, 64 << 20), (16, 1 << 16)):
        config = Config(tm=4, tn=8, addr_bits=bits)
        assert gradgate.device("model", board=config).memory_size == size


def test_timing_is_an_option():
    timing = MemoryTiming(latency=99)
    assert gradgate.device("model", board="tiny", timing=timing).timing == timing
    assert gradgate.device("model", board=Config(tm=4), memory_size=64).timing == MemoryTiming()


@pytest.mark.parametrize(("arguments", "options", "error", "match"), [
    (("fpga",), {}, gradgate.GradgateError, "no device 'fpga'; there are 'model' and 'rtl', and"),
    (("model", "nexys"), {}, gradgate.GradgateError, "no board 'nexys'; there are .*ulx3s-85f"),
    (("model", "none.toml"), {}, gradgate.GradgateError, "none.toml: cannot be read"),
    (("model", 7), {}, TypeError, "board must be"),
    (("model",), {"seed": 1}, TypeError, "'model' has no option seed"),
])
def test_mistakes(arguments, options, error, match):
    with pytest.raises(error, match=match):
        gradgate.device(*arguments, **options)
