"""The compiler cache: what makes a new library, what does not, and what a failure says."""

import ctypes
import os
import subprocess
import sys

import pytest
from gradgate.sim import toolchain
from gradgate.sim.toolchain import CompileError, shared_library

SOURCE = '#include "answer.h"\nextern "C" int answer() { return ANSWER + EXTRA; }\n'


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADGATE_CACHE", str(tmp_path / "cache"))


def build(header="#define ANSWER 42\n", extra=0, **options):
    return shared_library("answer", [("answer.cpp", SOURCE), ("answer.h", header)],
                          defines={"EXTRA": extra}, **options)


def answer(path):
    return ctypes.CDLL(str(path)).answer()


def test_builds_once(capfd):
    path = build()
    assert answer(path) == 42
    assert "compiling answer" in capfd.readouterr().err
    made = path.stat().st_mtime_ns
    assert build() == path and path.stat().st_mtime_ns == made
    assert capfd.readouterr().err == ""


def test_every_input_counts(tmp_path, monkeypatch):
    paths = [build(), build("#define ANSWER 43\n"), build(extra=2)]
    assert [answer(path) for path in paths] == [42, 43, 44]
    monkeypatch.setattr(toolchain, "_cpu", lambda: "another processor")
    paths.append(build())
    assert len(set(paths)) == 4


def test_headers_of_include_directories_count(tmp_path):
    source, include = tmp_path / "a.cpp", tmp_path / "include"
    include.mkdir()
    source.write_text(SOURCE)
    found = []
    for value in (1, 2):
        (include / "answer.h").write_text(f"#define ANSWER {value}\n")
        path = shared_library("a", [source], include=[include], flags=["-DEXTRA=0"])
        found.append(answer(path))
    assert found == [1, 2]


def test_several_sources_of_one_name(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.cpp").write_text(f'extern "C" int {name}() {{ return 1; }}\n')
    sources = [tmp_path / "one/x.cpp", tmp_path / "two/x.cpp",
               ("main.cpp", 'extern "C" { int one(); int two(); int answer() '
                            '{ return one() + two(); } }')]
    assert answer(shared_library("pair", sources)) == 2


def test_failure_shows_the_compilers_words():
    with pytest.raises(CompileError, match="no_such_name"):
        build("#define ANSWER no_such_name\n")
    assert not list(toolchain.cache_dir().glob("*.so"))
    assert not list(toolchain.cache_dir().glob("build-*"))


def test_missing_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "/nonexistent/c++ -pipe")
    with pytest.raises(CompileError, match="cannot run /nonexistent/c\\+\\+"):
        build()


def test_no_compiler_at_all(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    with pytest.raises(CompileError, match="pip install ziglang"):
        toolchain.compiler()
    monkeypatch.setattr(toolchain.shutil, "which", {"g++": "/usr/bin/g++"}.get)
    assert toolchain.compiler() == ["/usr/bin/g++"]


def test_text_with_a_path_is_refused():
    with pytest.raises(ValueError, match="plain file name, not '../a.cpp'"):
        shared_library("bad", [("../a.cpp", "")])


def test_processes_share_one_build(tmp_path):
    log = tmp_path / "log"
    fake = tmp_path / "c++"  # counts its links, slowly, so that the processes overlap
    fake.write_text('#!/bin/sh\ncase "$*" in\n  --version) echo fake;;\n'
                    f'  *-shared*) echo link >> {log}; sleep 0.5\n'
                    '    for o; do :; done; echo > "$o";;\n'
                    'esac\n')
    fake.chmod(0o755)
    code = ("from gradgate.sim.toolchain import shared_library\n"
            "print(shared_library('shared', [('a.cpp', '')]))")
    processes = [subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"CXX": str(fake)},
                                  stdout=subprocess.PIPE, text=True) for _ in range(3)]
    paths = {process.communicate(timeout=60)[0] for process in processes}
    assert len(paths) == 1 and log.read_text() == "link\n"

