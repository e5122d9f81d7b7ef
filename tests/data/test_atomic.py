"""A prepared folder appears whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tongwen.config import DataPrepareConfig
from tongwen.data import data_prepare
from tongwen.errors import RunError
from tongwen.files import new_folder

SCRIPT = """
import sys, time
from pathlib import Path
from tongwen.config import DataPrepareConfig
from tongwen.data import data_prepare
from tongwen.data.account import Account

use = Account.use
def slow(self, sound):
    use(self, sound)
    print(flush=True)
    time.sleep(0.002)

Account.use = slow
source, out, tokenizer = map(Path, sys.argv[1:])
data_prepare(DataPrepareConfig(sources=[source], out=out, tokenizer=tokenizer, workers=2))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for n in range(2000):
            file.write(json.dumps({"instruction": f"{n}?", "output": f"{n}!"}) + "\n")
    return path


@pytest.fixture
def running(
    source: Path, tmp_path: Path, tokenizer_folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Another process in the middle of preparing `out`."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, source, tmp_path / "out", tokenizer_folder],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    for _ in range(100):
        assert process.stdout.readline(), "the other process ended early"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def partial(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob(".out.partial-*"))


def test_killed_and_run_again_gives_the_same_bytes(
    running: subprocess.Popen[bytes], source: Path, tmp_path: Path, tokenizer_folder: Path
) -> None:
    out = tmp_path / "out"
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not out.exists()
    assert len(partial(tmp_path)) == 1
    for place in (out, tmp_path / "unbroken"):
        data_prepare(DataPrepareConfig(sources=[source], out=place, tokenizer=tokenizer_folder))
    assert contents(out) == contents(tmp_path / "unbroken")
    assert not partial(tmp_path)


def test_two_at_once_are_refused(
    running: subprocess.Popen[bytes], source: Path, tmp_path: Path, tokenizer_folder: Path
) -> None:
    config = DataPrepareConfig(sources=[source], out=tmp_path / "out", tokenizer=tokenizer_folder)
    with pytest.raises(RunError, match=r"another process is writing .*out at this moment"):
        data_prepare(config)
    assert running.poll() is None
    assert len(partial(tmp_path)) == 1


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "out") as folder:
            (folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_stand_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out") as folder:
        (folder / "file").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]
