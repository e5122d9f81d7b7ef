"""Killed at random moments, again and again, a run ends in the same bytes."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.reliability.checks import Golden, golden
from tests.reliability.client import OBJECTIVES, Case, Runs, fresh, outcome


def killed_until_it_ends(runs: Runs, case: Case, whole: Golden, kills: int) -> int:
    """Kill runs until there were so many kills; returns how many of them a save was in."""
    draw = random.Random(case.objective)
    done = in_saves = 0
    began = time.monotonic()
    ended = runs.run(replace(case, out=fresh(case.out)))
    takes = time.monotonic() - began
    fresh(case.out)
    while done < kills:
        ended = runs.run(replace(case, kill_after=draw.uniform(0, takes)))
        if ended.code == -9:
            done += 1
            in_saves += any((case.out / "checkpoints").glob(".*partial*"))
            continue
        assert ended.code == 0, ended.said
        assert outcome(case.out) == whole.result
        fresh(case.out)
    ended = runs.run(case)
    assert ended.code == 0, ended.said
    assert outcome(case.out) == whole.result
    return in_saves


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_kills_change_nothing(runs: Runs, out: Path, objective: str) -> None:
    case = Case(out, objective)
    killed_until_it_ends(runs, case, golden(runs, case), kills=7)


@pytest.mark.soak
@pytest.mark.parametrize(("precision", "kills"), [("fp32", 125), ("bf16", 25)])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_many_kills_change_nothing(
    runs: Runs, out: Path, objective: str, precision: str, kills: int
) -> None:
    case = Case(out, objective, options={"precision": precision})
    in_saves = killed_until_it_ends(runs, case, golden(runs, case), kills)
    print(f"{objective} {precision}: {kills} kills, {in_saves} of them inside a save")
