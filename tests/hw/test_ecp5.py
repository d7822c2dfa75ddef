# amaranth: UnusedElaboratable=no
"""The top level on its platform: which pins there are, and what stands before them."""

import re

import pytest
from gradgate.hw.config import Config
from gradgate.hw.ecp5 import SDRAMTop
from gradgate.hw.link_format import Identity

ulx3s = pytest.importorskip("amaranth_boards.ulx3s")

IDENTITY = Identity(
    board="x", config=Config(tm=2, tn=4, beat_bits=32, a_depth=16, b_depth=16, acc_depth=16),
    memory_size=32 << 20, clock_hz=80_000_000)


@pytest.fixture(scope="module")
def files():
    top = SDRAMTop(IDENTITY, [(0, 1, 0)], degrees=63, baud=3_000_000,
                   lights=lambda platform: [platform.request("led", n, dir="-") for n in (4, 5)])
    return ulx3s.ULX3S_85F_Platform().prepare(top, emit_src=False).files


def module(files, name):
    """Text of a module right below the top."""
    pattern = rf"^module \\top\.{name}(?:\$\d+)?\n(.*?)^end$"
    return re.search(pattern, files["top.il"], re.M | re.S)[1]


def cell(text, kind):
    """Connections of the only cell of this kind."""
    found, = re.findall(rf"cell {re.escape(kind)} \S+\n(.*?)\n  end", text, re.S)
    return dict(re.findall(r"connect \\(\w+) (\S+)", found))


def test_pins(files):
    places = dict(re.findall(r'LOCATE COMP "(\S+)" SITE "(\w+)"', files["top.lpf"]))
    assert places["clk25_0__io"] == "G2"
    assert places["uart_0__rx__io"] == "M1" and places["uart_0__tx__io"] == "L4"
    assert {name: place for name, place in places.items() if "led" in name} == {
        "led_4__io": "D1", "led_5__io": "E2"}
    assert sum(name.startswith("sdram_0__") for name in places) == 1 + 1 + 4 + 2 + 13 + 16 + 2


def test_controls_of_the_memory_are_low_active_already(files):
    for name in ("cs_n", "ras_n", "cas_n", "we_n", "cke", "a", "ba", "dm"):
        assert not re.search(r"connect \\B \d+'0*1", module(files, name))


def test_clock_of_the_memory_rises_with_that_of_the_pll(files):
    text = module(files, "clk")
    pads = cell(text, r"\ODDRX1F")
    levels = dict(zip(re.findall(r"connect \\Y (\S+)", text),
                      re.findall(r"connect \\A 1'(\d)", text), strict=True))
    assert (levels[pads["D0"]], levels[pads["D1"]]) == ("1", "0")


def test_the_clock_passes_when_the_pll_has_locked(files):
    """And nothing has a reset, which would be the longest wire."""
    text = files["top.il"]
    top = re.search(r"^module \\top\n(.*?)^end$", text, re.M | re.S)[1]
    lock, gate = cell(module(files, "pll"), r"\EHXPLLL")["LOCK"], cell(top, r"\DCCA")
    assert lock == r"\locked" and gate["CE"] == r"\steady"
    assert gate["CLKI"] != gate["CLKO"] == r"\clk"
    assert not re.search(r"^  wire .*\\rst$", module(files, "soc"), re.M)


@pytest.mark.parametrize("baud, divisor", [(3_000_000, 27), (115_200, 694)])
def test_rate_of_the_line(baud, divisor):
    top = SDRAMTop(IDENTITY, [], degrees=0, baud=baud)
    assert top.divisor == divisor
    assert abs(divisor * baud / IDENTITY.clock_hz - 1) < 0.03  # what the receiver can do
