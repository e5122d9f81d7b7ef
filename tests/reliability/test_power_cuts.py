"""What was not synced may be gone, or garbage, after a power cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.reliability.checks import survives_power_cuts
from tests.reliability.client import OBJECTIVES, Case, Runs, fresh
from tests.reliability.disk import Disk, Op, read_log


def op(what: str, path: str, data: bytes = b"", other: str = "") -> Op:
    return Op(0, what, path, other, data)


def test_the_disk_is_as_lossy_as_it_should_be(tmp_path: Path) -> None:
    """Unsynced pieces and names get lost, synced ones do not."""
    ops = [
        op("truncate", "kept"), op("write", "kept", b"1"), op("sync", "kept"), op("sync", ""),
        op("write", "kept", b"2"), op("truncate", "lost"), op("write", "lost", b"3"),
        op("rename", "lost", other="kept"),
    ]  # fmt: skip
    found = set()
    for seed in range(200):
        Disk(ops).after_power_cut(fresh(tmp_path / "left"), random.Random(seed))
        found.add(tuple(p.read_bytes() for p in sorted((tmp_path / "left").iterdir())))
    garbage = {random.Random(1).randbytes(1)}
    pieces = {b"3", b"\0", b"", *garbage}
    old = {b"1", b"12", b"1\0", *(b"1" + one for one in garbage)}
    assert {one for (one, *_) in found} <= old | pieces
    assert {(b"1",), (b"12",), (b"3",), (b"",)} <= found


def test_the_record_is_complete(runs: Runs, out: Path) -> None:
    """Done again from the record, the calls give all that is on the disk: nothing went past it."""
    log, again = out.with_suffix(".log"), out.with_name("again")
    ended = runs.run(Case(out, log=log))
    ops = read_log(log, out)
    assert ended.calls == len(ops) > 200
    Disk(ops).as_written(again)
    files = {path.relative_to(out) for path in out.rglob("*")}
    assert files == {path.relative_to(again) for path in again.rglob("*")}
    for name in files:
        if (out / name).is_file():
            assert (out / name).read_bytes() == (again / name).read_bytes(), name


def test_a_power_cut_leaves_old_or_new(runs: Runs, out: Path) -> None:
    survives_power_cuts(runs, Case(out), states=600, resumed=8)


@pytest.mark.soak
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_many_power_cuts_leave_old_or_new(runs: Runs, out: Path, objective: str) -> None:
    survives_power_cuts(runs, Case(out, objective), states=3_000, resumed=50)
