"""Every mechanism that keeps a run is missed: without it, the check that guards it fails.

A check that never failed proves nothing. Each runs twice here, with the mechanism and without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.reliability import checks
from tests.reliability.checks import MODES, golden
from tests.reliability.client import Case, Runs, fresh

Check = Callable[[Runs, Case], None]


def power_cuts(runs: Runs, case: Case) -> None:
    checks.survives_power_cuts(runs, case, states=250)


def kills_in_final(runs: Runs, case: Case) -> None:
    _kills(runs, case, "final")


def kills_in_removals(runs: Runs, case: Case) -> None:
    _kills(runs, case, "unlink")


def _kills(runs: Runs, case: Case, where: str) -> None:
    whole = golden(runs, case)
    chosen = [op for op in whole.ops if where in op.kind and op.what != "sync"]
    points = [(op.number, MODES[place % 2]) for place, op in enumerate(chosen[:16:3])]
    assert len(points) >= 3
    checks.survives(runs, case, whole, points)


def lies(runs: Runs, case: Case) -> None:
    checks.survives_lies(runs, case, golden(runs, replace(case, without=None)))


def resuming(runs: Runs, case: Case) -> None:
    checks.resumes(runs, case, golden(runs, case))


def flipped_bits(runs: Runs, case: Case) -> None:
    assert runs.run(replace(case, without=None, out=fresh(case.out))).code == 0
    checks.checked(runs, "flipped bits", case.out, case.without)


def owners(runs: Runs, case: Case) -> None:
    checks.checked(runs, "two owners", fresh(case.out), case.without)


CAUGHT_BY: dict[str, Check] = {
    "sync of files": power_cuts,
    "sync of folders": power_cuts,
    "sync of metrics": power_cuts,
    "rename of what was written": kills_in_final,
    "rename of what is removed": kills_in_removals,
    "hash of every file": flipped_bits,
    "seal of the record": flipped_bits,
    "hash of what was meant": lies,
    "order from the seed": resuming,
    "normalisation by the whole step": checks.does_not_depend_on_micro_batches,
    "lock of the owner": owners,
    "state of the optimiser": resuming,
    "rewinding of the metrics": resuming,
    "comparison of environments": checks.names_what_changed,
    "stop before weights that are not finite": checks.stops_before_what_is_not_finite,
}


# The others are those of whole files of tests here.
BY_THEMSELVES = list(dict.fromkeys(CAUGHT_BY.values()))
BY_THEMSELVES = [check for check in BY_THEMSELVES if check not in (power_cuts, lies)]


@pytest.mark.parametrize("check", BY_THEMSELVES, ids=lambda check: check.__name__)
def test_with_all_mechanisms_every_check_passes(runs: Runs, out: Path, check: Check) -> None:
    check(runs, Case(out))


@pytest.mark.parametrize("mechanism", CAUGHT_BY)
def test_without_a_mechanism_its_check_fails(
    runs: Runs, out: Path, mechanism: str, record_property: Callable[[str, object], None]
) -> None:
    with pytest.raises(AssertionError) as caught:
        CAUGHT_BY[mechanism](runs, Case(out, without=mechanism))
    said = str(caught.value).partition("\n")[0]
    record_property("caught", said)
    print(f"without the {mechanism}: {said}")


def test_every_mechanism_has_its_check() -> None:
    text = (Path(__file__).parent / "mechanisms.py").read_text(encoding="utf-8")
    table = text[text.index("REMOVED:") :]
    assert re.findall(r'^    "([^"]+)": _', table, re.MULTILINE) == list(CAUGHT_BY)
