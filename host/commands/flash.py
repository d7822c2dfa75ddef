"""`gradgate flash`: a bitstream onto its board."""

import hashlib
import shutil
import subprocess

from .. import boards, build
from ..errors import GradgateError
from .options import add_bitstreams

__all__ = ["HELP", "DESCRIPTION", "DEVICE", "arguments", "run"]

HELP = "load the bitstream of a board onto it"
DEVICE = None
DESCRIPTION = """\
Load the bitstream that `gradgate build` has made onto the board at USB, with openFPGALoader, which
has to be installed (https://trabucayre.github.io/openFPGALoader). It is lost without power, unless
--keep puts it into the board's flash memory. Then: gradgate selftest --device
"serial://PORT?board=BOARD"\
"""

TOOL = "openFPGALoader"


def arguments(parser):
    """Add the options of this command."""
    parser.add_argument(
        "board", metavar="BOARD", help=f"what is there: {', '.join(build.buildable())}"
    )
    parser.add_argument(
        "--keep", action="store_true", help="write the flash memory: it survives loss of power"
    )
    add_bitstreams(parser)


def run(args, console):
    """Load; returns (what was loaded, exit status)."""
    module = boards.module(args.board)
    folder = args.out / args.board
    report = build.report(folder)
    if report is None:
        raise GradgateError(f"no bitstream in {folder}; make it with: gradgate build {args.board}")
    made = report["bitstream"]
    file = folder / made["file"]
    if hashlib.sha256(file.read_bytes()).hexdigest() != made["sha256"]:
        raise GradgateError(f"{file} is not the bitstream that {folder / build.REPORT} is about")
    if shutil.which(TOOL) is None:
        raise GradgateError(f"no {TOOL}: https://trabucayre.github.io/openFPGALoader")
    command = [TOOL, "--board", module.LOADER, *["--write-flash"] * args.keep, str(file)]
    console.print(" ".join(command))
    status = subprocess.run(command).returncode
    if status:
        raise GradgateError(f"{TOOL} failed with exit status {status}")
    return {"file": str(file), "sha256": made["sha256"], "kept": args.keep}, 0
