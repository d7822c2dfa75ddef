"""House rules that a linter does not know."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("path", sorted((ROOT / "hw").rglob("*.py")), ids=lambda p: p.name)
def test_no_postponed_annotations_in_gateware(path):
    # with it, Amaranth's data.Struct silently becomes an empty layout
    assert "from __future__ import annotations" not in path.read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "hw").glob("[a-z]*.py")), ids=lambda p: p.name)
def test_every_block_has_a_test(path):
    if path.stem in ("config", "core", "port"):  # tested through the boards, the top, and its users
        pytest.skip("no behaviour of its own")
    assert (ROOT / "tests" / "hw" / f"test_{path.stem}.py").exists()


def test_every_package_is_installed():
    """What is missing here is found in the source tree all the same, but not in a wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {name: ROOT / folder for name, folder in settings["package-dir"].items()}
    wanted = {".".join((name, *path.parent.relative_to(folder).parts))
              for name, folder in folders.items() for path in folder.rglob("__init__.py")}
    assert wanted == set(settings["packages"])


@pytest.mark.parametrize("folder, page", [("hw", "architecture.md"), ("host", "compiler.md")])
def test_the_documentation_says_where_every_file_belongs(folder, page):
    named = set(re.findall(r"\w+\.py", (ROOT / "docs" / page).read_text()))
    assert {path.name for path in (ROOT / folder).glob("[a-z]*.py")} - named == set()
