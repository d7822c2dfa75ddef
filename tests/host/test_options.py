"""Options that commands share: their defaults, what they stand for, and numbers cut short."""

import sys
from argparse import ArgumentParser, Namespace

import pytest
import torch
from gradgate.boards import board
from gradgate.cli import build_parser
from gradgate.commands.options import (
    add_batch,
    add_memory,
    add_net,
    board_of,
    check_counts,
    net_of,
    short,
)
from gradgate.errors import GradgateError
from torch import nn


def parse(*words):
    parser = ArgumentParser()
    parser.add_argument("--board", default="tiny")
    add_net(parser, "try")
    add_batch(parser)
    add_memory(parser)
    return parser.parse_args(words)


def test_defaults_are_the_same_unless_there_is_a_reason():
    commands = {name: build_parser().parse_args([name]) for name in ("train", "plan", "bench")}
    assert [args.batch for args in commands.values()] == [48, 48, 4]
    assert commands["plan"].net == commands["bench"].net == "digits"


def test_a_default_of_its_own_is_explained():
    parser = ArgumentParser()
    add_batch(parser, 3, "because of this")
    assert parser.parse_args([]).batch == 3
    assert "images per step (default: 3, because of this)" in parser.format_help()


def test_counts_start_at_one():
    check_counts(Namespace(batch=1, epochs=1), "batch", "epochs")
    with pytest.raises(GradgateError, match="^--epochs must be at least 1, not 0$"):
        check_counts(Namespace(batch=1, epochs=0), "batch", "epochs")


def test_memory_replaces_that_of_the_board():
    assert board_of(parse()) == board("tiny")
    for size in (1, 4096):
        assert board_of(parse("--memory", str(size))).memory_size == size << 20
    for size, bits in ((1, 25), (32, 25), (33, 26), (4096, 32)):
        found = board_of(parse("--board", "ulx3s-85f", "--memory", str(size)))
        assert (found.memory_size, found.config.addr_bits) == (size << 20, bits)
    for size in (0, 4097):
        with pytest.raises(GradgateError, match=f"^--memory must be 1 to 4096 MiB, not {size}$"):
            board_of(parse("--memory", str(size)))
    with pytest.raises(GradgateError, match="nowhere"):
        board_of(parse("--board", "nowhere"))


def test_a_network_of_the_working_directory(tmp_path, monkeypatch):
    """Its weights follow from the seed."""
    (tmp_path / "ours_only.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(3, 2)), (3,)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    weights = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        module, shape = net_of(parse("ours_only:make"), seed)
        assert shape == (3,) and isinstance(module[0], nn.Linear)
        weights[name] = module[0].weight
    assert torch.equal(weights["first"], weights["again"])
    assert not torch.equal(weights["first"], weights["other"])


@pytest.mark.parametrize("number, text", [
    (0, "0"), (7, "7"), (999, "999"), (999.5, "1k"), (1000, "1k"), (1769472, "1.77M"),
    (999_499, "999k"), (999_500, "1M"), (2**31, "2.15G"), (5 * 10**12, "5e+03G")])
def test_three_digits(number, text):
    assert short(number) == text
