"""A run is killed, or its disk fails, at every call that changes something on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.reliability.checks import (
    Golden,
    every_kind,
    every_point,
    golden,
    survives,
    survives_lies,
)
from tests.reliability.client import OBJECTIVES, Case, Runs
from tests.reliability.disk import commits


def test_every_kind_of_call_may_fail(runs: Runs, whole: Golden, out: Path) -> None:
    points = every_kind(whole.ops)
    assert {op.what for op in whole.ops} >= {"write", "sync", "rename", "mkdir", "unlink", "create"}
    assert survives(runs, Case(out), whole, points) == len(points) > 60


def test_a_run_may_fail_where_it_takes_over_from_another(runs: Runs, out: Path) -> None:
    """An appended run begins with a copy of the checkpoint that it goes on from."""
    other = out.with_name("other")
    assert runs.run(Case(other)).code == 0
    case = Case(out, options={"append": str(other), "steps": 6})
    appended = golden(runs, case)
    place, _ = commits(appended.ops)[4]
    begin = [op for op in appended.ops[: place + 12] if op.what in ("rename", "sync", "mkdir")]
    assert survives(runs, case, appended, [(op.number, "kill halfway") for op in begin]) > 10


def test_a_disk_that_lies_is_found_out(runs: Runs, whole: Golden, out: Path) -> None:
    survives_lies(runs, Case(out), whole)


@pytest.mark.soak
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_call_may_fail(runs: Runs, out: Path, objective: str) -> None:
    case = Case(out, objective)
    whole = golden(runs, case)
    points = every_point(whole.ops)
    # What the disk is asked for differs little; the way through the code is what differs.
    points = points if objective == "pretrain" else points[::7]
    assert survives(runs, case, whole, points) == len(points) > 150
    print(f"{objective}: {len(points)} failures of {len(whole.ops)} calls")
