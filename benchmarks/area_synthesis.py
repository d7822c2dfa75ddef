"""Synthesis of one block: what it takes of its chip, and the clock that it reaches by itself."""

import hashlib
import json
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from unittest.mock import patch

from amaranth.back import rtlil
from amaranth.hdl import Cat, ClockDomain, ClockSignal, Module, ResetInserter, Signal, Value
from amaranth.lib.wiring import In, Out
from gradgate import tools
from gradgate.errors import GradgateError
from gradgate.hw import ecp5, ice40

__all__ = ["PLACED", "measure", "netlist"]

SCRIPT = """\
{verilog}
read_rtlil top.il
{blackbox}
hierarchy -top top
{delay}
setattr -mod -set keep_hierarchy 1 top.block
{synthesis}
{single}
write_json top.json
"""
SYNTHESIS = {  # as bitstreams are made
    "ecp5": ecp5.OPTIONS["script_after_read"]
            + "\nsynth_ecp5 -top top " + ecp5.OPTIONS["synth_opts"],
    "ice40": ice40.OPTIONS["script_after_read"]
             + "\nsynth_ice40 -top top " + ice40.OPTIONS["synth_opts"],
}
FAMILIES = {"ecp5": "ecp5", "ice40": "iCE40"}  # Amaranth's names
CELLS = {"ecp5": {"multipliers": "MULT18X18D", "blocks": "DP16KD"},
         "ice40": {"multipliers": "SB_MAC16", "blocks": "SB_RAM40_4K"}}
PACK = ["nextpnr-ice40", "--up5k", "--package", "sg48", "--json", "top.json", "--pack-only",
        "--write", "packed.json", "--log", "pack.log"]
# picoseconds; 15 and 30 ns give the same
DELAY = 20_000
# speed grade, seed and a clock that nothing reaches, so that all paths count
PLACED = ["nextpnr-ecp5", "--85k", "--package", "CABGA381", "--speed", "6", "--json", "top.json",
          "--out-of-context", "--freq", "200", "--seed", "1", "--timing-allow-fail",
          "--report", "placed.json", "--log", "placed.log"]
_locks = defaultdict(Lock)  # by folder: blocks that are alike are synthesised once
_elaborate = Lock()  # classes are patched meanwhile


def netlist(block, technology):
    """RTLIL of a Block between registers: each of its inputs comes from one, each output ends in
    one, so that all its paths are paths between registers."""
    m = Module()
    component = block.component
    reset = Signal(reset_less=True)
    m.submodules.block = ResetInserter(reset)(component) if block.reset else component
    ports = list(block.pins)
    if technology == "ecp5":  # as in hw/ecp5.py
        m.domains += ClockDomain("sync", reset_less=True)
        outside = Signal(name="outside_reset")
        m.d.sync += reset.eq(outside)
        ports += [ClockSignal(), outside]
    for path, member, value in component.signature.flatten(component):
        value = Value.cast(value)
        outside = Signal(len(value), name="__".join(map(str, path)))
        m.d.sync += value.eq(outside) if member.flow == In else outside.eq(value)
        ports.append(outside)
    platform = SimpleNamespace(family=FAMILIES[technology])
    with _elaborate, ExitStack() as stack:
        for kind in set(block.without.values()):
            stack.enter_context(patch.object(kind, "elaborate", _hollow))
        # without the places of sources, which depend on where we are installed
        return rtlil.convert(m, platform=platform, ports=ports, emit_src=False)


def _hollow(component, platform):
    """A module with the ports of a component, in no time; Yosys makes a black box of it."""
    m = Module()
    ports = {In: [], Out: []}
    for _, member, value in component.signature.flatten(component):
        ports[member.flow].append(Value.cast(value))
    m.d.sync += Cat(ports[Out]).eq(Cat(ports[In]).xor())
    return m


def measure(block, technology, cache, *, mapping="area"):
    """What a Block takes.

    Synthesis maps for the delay of the longest path of what it is given, and for area besides:
    nearly all of a device for area. So a block is mapped as if it had a path as long as a device's,
    or it takes up to twice what it takes there.

    Parameters
    ----------
    block : Block
    technology : str
        "ecp5" or "ice40".
    cache : path
        Folder of results, by a hash of all that they depend on.
    mapping : str
        "area": as if in a device; "speed": as if there were nothing else, and on an ECP5 placed and
        routed too; "whole": it is a device.

    Returns
    -------
    dict
        luts, as nextpnr counts them (TRELLIS_COMB, ICESTORM_LC), ffs, multipliers, blocks; mhz if
        placed and routed.

    Raises
    ------
    GradgateError
        A program failed; the message says where its log is.
    """
    script = SCRIPT.format(
        verilog="\n".join(f"read_verilog {name}" for name in block.files),
        delay=f"scratchpad -set abc9.D {DELAY}" if mapping == "area" else "",
        blackbox="\n".join(f"blackbox top.block.{name}" for name in block.without),
        synthesis=SYNTHESIS[technology],
        # what is around the block takes no cells of an iCE40 then
        single="hierarchy -top top.block" if technology == "ice40" else "")
    files = {**block.files, "top.il": netlist(block, technology), "top.ys": script}
    timed = mapping == "speed" and technology == "ecp5"
    text = json.dumps([files, tools.versions(), timed and PLACED], sort_keys=True)
    folder = Path(cache) / hashlib.sha256(text.encode()).hexdigest()[:20]
    with _locks[folder]:
        result = folder / "result.json"
        if not result.exists():
            found = _synthesise(files, folder, technology, timed)
            result.write_text(json.dumps(found))
        return json.loads(result.read_text())


def _synthesise(files, folder, technology, timed):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    _run(["yosys", "-q", "-l", "yosys.log", "top.ys"], folder, "yosys.log")
    found = _count(folder, technology)
    if timed:
        _run(PLACED, folder, "placed.log")
        clocks = json.loads((folder / "placed.json").read_text())["fmax"]
        found["mhz"] = round(min(clock["achieved"] for clock in clocks.values()), 1)
    for name in ("top.json", "packed.json", "placed.json"):  # up to 150 MB
        (folder / name).unlink(missing_ok=True)
    return found


def _run(command, folder, log):
    try:
        tools.run(command, folder)
    except GradgateError as error:
        raise GradgateError(f"{error}\nsee {folder / log}") from None


def _count(folder, technology):
    cells = json.loads((folder / "top.json").read_text())["modules"]["top.block"]["cells"].values()
    kinds = Counter(cell["type"] for cell in cells)
    found = {name: kinds[kind] for name, kind in CELLS[technology].items()}
    if technology == "ice40":
        _run(PACK, folder, "pack.log")
        modules = json.loads((folder / "packed.json").read_text())["modules"].values()
        packed = Counter(cell["type"] for module in modules for cell in module["cells"].values())
        luts = packed["ICESTORM_LC"]
        ffs = sum(count for kind, count in kinds.items() if kind.startswith("SB_DFF"))
    else:
        luts, ffs = _combs(cells, kinds), kinds["TRELLIS_FF"]
    return {"luts": luts, "ffs": ffs, **found}


def _combs(cells, kinds):
    """TRELLIS_COMBs that nextpnr makes of a netlist for an ECP5: two of a CCU2C, six of a RAM of 16
    x 4 bits; and a CCU2C more where a chain of carries begins, where it ends, and where logic sees
    a carry on its way."""
    carries = [cell["connections"] for cell in cells if cell["type"] == "CCU2C"]
    ins = {carry["CIN"][0] for carry in carries}
    outs = {carry["COUT"][0] for carry in carries}
    seen = {bit for cell in cells for port, bits in cell["connections"].items() for bit in bits
            if bit in outs and port != "COUT" and (cell["type"], port) != ("CCU2C", "CIN")}
    begins = sum(carry["CIN"][0] not in outs for carry in carries)
    extra = begins + len(outs - ins) + len(outs & ins & seen)
    return kinds["LUT4"] + 6 * kinds["TRELLIS_DPR16X4"] + 2 * (len(carries) + extra)
