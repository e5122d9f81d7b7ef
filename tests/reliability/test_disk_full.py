"""A disk that is full, at every size at which it may be."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.reliability.checks import Golden, goes_on
from tests.reliability.client import Case, Runs, contents, valid_steps

PAGE = 4
ENOUGH = 460
"""KiB that a whole run takes."""


@pytest.fixture
def small_disk(out: Path) -> Path:
    """A place where a disk of any size can be mounted."""
    place = out.with_name("disk")
    place.mkdir()
    if shutil.which("mount") is None or not _mount(place, 64):
        pytest.skip("no disk can be mounted here (root is needed)")
    subprocess.run(["umount", str(place)], check=True)
    return place


def _mount(place: Path, kib: int, how: str = "") -> bool:
    words = ["mount", "-t", "tmpfs", "-o", f"{how}size={kib}k", "tmpfs", str(place)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def sweep(runs: Runs, disk: Path, whole: Golden, every: int) -> set[int]:
    """Run on disks of every size; returns the steps that were kept by those that got full."""
    kept = set()
    for kib in range(PAGE, ENOUGH + 1, every):
        assert _mount(disk, kib)
        try:
            case = Case(disk / "run")
            ended = runs.run(case)
            assert ended.code in (0, 2), f"{kib} KiB: {ended}"
            valid, seen = valid_steps(case.out), contents(case.out)
            assert list(seen) == valid, f"{kib} KiB: a half of a checkpoint"
            assert all(seen[step] == whole.checkpoints[step] for step in valid)
            if ended.code == 2:
                kept.add(max([0, *valid]))
                *_, error, hint = ended.said.splitlines()
                assert "cannot be written: No space left on device" in error, ended.said
                assert "make room and run the same command again" in hint
                assert re.findall(r"step-(\d+) is whole", hint) == [f"{s:09}" for s in valid[-1:]]
            assert _mount(disk, 16 * ENOUGH, "remount,")
            goes_on(runs, case, whole, f"{kib} KiB")
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return kept


def test_a_full_disk_keeps_the_last_good_checkpoint(
    runs: Runs, small_disk: Path, whole: Golden
) -> None:
    kept = sweep(runs, small_disk, whole, every=11 * PAGE)
    assert len(kept) >= 3, f"checkpoints of {sorted(kept)} alone were kept"


@pytest.mark.soak
def test_every_size_of_a_full_disk(runs: Runs, small_disk: Path, whole: Golden) -> None:
    kept = sweep(runs, small_disk, whole, every=PAGE)
    assert len(kept) >= 3, f"checkpoints of {sorted(kept)} alone were kept"
