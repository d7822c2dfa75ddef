"""The table of mutants fits the sources. `python -m tests.mutants` runs them."""

import pytest

from tests.mutants.__main__ import ROOT, copy_tree
from tests.mutants.table import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_applies_once(mutant, tmp_path):
    target = tmp_path / mutant.file
    target.parent.mkdir(parents=True)
    before = (ROOT / mutant.file).read_text()
    target.write_text(before)
    mutant.apply(tmp_path)
    after = target.read_text()
    assert after != before
    if target.suffix == ".py":
        compile(after, mutant.file, "exec")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_names_tests_that_exist(mutant):
    assert mutant.tests
    for test in mutant.tests:
        path, _, name = test.partition("::")
        text = (ROOT / path).read_text()
        assert not name or f"\ndef {name.partition('[')[0]}(" in text


def test_names_are_unique():
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("text", ["", "once twice once"])
def test_ambiguous_text_is_refused(text, tmp_path):
    (tmp_path / "file").write_text(text)
    mutant = Mutant("name", "file", "once", "never", "nothing", ("tests",))
    with pytest.raises(ValueError, match=f"name: {text.count('once')} times in file: 'once'"):
        mutant.apply(tmp_path)
    assert (tmp_path / "file").read_text() == text


def test_the_copy_is_complete(tmp_path):
    tree = copy_tree(tmp_path)
    for mutant in MUTANTS:
        assert (tree / mutant.file).read_text() == (ROOT / mutant.file).read_text()
