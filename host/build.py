"""From a board's design to its bitstream, and a report of what it was made of.

The work is in a folder of its own: the plan's files, what the programs print and write. Everything
that the bitstream depends on is in the plan and in `tools.versions`, so that the same sources give
the same bitstream.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import boards, tools
from .errors import GradgateError

__all__ = ["Plan", "buildable", "plan", "build", "report"]

NAME = "top"
REPORT = "report.json"
SUFFIX = {"nextpnr-ecp5": ".bit", "nextpnr-ice40": ".bin"}  # of a bitstream
ROUTED = {"nextpnr-ecp5": "--textcfg", "nextpnr-ice40": "--asc"}  # option: the routed design

# what people call the cells that nextpnr counts
CELLS = {
    "TRELLIS_COMB": "LUT",
    "TRELLIS_FF": "FF",
    "MULT18X18D": "DSP",
    "DP16KD": "block RAM",
    "ICESTORM_LC": "LUT",
    "ICESTORM_DSP": "DSP",
    "ICESTORM_RAM": "block RAM",
    "ICESTORM_SPRAM": "SPRAM",
}


@dataclass(frozen=True)
class Plan:
    """What the programs are given.

    Parameters
    ----------
    board : Board
    build : bytes
        8 bytes by which the bitstream knows its sources: Identity.build.
    files : dict of str to str
        By name.
    commands : list of list of str
        Synthesis, place and route, packing.
    target_hz : float
    """

    board: object
    build: bytes
    files: dict
    commands: list
    target_hz: float

    def hashes(self):
        """{name: SHA-256} of the files."""
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in
                sorted(self.files.items())}  # fmt: skip


def buildable():
    """Names of the boards that bitstreams can be built for."""
    return [name for name in boards.BOARDS if hasattr(boards.module(name), "design")]


def report(folder):
    """What `build` has written into a board's folder, None if it has not."""
    path = Path(folder) / REPORT
    return json.loads(path.read_text()) if path.exists() else None


def plan(name, build=None):
    """The Plan of a board. Takes what its design takes to become RTLIL, seconds; twice without
    `build`.

    Parameters
    ----------
    name : str
    build : bytes, optional
        Plan.build; without it, the beginning of a hash of all files with zeros in its place.

    Raises
    ------
    GradgateError
        There is no such board, it exists in simulation only, or packages are missing.
    """
    if not hasattr(boards.module(name), "design"):
        raise GradgateError(
            f"board {name} exists in simulation only; there are bitstreams for "
            f"{', '.join(buildable())}"
        )
    tools.versions()
    if build is None:
        blank = _prepared(name, bytes(8))
        build = hashlib.sha256("".join(blank.hashes().values()).encode()).digest()[:8]
    return _prepared(name, build)


def _prepared(name, build):
    design = boards.module(name).design(build)
    for file, text in design.files.items():
        design.platform.add_file(file, text)
    # without the places of sources, which depend on where and how we are installed
    prepared = design.platform.prepare(design.top, NAME, emit_src=False, **design.options)
    files = {
        file: text if isinstance(text, str) else text.decode()
        for file, text in prepared.files.items()
    }
    commands = json.loads(files[f"build_{NAME}.json"])["commands"]
    kept = {file: text for file, text in files.items()
            if not file.startswith("build_") and file != f"{NAME}.debug.v"}  # fmt: skip
    return Plan(boards.board(name), build, kept, commands, design.target_hz)


def build(plan, seeds, folder, out, *, minutes=None, step=lambda what: None,
          line=lambda text: None):  # fmt: skip
    """Make the bitstream of `plan`: the fastest of all seeds.

    Parameters
    ----------
    plan : Plan
    seeds : iterable of int
        Of place and route.
    folder : path
        To work in; made, and its files replaced.
    out : path
        Where bitstream and report go, if timing is met.
    minutes : float, optional
        A seed is given up after so many: a router that gets stuck goes on for ever.
    step : callable
        Is told what begins: "synthesis", "seed N", "packing".
    line : callable
        Is given what the programs print.

    Returns
    -------
    dict
        The report, as it is in the file.

    Raises
    ------
    GradgateError
        A program fails, or no seed reaches the clock; then nothing in `out` is touched.
    """
    folder, out = Path(folder), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in plan.files.items():
        (folder / name).write_text(text)
    synthesis, route, pack = plan.commands
    routed = route[route.index(ROUTED[route[0]]) + 1]
    step("synthesis")
    tools.run([a for a in synthesis if a != "-q"], folder, line)

    found, best = {}, None
    for seed in seeds:
        step(f"seed {seed}")
        try:
            _logged(_route(route, seed), folder, f"seed_{seed}.log", line, minutes)
        except GradgateError:  # some seeds find no place or no way for everything
            found[seed] = None
            continue
        result = json.loads((folder / "result.json").read_text())
        found[seed] = _slowest(result, plan)[1]
        if best is None or _slowest(result, plan) > _slowest(best[1], plan):
            best = seed, result
            shutil.move(folder / routed, folder / f"best_{routed}")
    if best is None:
        raise GradgateError(f"{plan.board.name}: place and route failed with every seed; see "
                            f"{folder}/seed_*.log")  # fmt: skip
    seed, result = best
    if _slowest(result, plan)[0] < 1:
        raise GradgateError(
            f"{plan.board.name}: no seed reaches {plan.target_hz / 1e6:g} MHz: {_rates(found)}; "
            f"see {folder}/seed_*.log"
        )
    step("packing")
    shutil.move(folder / f"best_{routed}", folder / routed)
    tools.run(pack, folder, line)
    out.mkdir(parents=True, exist_ok=True)
    bitstream = out / f"{plan.board.name}{SUFFIX[route[0]]}"
    shutil.copy(folder / f"{NAME}{bitstream.suffix}", bitstream)
    made = _report(plan, seed, found, result, bitstream)
    (out / REPORT).write_text(json.dumps(made, indent=2) + "\n")
    return made


def _logged(command, folder, name, line, minutes):
    """Run, and keep what is printed, and why it failed, in the file `name` too."""
    with (folder / name).open("w") as log:

        def both(text):
            log.write(text + "\n")
            line(text)

        try:
            tools.run(command, folder, both, minutes)
        except GradgateError as error:
            both(str(error))
            raise


def _route(command, seed):
    """Timing is judged here, as nextpnr would not write what it is not satisfied with."""
    command = [a for a in command if a not in ("-q", "--quiet")]
    return [*command, "--seed", str(seed), "--timing-allow-fail", "--report", "result.json"]


def _slowest(result, plan):
    """The clock net with the least to spare: (what it reaches by what it has to, Hz).

    It has to reach its constraint, but not more than the clock of the design: constraints may aim
    higher.
    """
    return min(
        (c["achieved"] / min(c["constraint"], plan.target_hz / 1e6), c["achieved"] * 1e6)
        for c in result["fmax"].values()
    )


def _rates(found):
    return ", ".join(
        f"seed {seed} {'failed' if hz is None else f'{hz / 1e6:.1f} MHz'}"
        for seed, hz in found.items()
    )


def _report(plan, seed, found, result, bitstream):
    cells = result["utilization"]
    counts = {CELLS[name]: cells[name] for name in CELLS if name in cells}
    return {
        "board": plan.board.name,
        "target_mhz": plan.target_hz / 1e6,
        "fmax_mhz": round(_slowest(result, plan)[1] / 1e6, 2),
        "seed": seed,
        "seeds": {str(s): hz and round(hz / 1e6, 2) for s, hz in found.items()},
        "used": {name: count["used"] for name, count in counts.items()},
        "available": {name: count["available"] for name, count in counts.items()},
        "bitstream": {
            "file": bitstream.name,
            "sha256": hashlib.sha256(bitstream.read_bytes()).hexdigest(),
        },
        "build": plan.build.hex(),
        "sources": plan.hashes(),
        "commands": [*plan.commands[:1], _route(plan.commands[1], seed), *plan.commands[2:]],
        "tools": tools.versions(),
    }
