"""C++ to shared libraries: compiled once, then found again by the hash of all that matters."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from gradgate.errors import GradgateError
from rich.console import Console

__all__ = ["CompileError", "cache_dir", "compiler", "shared_library"]

# Contraction to fused multiply-adds would round once where the numerics say twice.
FLAGS = ("-std=c++20", "-O3", "-march=native", "-ffp-contract=off", "-fPIC")
HEADERS = (".h", ".hh", ".hpp")
PARALLEL = 2


class CompileError(GradgateError, RuntimeError):
    """No compiler was found, or it refused a source; the message holds what it printed."""


def cache_dir():
    """Where libraries are kept: $GRADGATE_CACHE, or `gradgate` in the XDG cache directory."""
    if "GRADGATE_CACHE" in os.environ:
        return Path(os.environ["GRADGATE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gradgate"


def compiler():
    """The C++ compiler as a list of arguments: $CXX, else ziglang, else the system's.

    Raises CompileError when there is none.
    """
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    for name in ("clang++", "g++", "c++"):
        if path := shutil.which(name):
            return [path]
    raise CompileError("no C++ compiler: pip install ziglang, or set CXX")


@cache
def _version(command):
    """What tells one compiler from another, as text."""
    if command[1:3] == ("-m", "ziglang"):
        return "ziglang " + importlib.metadata.version("ziglang")
    return _run([*command, "--version"])


@cache
def _cpu():
    """What -march=native depends on, as text."""
    text = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            if line.split("\t")[0] in ("model name", "flags", "Features", "CPU part"):
                text += line
    return text


def _run(command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace")
    except OSError as error:
        raise CompileError(f"cannot run {command[0]}: {error}") from error
    if done.returncode:
        raise CompileError(f"{shlex.join(map(str, command))}\nfailed with exit status "
                           f"{done.returncode}:\n{done.stdout}")
    return done.stdout


def _read(source):
    """(file name, text) of one entry of `sources`."""
    if isinstance(source, tuple):
        name, text = source
        if Path(name).name != name:
            raise ValueError(f"a source given as text must have a plain file name, not {name!r}")
        return name, text.encode()
    return Path(source).name, Path(source).read_bytes()


def _digest(command, arguments, sources, include):
    """Hash of everything the library depends on, except the system's own headers."""
    hash_ = hashlib.sha256()

    def add(data):
        data = data if isinstance(data, bytes) else str(data).encode()
        hash_.update(len(data).to_bytes(8, "little") + data)

    for text in (_version(tuple(command)), _cpu(), *arguments):
        add(text)
    for source in sources:
        for part in _read(source):
            add(part)
    for directory in include:
        for path in sorted(p for p in Path(directory).rglob("*") if p.suffix in HEADERS):
            add(path.relative_to(directory))
            add(path.read_bytes())
    return hash_.hexdigest()[:24]


@contextlib.contextmanager
def _locked(path):
    """Hold an exclusive lock between processes; it goes away with its holder."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _note(text):
    """Tell the user, on standard error, why nothing else happens for a while."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(text):
            yield
    else:
        print(text, file=sys.stderr, flush=True)
        yield


def _build(command, arguments, sources, include, target):
    """Compile and link in a temporary directory beside `target`, then move the result there."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as temporary:
        build = Path(temporary)
        arguments = [*arguments, f"-I{build}", *(f"-I{Path(d).resolve()}" for d in include)]
        jobs = []
        for index, source in enumerate(sources):
            name, text = _read(source)
            path = build / name if isinstance(source, tuple) else Path(source).resolve()
            if isinstance(source, tuple) or path.suffix in HEADERS:
                (build / name).write_bytes(text)
            if path.suffix not in HEADERS:
                jobs.append([*command, *arguments, "-c", path, "-o", build / f"{index}.o"])
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(_run, jobs))
        library = build / target.name
        _run([*command, *arguments, "-shared", *(job[-1] for job in jobs), "-o", library])
        os.replace(library, target)


def shared_library(name, sources, *, include=(), flags=(), defines=None):
    """Compile C++20 into a shared library and return its path; at once if that was done before.

    Safe to call from several processes: one compiles, the others wait for it.

    Parameters
    ----------
    name : str
        What the library is, for the file name and the progress note.
    sources : list of Path or (str, str)
        Files, or file names with their text. Headers (by suffix) are not compiled but put on the
        include path. A header that a source includes must be listed, or lie in a directory of
        `include`: otherwise a change of it would go unnoticed.
    include : iterable of Path
        Directories of headers.
    flags : iterable of str
        Further arguments for compiling and linking, after the standard ones (-O3 -march=native
        -ffp-contract=off).
    defines : dict
        Preprocessor macros.

    Raises
    ------
    CompileError
        There is no compiler, or it failed.
    """
    command = compiler()
    arguments = [*FLAGS, *map(str, flags), *(f"-D{k}={v}" for k, v in (defines or {}).items())]
    sources, include = list(sources), list(include)
    directory = cache_dir()
    target = directory / f"{name}-{_digest(command, arguments, sources, include)}.so"
    if target.exists():
        return target
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_suffix(".lock")):
        if not target.exists():
            with _note(f"gradgate: compiling {name} (kept in {directory})"):
                _build(command, arguments, sources, include, target)
    return target
