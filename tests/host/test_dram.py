"""Generated memory controllers, and what wakes the chip up."""

import re

import pytest
from gradgate import dram
from gradgate.errors import GradgateError

HEADER = """\
#define DFII_CONTROL_SEL 0x01
#define DFII_CONTROL_CKE 0x02
#define DFII_COMMAND_CS 0x01
#define DFII_COMMAND_WE 0x02
#define DFII_COMMAND_RAS 0x08
static inline void command_p0(int cmd)
{
	sdram_dfii_pi0_command_write(cmd);
}
static inline void init_sequence(void)
{
	/* Bring CKE high */
	sdram_dfii_pi0_address_write(0x0);
	sdram_dfii_control_write(DFII_CONTROL_CKE);
	cdelay(20000);

	/* Precharge All */
	sdram_dfii_pi0_address_write(0x400);
	command_p0(DFII_COMMAND_RAS|DFII_COMMAND_WE|DFII_COMMAND_CS);
	cdelay(4);
}
"""
REGISTERS = """\
csr_base,sdram,0x00000800,,
csr_register,ddrctrl_init_done,0x00000000,1,rw
csr_register,sdram_dfii_control,0x00000800,1,rw
csr_register,sdram_dfii_pi0_command,0x00000804,1,rw
csr_register,sdram_dfii_pi0_command_issue,0x00000808,1,rw
csr_register,sdram_dfii_pi0_address,0x0000080c,1,rw
"""

installed = pytest.mark.skipif(
    not dram.available(), reason="LiteDRAM is not installed: pip install '.[boards]'"
)


@pytest.mark.parametrize("clock, wait", [(50e6, 20_000), (133e6, 26_600)])
def test_init_writes(clock, wait):
    """200 us after power-up at any clock; then the commands, the controller, the user port."""
    assert dram.init_writes(HEADER, REGISTERS, clock) == (
        (0x203, 0, 0),
        (0x200, 2, wait),
        (0x203, 0x400, 0),
        (0x201, 0b1011, 0),
        (0x202, 1, 4),
        (0x200, 1, 0),
        (0, 1, 0),
    )


@installed
def test_controller(tmp_path, monkeypatch):
    """The same text from a second run as from the first, and from the cache."""
    texts = []
    for name in ("a", "b", "b"):
        monkeypatch.setenv("GRADGATE_CACHE", str(tmp_path / name))
        texts.append(dram.controller(80e6))
    assert texts[0] == texts[1] == texts[2]
    core = texts[0]
    assert len(re.findall(r"^module (\w+)", core.verilog, re.M)) == 1
    assert "module litedram_core" in core.verilog
    assert re.search(r"^ *inout wire +\[15:0\] sdram_dq,$", core.verilog, re.M)
    assert [path.name for path in tmp_path.glob("a/*")] == [p.name for p in tmp_path.glob("b/*")]
    assert core.init[2][2] == 20_000
    assert (0x203, 0x20, 0) in core.init  # CAS latency 2, bursts of one word
    assert core.init[-1] == (0, 1, 0)


@installed
def test_another_clock_is_another_controller(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADGATE_CACHE", str(tmp_path))
    fast, slow = (dram.controller(clock).verilog for clock in (100e6, 50e6))
    assert fast != slow


@installed
@pytest.mark.parametrize("clock", [60e6, 70e6, 80e6])
def test_refreshes_are_not_too_few(clock):
    """8,192 of them in 64 ms: the timer counts down to 0 from one less than what is between two."""
    exact = clock * 64e-3 / 8192
    reload = re.search(r"timer_count1 <= \d+'d(\d+);", dram.controller(clock).verilog)
    assert exact - 1 < int(reload[1]) + 1 <= exact


@installed
def test_short_ways():
    """What banks hear of refreshes is from registers; none looks for the row of the next word."""
    verilog = dram.controller(80e6).verilog
    for name in ("valid", "last"):
        assert re.search(rf"^ *litedramcore_{name} <= litedramcore_cmd_{name};$", verilog, re.M)
    assert re.search(r"bankmachine0_auto_precharge = 1'd0;", verilog)
    assert "bankmachine0_auto_precharge <=" not in verilog


@installed
def test_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADGATE_CACHE", str(tmp_path))
    with pytest.raises(GradgateError, match="(?s)^LiteDRAM failed:.*MT49"):
        dram.controller(80e6, module="MT49")
    assert list(tmp_path.iterdir()) == []


def test_not_installed(monkeypatch):
    monkeypatch.setattr(dram, "available", lambda: False)
    with pytest.raises(GradgateError, match=r"^no LiteDRAM: pip install 'gradgate\[boards\]'$"):
        dram.controller(80e6)
