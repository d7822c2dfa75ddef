"""`python -m tests.mutants [NAME ...]`: apply each mutant to a copy of the tree and run its tests.

A mutant is killed when a test fails, survives when all pass. The tests are also run on the
unchanged copy, where they must pass: a test that always fails kills everything. Exit status 1 if a
mutant survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .table import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
TREES = ("hw", "host", "sim", "tests")

# The editable install points at the original tree; in the copy, the package names must lead to the
# copy.
BOOT = """
import sys, importlib.util
modules = []
for name, folder in (("gradgate", "host"), ("gradgate.hw", "hw"), ("gradgate.sim", "sim")):
    spec = importlib.util.spec_from_file_location(name, f"{folder}/__init__.py",
                                                  submodule_search_locations=[folder])
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    modules.append(module)
    if "." in name:
        setattr(sys.modules["gradgate"], name.split(".")[1], module)
for module in modules:  # when all names lead to the copy, as the packages import each other
    module.__spec__.loader.exec_module(module)
"""


def run_tests(tree, tests):
    """Run pytest on `tests` in the copy `tree`; returns (passed, its output).

    Raises RuntimeError if the tests could not be run.
    """
    (tree / "conftest.py").write_text(BOOT)
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "--timeout=900",
            *tests,
        ],
        cwd=tree,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "160"},
    )
    # 1: tests ran and some failed; anything else but 0 is not a verdict
    if result.returncode not in (0, 1):
        raise RuntimeError(f"pytest could not run {tests}:\n{result.stdout}\n{result.stderr}")
    return result.returncode == 0, result.stdout


def failure(output):
    """Which test failed and how, in pytest's words."""
    return next((line[7:] for line in output.splitlines() if line.startswith("FAILED ")), "")


def copy_tree(folder):
    """A fresh copy of the sources in `folder`."""
    for name in TREES:
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "sim_build")
        )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def main():
    """Run the mutants named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="only these mutants (default: all)"
    )
    parser.add_argument("--list", action="store_true", help="only list them")
    args = parser.parse_args()
    unknown = set(args.names) - {m.name for m in MUTANTS}
    if unknown:
        parser.error(f"no mutant {', '.join(sorted(unknown))}")
    chosen = [m for m in MUTANTS if not args.names or m.name in args.names]

    console = Console()
    table = Table("mutant", "what it breaks", "" if args.list else "verdict")
    survivors = 0
    if not args.list:
        with tempfile.TemporaryDirectory() as folder:
            tests = sorted({t for m in chosen for t in m.tests})
            passed, output = run_tests(copy_tree(Path(folder)), tests)
            if not passed:
                console.print(output, markup=False)
                sys.exit("these tests fail without any mutant")
    for mutant in chosen:
        verdict = ""
        if not args.list:
            with tempfile.TemporaryDirectory() as folder:
                tree = copy_tree(Path(folder))
                mutant.apply(tree)
                survived, output = run_tests(tree, mutant.tests)
            survivors += survived
            verdict = "[red]SURVIVED[/]" if survived else "[green]killed[/]"
            console.print(f"{mutant.name}: {verdict} {escape(failure(output))}", soft_wrap=True)
        table.add_row(f"{mutant.name}\n[dim]{mutant.file}[/]", mutant.breaks, verdict)
    console.print(table)
    if not args.list:
        console.print(f"{len(chosen) - survivors} of {len(chosen)} mutants killed")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
