"""Signals, wherever they come: the step is finished, the run is saved, and it goes on."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from tests.reliability.checks import Golden, goes_on, golden
from tests.reliability.client import OBJECTIVES, Case, Runs, valid_steps

# Where the second time at a place is, with these settings; before the first step nothing is saved.
PLACES = {
    "evaluating": (0, {}),
    "sampling": (1, {"sample_every": 1, "save_every": 9}),
    "stepping": (2, {"save_every": 9}),
    "saving": (2, {}),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_saves_and_leaves_wherever_it_comes(
    runs: Runs, whole: Golden, out: Path, place: str
) -> None:
    step, options = PLACES[place]
    case = Case(out, options=options, signal_in=place, signal=signal.SIGTERM)
    ended = runs.run(case)
    assert ended.code == 143, ended
    assert f"stopped at step {step}; the same command goes on" in ended.said.splitlines()[-1]
    assert valid_steps(out)[-1:] == [step][: step > 0]
    if "sample_every" not in options:
        goes_on(runs, Case(out), whole, f"SIGTERM while {place}")


def test_a_signal_while_averaged_weights_are_looked_at(runs: Runs, out: Path) -> None:
    """The weights themselves are saved, whenever the signal comes."""
    case = Case(out, options={"average": "ema"})
    whole = golden(runs, case)
    for nth in (7, 9, 11):
        stopped = replace(case, out=out.with_name(str(nth)), signal_in="evaluating", nth=nth)
        ended = runs.run(replace(stopped, signal=signal.SIGTERM))
        assert ended.code == 143, ended
        goes_on(runs, stopped, whole, f"SIGTERM at evaluation {nth}")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_can_be_stopped(runs: Runs, out: Path, objective: str) -> None:
    case = Case(out, objective)
    whole = golden(runs, case)
    stopped = replace(case, out=out.with_name("stopped"))
    ended = runs.run(replace(stopped, signal_in="stepping", signal=signal.SIGINT))
    assert ended.code == 130, ended
    assert valid_steps(stopped.out)[-1] == 2
    goes_on(runs, stopped, whole, "SIGINT")


def test_a_signal_while_preparing_data_loses_nothing(runs: Runs, out: Path) -> None:
    options = {"data": [str(runs.folder / "text.jsonl")], "context": 128}
    case = Case(out, options=options, signal_in="preparing", nth=1, signal=signal.SIGTERM)
    assert runs.run(case).code == -signal.SIGTERM
    ended = runs.run(case.again())
    assert ended.code == 0, ended.said
    assert valid_steps(out)[-1] == 4
