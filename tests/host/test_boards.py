"""Board profiles and the configuration object behind them."""

import pytest
from gradgate.boards import BOARDS, board
from gradgate.errors import GradgateError
from gradgate.hw.config import Config


def test_every_board_is_found_by_its_name():
    for name, profile in BOARDS.items():
        assert board(name) is profile and profile.name == name
        assert profile.memory_size % profile.config.beat_bytes == 0


def test_unknown_board_lists_the_known_ones():
    with pytest.raises(GradgateError, match="no board 'ulx4s'; there are .*ulx3s-85f"):
        board("ulx4s")


def test_build_names_are_unique():
    configs = [b.config for b in BOARDS.values()] + [Config(tm=4), Config(acc_depth=64)]
    assert len({c.name for c in configs}) == len(configs)


@pytest.mark.parametrize("options, message", [
    ({"tm": 3}, "tm must be a power of two in 2..16, not 3"),
    ({"tm": 32}, "tm must be a power of two in 2..16, not 32"),
    ({"tn": 128}, "tn must be a power of two in 4..64, not 128"),
    ({"fmt": "fp8"}, "fmt must be one of \\['bf16', 'fp32'\\], not 'fp8'"),
    ({"beat_bits": 128}, "beat_bits must be at most 64 for tm=8 and bf16, not 128"),
    ({"acc_depth": 0}, "acc_depth must be a power of two in 16..32768, not 0"),
])
def test_values_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)


def test_wrong_types():
    with pytest.raises(TypeError, match="tm must be int, not 8.0"):
        Config(tm=8.0)
    with pytest.raises(TypeError, match="fmt must be str, not None"):
        Config(fmt=None)
