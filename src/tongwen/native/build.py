"""Compile the C++ kernels for this processor, once, and load them.

    ~/.cache/tongwen/kernels-<hash>.so

The hash covers the sources, the compiler and the processor's instructions, so an upgrade of any of
them compiles anew and two machines that share a home never run each other's code. No header of
torch is needed: the functions take plain pointers, and compiling takes a few seconds.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent
CACHE = Path.home() / ".cache" / "tongwen"
FLAGS = (
    *("-std=c++20", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared"),
    *("-fno-math-errno", "-fno-trapping-math"),
)


class CannotBuild(Exception):
    """Why there are no kernels here."""


def load_library(cache: Path = CACHE) -> ctypes.CDLL:
    """The compiled kernels; raises CannotBuild with what is missing."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise CannotBuild("no C++ compiler (g++) was found")
    openmp = _openmp_in_use()
    key = hashlib.sha256()
    for part in (*sorted(SOURCES.glob("*.cpp")), *sorted(SOURCES.glob("*.h"))):
        key.update(part.read_bytes())
    key.update(" ".join((_version(compiler), _processor(), str(openmp), *FLAGS)).encode())
    library = cache / f"kernels-{key.hexdigest()[:16]}.so"
    if not library.is_file():
        _compile(compiler, openmp, library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise CannotBuild(f"{library} cannot be loaded: {error}") from error


def _compile(compiler: str, openmp: Path, library: Path) -> None:
    sources = [str(path) for path in sorted(SOURCES.glob("*.cpp"))]
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / library.name
            command = [compiler, *FLAGS, *sources, str(openmp), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                lines = done.stderr.strip().splitlines() or ["no message"]
                raise CannotBuild(f"{compiler} failed: {lines[0]}")
            made.replace(library)
    except OSError as error:
        raise CannotBuild(f"{library.parent} cannot be written: {error}") from error


def _openmp_in_use() -> Path:
    """The OpenMP library that torch has loaded.

    Threads of a second one would spin against those of the first for the same cores.
    """
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    except OSError as error:
        raise CannotBuild("kernels are compiled on Linux only") from error
    for line in maps.splitlines():
        path = Path(line.rpartition(" ")[2])
        if path.name.startswith("libgomp"):
            return path
    raise CannotBuild("torch was built without the OpenMP library of GCC")


def _version(compiler: str) -> str:
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return done.stdout


def _processor() -> str:
    """The instructions of the processor: what -march=native goes by."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = ("model name", "flags", "Features")
    found = [next((line for line in lines if line.startswith(name)), "") for name in names]
    return "\n".join([platform.machine(), *found])
