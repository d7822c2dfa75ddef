"""LiteDRAM as Verilog: the controller of a board's SDRAM, and the writes that wake the chip up."""

import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

from gradgate.sim import toolchain

from .errors import GradgateError

__all__ = ["Controller", "available", "controller", "init_writes"]

NAME = "litedram_core"
PORT = "native_0"
PACKAGES = ("litedram", "litex", "migen")  # what the Verilog depends on

# LiteDRAM rounds the time between refreshes up to whole cycles, which makes too few at most clocks.
# Its banks and its multiplexer look at `valid` and `last` of the refresher in the same cycle, its
# slowest path: here both come from registers, a cycle later and together, as they must
_GENERATOR = """
import math
from litedram import gen, modules
from litedram.core.refresher import Refresher
from litex.soc.interconnect import stream

def cycles(module, ns, margin=True):
    exact = (ns + module.margin * margin) * module.clk_freq / 1e9
    return math.ceil(exact) if margin else math.floor(exact)

def registered(self, *args, make=Refresher.__init__, **options):
    make(self, *args, **options)
    early, self.cmd = self.cmd, stream.Endpoint(self.cmd.description)
    self.comb += early.connect(self.cmd, omit={"valid", "last"})
    self.sync += [self.cmd.valid.eq(early.valid), self.cmd.last.eq(early.last)]

modules.SDRAMModule.ns_to_cycles = cycles
Refresher.__init__ = registered
gen.main()
"""

POWER_UP_SECONDS = 200e-6  # no command earlier: the most that a data sheet of such a chip asks for


@dataclass(frozen=True)
class Controller:
    """A generated controller.

    Parameters
    ----------
    verilog : str
        The module `litedram_core`, without comments, so that it is the same every time.
    init : tuple of (int, int, int)
        What to write to its Wishbone port, in order: address of the 32-bit word, value, and clock
        cycles to wait after it. The last one lets the user port answer.
    """

    verilog: str
    init: tuple


def available():
    """Whether the packages that generate controllers are installed."""
    return all(importlib.util.find_spec(name) for name in PACKAGES)


def controller(clock_hz, *, module="MT48LC16M16", chips=2, device="LFE5U-85F-6BG381C"):
    """The controller of an SDR SDRAM in the clock domain of the gateware: a Controller.

    It has one native port, `native_0`, as wide as the memory. Takes a second, or none if it is in
    the cache.

    Parameters
    ----------
    clock_hz : float
        Clock of the gateware and of the memory.
    module : str
        LiteDRAM's name of the memory: geometry and times.
    chips : int
        Bytes of the data bus.
    device : str
        An ECP5, with package and speed, whose cells drive the pins.

    Raises
    ------
    GradgateError
        LiteDRAM is not installed, or it failed; the message holds what it printed.
    """
    if not available():
        raise GradgateError("no LiteDRAM: pip install 'gradgate[boards]'")
    settings = {
        "cpu": "None",
        "device": device,
        "memtype": "SDR",
        "sdram_module": module,
        "sdram_module_nb": chips,
        "sdram_rank_nb": 1,
        "sdram_phy": "GENSDRPHY",
        "input_clk_freq": clock_hz,
        "sys_clk_freq": clock_hz,
        "init_clk_freq": clock_hz,
        # rows closed with their last word would save 0.1 % of a step of the digits; to know which
        # word that is takes long
        "with_auto_precharge": False,
        "user_ports": {PORT: {"type": "native"}},
    }
    text = json.dumps(settings)
    versions = [importlib.metadata.version(name) for name in PACKAGES]
    key = hashlib.sha256("\0".join([_GENERATOR, text, *versions]).encode()).hexdigest()[:16]
    folder = toolchain.cache_dir() / f"{NAME}_{key}"
    if not folder.exists():
        _generate(folder, text)
    build = folder / "build"
    verilog = _plain((build / "gateware" / f"{NAME}.v").read_text())
    header = (build / "software" / "include" / "generated" / "sdram_phy.h").read_text()
    registers = (build / "csr.csv").read_text()
    return Controller(verilog, init_writes(header, registers, clock_hz))


def init_writes(header, registers, clock_hz):
    """Controller.init from the files that LiteDRAM writes for a processor.

    Parameters
    ----------
    header : str
        sdram_phy.h: constants, and the function init_sequence().
    registers : str
        csr.csv: byte addresses of the registers.
    clock_hz : float
    """
    address = {
        name: int(place, 16) >> 2
        for name, place in re.findall(r"^csr_register,(\w+),(0x\w+),", registers, re.M)
    }
    constants = {
        name: int(value, 16)
        for name, value in re.findall(r"^#define (DFII_\w+) (0x\w+)$", header, re.M)
    }

    def value(text):
        total = 0
        for term in text.split("|"):
            total |= constants[term] if term in constants else int(term, 0)
        return total

    writes = []
    body = header[header.index("init_sequence(void)") :]
    for function, argument in re.findall(r"^\s*(\w+)\((.+)\);$", body, re.M):
        if function == "cdelay":
            writes[-1][2] = int(argument)
        elif function == "command_p0":
            writes.append([address["sdram_dfii_pi0_command"], value(argument), 0])
            writes.append([address["sdram_dfii_pi0_command_issue"], 1, 0])
        else:
            name = re.fullmatch(r"(\w+)_write", function)[1]
            writes.append([address[name], value(argument), 0])
    # a processor is slower than its cycles; the first wait of all is the one after power-up
    first = next(write for write in writes if write[2])
    first[2] = max(first[2], math.ceil(POWER_UP_SECONDS * clock_hz))
    writes.append([address["sdram_dfii_control"], constants["DFII_CONTROL_SEL"], 0])
    writes.append([address["ddrctrl_init_done"], 1, 0])
    return tuple(map(tuple, writes))


def _generate(folder, settings):
    """Let LiteDRAM write its files below `folder`."""
    scratch = folder.with_name(f"{folder.name}.{os.getpid()}")
    scratch.mkdir(parents=True)
    (scratch / "settings.yml").write_text(settings)
    command = [sys.executable, "-c", _GENERATOR, "settings.yml", "--no-compile-software"]
    result = subprocess.run(
        [*command, "--name", NAME],
        cwd=scratch,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if result.returncode:
        shutil.rmtree(scratch)
        raise GradgateError(f"LiteDRAM failed:\n{result.stdout}")
    try:
        scratch.rename(folder)
    except OSError:  # another process was faster
        shutil.rmtree(scratch)
        if not folder.exists():
            raise


def _plain(verilog):
    """Without comments, which hold the date and an order that changes; data pins both ways."""
    verilog = re.sub(r"/\*.*?\*/", "", verilog, flags=re.S)
    verilog = re.sub(r"//.*", "", verilog)
    verilog = re.sub(r"[ \t]+$", "", verilog, flags=re.M)
    verilog = re.sub(r"\n{3,}", "\n\n", verilog)
    # it says `input`, but drives them too
    verilog, count = re.subn(r"^( *)input +wire( +\S+ sdram_dq,)$", r"\1inout wire\2", verilog,
                             flags=re.M)  # fmt: skip
    if count != 1:
        raise GradgateError("LiteDRAM's Verilog has no data pins as expected")
    notice = "// generated by LiteDRAM (c) Enjoy-Digital and others, BSD-2-Clause\n"
    return notice + verilog.lstrip()
