"""AXITop in Verilator between cocotbext-axi's memory and host."""

import json
from dataclasses import asdict

import pytest
from gradgate.hw.config import Config

CONFIGS = {
    "2x4_w32": Config(tm=2, tn=4, beat_bits=32, a_depth=64, b_depth=64, acc_depth=32, max_burst=8),
    "4x8_w64": Config(tm=4, tn=8, beat_bits=64, a_depth=64, b_depth=64, acc_depth=32, read_ports=3,
                      write_ports=2),
    "4x8_fp32_w128": Config(tm=4, tn=8, fmt="fp32", beat_bits=128, a_depth=64, b_depth=64,
                            acc_depth=32, max_burst=1, read_ports=3),
}
SLOW = {"4x8_w64", "4x8_fp32_w128"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW
                                               else []) for name in CONFIGS])
def test_axitop(name, tmp_path):
    pytest.importorskip("cocotb")
    from gradgate.hw import top
    from gradgate.sim import cocotb_run

    missing = cocotb_run.missing_tools()
    if missing:
        pytest.skip(f"cocotb builds its simulator with {', '.join(missing)}, not on this machine")
    config = CONFIGS[name]
    cocotb_run.build(top.verilog(config), tmp_path, public=[("AXITop.control", "cycles")])
    cocotb_run.simulate("tests.cocotb.bench", tmp_path, seed=1,
                        environment={"GRADGATE_CONFIG": json.dumps(asdict(config))})
