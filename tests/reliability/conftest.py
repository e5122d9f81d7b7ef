"""The server of runs, with and without a disk that fails."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.reliability.checks import Golden, golden
from tests.reliability.client import HERE, Case, Runs


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The failing disk, compiled."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (gcc): disks cannot be made to fail")
    made = tmp_path_factory.mktemp("faults") / "faults.so"
    words = [compiler, "-O2", "-shared", "-fPIC", str(HERE / "faults.c"), "-o", str(made), "-ldl"]
    subprocess.run(words, check=True)
    return made


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder in memory, where there is such a thing: syncing a real disk takes most of a run."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as made:
        yield Path(made)


@pytest.fixture(scope="session")
def runs(faults: Path, memory: Path) -> Iterator[Runs]:
    """The server; its folder holds the material."""
    with Runs(memory, faults) as server:
        yield server


@pytest.fixture
def out(memory: Path) -> Iterator[Path]:
    """A run folder that is not there yet."""
    with tempfile.TemporaryDirectory(dir=memory) as made:
        yield Path(made) / "run"


@pytest.fixture(scope="session")
def whole(runs: Runs) -> Golden:
    """What pretraining comes to if nothing happens to it."""
    return golden(runs, Case(runs.folder / "golden"))
