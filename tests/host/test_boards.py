"""Board profiles, board files, and the objects behind them."""

import re
import textwrap
from fractions import Fraction
from pathlib import Path

import gradgate.boards
import gradgate.hw.boards
import pytest
from gradgate.boards import BOARDS, Board, MemoryTiming, board, module
from gradgate.errors import GradgateError
from gradgate.hw.config import Config

EXAMPLE = textwrap.dedent(re.search(r"\n\n(    name = .*)", gradgate.boards.__doc__, re.S)[1])
FOLDER = Path(gradgate.hw.boards.__file__).parent


def test_every_board_is_found_by_its_name():
    for name, profile in BOARDS.items():
        assert board(name) is profile and profile.name == name


@pytest.mark.parametrize("name", ["ulx4s", "ulx4s.tom"])
def test_unknown_board_lists_the_known_ones(name):
    with pytest.raises(GradgateError, match=f"no board '{name}'; there are .*ulx3s-85f.*toml"):
        board(name)


def test_build_names_are_unique():
    configs = [b.config for b in BOARDS.values()] + [
        Config(tm=4), Config(acc_depth=64), Config(addr_bits=25)]
    assert len({c.name for c in configs}) == len(configs)


def test_names_tell_addresses_that_are_not_of_32_bits():
    assert Config(addr_bits=25).name == f"{Config().name}_m25"
    assert Config(addr_bits=32) == Config() and "_m" not in Config().name


def test_addresses_reach_all_of_the_memory_and_no_further():
    for name in ("ulx3s-85f", "ecpix5-85f", "zcu102"):
        assert board(name).memory_size == 1 << board(name).config.addr_bits


def test_peak_is_that_of_the_multipliers_of_the_array():
    assert board("ulx3s-85f").peak_macs == 8 * 16 * 80e6
    assert board("ulx3s-85f").config.macs == 8 * 16
    assert board("icebreaker").config.macs == 4  # one row takes the moving vectors of two
    assert board("icebreaker").peak_macs == 4 * 18e6


def test_zcu102_needs_no_more_memory_blocks_than_ef_train():
    """Banks of 32-bit words in blocks of 1024 x 36 bits, against the 672 of EF-Train."""
    c = board("zcu102").config
    assert c.elem_bits == 32

    def blocks(banks, depth):
        return banks * -(-depth // 1024)

    total = blocks(c.tn, c.a_depth) + blocks(c.tn, c.b_depth) + blocks(2 * c.tm, c.acc_depth)
    print(f"zcu102: {total} BRAM36 of tile memory")
    assert total <= 672


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def test_documented_example(tmp_path):
    assert board(written(tmp_path, EXAMPLE)) == Board(
        name="mine",
        description="two banks of SDRAM on a board of mine",
        memory_size=64 << 20,
        clock_hz=75e6,
        config=Config(tm=8, tn=16, a_depth=1024, b_depth=2048, acc_depth=1024, addr_bits=26),
        timing=MemoryTiming(latency=12, beat_cycles=2.0, shared=True, row_bytes=2048,
                            row_cycles=8, refresh_interval=585, refresh_cycles=12),
    )
    mentioned = set(re.findall(r"^(\w+) =", EXAMPLE, re.M))
    for kind in (Board, Config, MemoryTiming):
        assert set(kind.__dataclass_fields__) <= mentioned | {"config", "timing"}


def test_defaults_may_be_left_out(tmp_path):
    path = written(tmp_path, 'name = "a"\ndescription = ""\nmemory_size = 64\nclock_hz = 1\n'
                             "[config]\ntm = 4\n[timing]\n")
    assert board(path) == Board(name="a", description="", memory_size=64, clock_hz=1,
                                config=Config(tm=4), timing=MemoryTiming())


@pytest.mark.parametrize("old, new, message", [
    ("tm = 8", "tm = 3", "config.tm must be a power of two in 2..16, not 3"),
    ("tm = 8", "tm = 8.0", "config.tm must be int, not 8.0"),
    ("tm = 8", "rows = 8", "unknown key config.rows; remove it, or use one of tm, tn, fmt"),
    ("latency = 12", "latency = 0", "timing.latency must be in 1..65535, not 0"),
    ("shared = true", "shared = 1", "timing.shared must be bool, not 1"),
    ("shared = true", "bus = 1", "unknown key timing.bus; remove it, or use one of latency"),
    ("clock_hz", "clock", "unknown key clock; remove it, or use one of name, description"),
    ("clock_hz = 75e6", "", "the key clock_hz is missing: add it"),
    ("clock_hz = 75e6", "clock_hz = '75 MHz'", "clock_hz must be a number, not '75 MHz'"),
    ("clock_hz = 75e6", "clock_hz = inf", "clock_hz must be greater than 0, not inf"),
    ("[timing]", "[config.timing]", "unknown key config.timing; remove it"),
    ("[timing]", "[[timing]]", "timing must be a table: begin it with [timing]"),
    ("= 0x4000000", "= 100", "memory_size must be a multiple of the beat, 8 bytes, not 100"),
    ("= 0x4000000", "= 0x4_0000_0000", "memory_size must be in 1..4294967296, not 17179869184"),
    ("addr_bits = 26", "addr_bits = 25",
     "memory_size must be at most 33554432 as config.addr_bits is 25, not 67108864"),
    ("addr_bits = 26", "addr_bits = 33", "config.addr_bits must be in 16..32, not 33"),
    ('"mine"', "7", "name must be str, not 7"),
    ("tn = 16", "tn =", "not a TOML file: Invalid value"),
])
def test_mistakes_in_board_files(tmp_path, old, new, message):
    assert EXAMPLE.count(old) == 1
    path = written(tmp_path, EXAMPLE.replace(old, new))
    with pytest.raises(GradgateError, match=f"^{re.escape(f'{path}: {message}')}"):
        board(path)


def test_missing_table_and_missing_file(tmp_path):
    path = written(tmp_path, EXAMPLE[:EXAMPLE.index("[timing]")])
    with pytest.raises(GradgateError, match=r"mine.toml: the table \[timing\] is missing: add it"):
        board(path)
    with pytest.raises(GradgateError, match="none.toml: cannot be read: No such file"):
        board(str(tmp_path / "none.toml"))


@pytest.mark.parametrize("wrong, message", [
    ({"latency": 0}, "latency must be in 1..65535, not 0"),
    ({"latency": 1.0}, "latency must be int, not 1.0"),
    ({"beat_cycles": 0.5}, "beat_cycles must be in 1..1000, not 0.5"),
    ({"beat_cycles": float("nan")}, "beat_cycles must be in 1..1000, not nan"),
    ({"beat_cycles": "1"}, "beat_cycles must be a number, not '1'"),
    ({"shared": None}, "shared must be bool, not None"),
    ({"stall": 1.0}, "stall must be at least 0 and less than 1, not 1.0"),
    ({"stall": -0.1}, "stall must be at least 0 and less than 1, not -0.1"),
    ({"outstanding": 0}, "outstanding must be in 1..1024, not 0"),
    ({"row_bytes": 1000}, "row_bytes must be 0 or a power of two, not 1000"),
    ({"row_bytes": -1}, "row_bytes must be in 0..2147483648, not -1"),
    ({"row_cycles": 1001}, "row_cycles must be in 0..1000, not 1001"),
    ({"refresh_interval": -1}, "refresh_interval must be in 0..4294967295, not -1"),
    ({"refresh_cycles": 1}, "refresh_cycles must be in 0..0, not 1"),
    ({"refresh_interval": 9, "refresh_cycles": 9}, "refresh_cycles must be in 0..8, not 9"),
])
def test_timing_is_validated(wrong, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        MemoryTiming(**wrong)
    MemoryTiming(beat_cycles=Fraction(7, 3), refresh_interval=10, refresh_cycles=9)


@pytest.mark.parametrize("options, message", [
    ({"tm": 3}, "tm must be a power of two in 2..16, not 3"),
    ({"tm": 32}, "tm must be a power of two in 2..16, not 32"),
    ({"tn": 128}, "tn must be a power of two in 4..64, not 128"),
    ({"fmt": "fp8"}, "fmt must be one of \\['bf16', 'fp32'\\], not 'fp8'"),
    ({"beat_bits": 128}, "beat_bits must be at most 64 for tm=8 and bf16, not 128"),
    ({"acc_depth": 0}, "acc_depth must be a power of two in 16..32768, not 0"),
    ({"read_ports": 2}, "read_ports must be 1 or 3, not 2"),
    ({"write_ports": 3}, "write_ports must be 1 or 2, not 3"),
    ({"addr_bits": 15}, "addr_bits must be in 16..32, not 15"),
    ({"addr_bits": 33}, "addr_bits must be in 16..32, not 33"),
])
def test_values_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)


def test_wrong_types():
    with pytest.raises(TypeError, match="tm must be int, not 8.0"):
        Config(tm=8.0)
    with pytest.raises(TypeError, match="fmt must be str, not None"):
        Config(fmt=None)


def test_files_of_boards():
    assert set(BOARDS) == {file.stem.replace("_", "-") for file in FOLDER.glob("[a-z]*.py")
                           if "BOARD = " in file.read_text()}
    for name in BOARDS:
        assert module(name).BOARD is board(name)
    with pytest.raises(GradgateError, match="no board 'mine.toml'; there are .*icebreaker, "):
        module("mine.toml")
