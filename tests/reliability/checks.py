"""What must hold, whatever happens to a run; each raises AssertionError where it does not.

Every check takes the mechanism to do without, so that it can be shown to fail.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.reliability.client import (
    COMMON,
    Case,
    Runs,
    contents,
    fresh,
    outcome,
    valid_steps,
)
from tests.reliability.disk import Disk, Op, commits, read_log

from tongwen.files import sha256_file
from tongwen.train.run import read_metrics

MODES = ("kill", "kill halfway", "no space", "io error")
STEPS = int(COMMON["steps"])
Point = tuple[int, str]


@dataclass(frozen=True)
class Golden:
    """What an unbroken run comes to, the contents of all its checkpoints, and its calls."""

    result: dict[str, object]
    checkpoints: dict[int, dict[str, str]]
    ops: list[Op]


def golden(runs: Runs, case: Case) -> Golden:
    """Run a case undisturbed, once as it is and once keeping every checkpoint."""
    log = case.out.with_suffix(".log")
    ended = runs.run(replace(case.again(), out=fresh(case.out), log=log))
    assert ended.code == 0, ended.said
    ops = read_log(log, case.out)
    result = outcome(case.out)
    ended = runs.run(
        replace(case.again(), out=fresh(case.out), options=case.options | {"keep": 99})
    )
    assert ended.code == 0, ended.said
    return Golden(result, contents(case.out), ops)


def every_point(ops: list[Op]) -> list[Point]:
    """Every call, failing in every way."""
    return [(op.number, mode) for op in ops for mode in MODES]


def every_kind(ops: list[Op]) -> list[Point]:
    """Every kind of call once, renames failing in every way and the others in turn."""
    last = {op.kind: op for op in ops}
    return [
        (op.number, mode)
        for place, op in enumerate(last.values())
        for mode in (MODES if op.what == "rename" else [MODES[place % 4]])
    ]


def survives(runs: Runs, case: Case, whole: Golden, points: Iterable[Point]) -> int:
    """A disk that fails at a call leaves old or new, and the run ends in the same bytes."""
    named = {step: whole.ops[place].number for step, (place, _) in commits(whole.ops).items()}
    count = 0
    for at, mode in points:
        count += 1
        what = f"{mode} at call {at}"
        struck = replace(case, out=fresh(case.out), at=at, mode=mode)
        ended = runs.run(struck)
        assert ended.code == (-9 if "kill" in mode else ended.code), f"{what}: {ended}"
        assert ended.code in (-9, 0, 2), f"{what}: {ended}"
        seen, valid = contents(case.out), valid_steps(case.out)
        assert list(seen) == valid, f"{what}: a half of a checkpoint stands under its name"
        assert all(seen[step] == whole.checkpoints[step] for step in valid), what
        newest = valid[-1] if valid else 0
        assert newest >= max([0, *(step for step, call in named.items() if call < at)]), what
        if ended.code == 2:
            standing = f"step-{newest:09} is whole" if newest else "there is no checkpoint yet"
            assert standing in ended.said.splitlines()[-1], f"{what}: {ended.said}"
        goes_on(runs, case, whole, what)
    return count


def goes_on(runs: Runs, case: Case, whole: Golden, what: str) -> None:
    """The same command ends in the same bytes."""
    ended = runs.run(case.again())
    assert ended.code == 0, f"{what}, then: {ended.said}"
    result = outcome(case.out)
    wrong = [key for key in whole.result if result.get(key) != whole.result[key]]
    assert not wrong, f"{what}: other bytes in {wrong}"


def survives_power_cuts(runs: Runs, case: Case, states: int, resumed: int = 0) -> None:
    """After a power cut the newest checkpoint that was promised is there, or a newer one."""
    whole = golden(runs, case)
    moments = commits(whole.ops)
    draw = random.Random(0)
    left = case.out.with_name("left")
    Disk(whole.ops).as_written(fresh(left))
    assert contents(left) == {step: whole.checkpoints[step] for step in contents(left)}
    for number in range(states):
        cut = draw.randrange(len(whole.ops))
        what = f"state {number}, power cut behind call {whole.ops[cut].number}"
        Disk(whole.ops[: cut + 1]).after_power_cut(fresh(left), draw)
        valid, seen = valid_steps(left), contents(left)
        assert all(seen[step] == whole.checkpoints[step] for step in valid), what
        newest = valid[-1] if valid else 0
        promised = [step for step, (_, synced) in moments.items() if synced <= cut]
        assert newest >= max([0, *promised]), f"{what}: checkpoint {max(promised)} is lost"
        steps = [line["step"] for line in read_metrics(left / "metrics.jsonl") if "loss" in line]
        assert steps[:newest] == list(range(1, newest + 1)), f"{what}: metrics are lost"
        if (left / "passport.json").exists():
            told = json.loads((left / "passport.json").read_text(encoding="utf-8"))
            weights = [sha256_file(path) for path in left.glob("final/*.safetensors")]
            assert weights == [told["final_sha256"]], f"{what}: a half of a model"
        if number < resumed:
            shutil.rmtree(case.out)
            left.rename(case.out)
            goes_on(runs, case, whole, what)


def survives_lies(runs: Runs, case: Case, whole: Golden) -> None:
    """Where the disk writes less than it says, no checkpoint of that passes."""
    places = [op for op in whole.ops if op.what == "write" and "safetensors" in op.path]
    for op in places[:: max(1, len(places) // 6)]:
        runs.run(replace(case, out=fresh(case.out), at=op.number, mode="lie"))
        seen = contents(case.out)
        for step in valid_steps(case.out):
            assert seen[step] == whole.checkpoints[step], f"a lie at call {op.number} passed"


def resumes(runs: Runs, case: Case, whole: Golden) -> None:
    """Killed behind its second checkpoint, a run ends in the same bytes."""
    place, _ = commits(whole.ops)[2]
    # Behind the next line of the metrics, which is to be written again.
    at = next(op.number for op in whole.ops[place + 3 :] if op.what == "mkdir")
    ended = runs.run(replace(case, out=fresh(case.out), at=at, mode="kill"))
    assert ended.code == -9
    goes_on(runs, case, whole, f"killed at call {at}")


def does_not_depend_on_micro_batches(runs: Runs, case: Case) -> None:
    """The losses are the same however a step is cut."""
    losses: list[list[float]] = []
    for tokens in (40, 160):
        options: dict[str, Any] = {"micro_batch_tokens": tokens}
        ended = runs.run(replace(case, out=fresh(case.out), options=options))
        assert ended.code == 0, ended.said
        metrics = read_metrics(case.out / "metrics.jsonl")
        losses.append([line["loss"] for line in metrics if "loss" in line])
    fine, whole = losses
    assert all(abs(a - b) < 1e-5 for a, b in zip(fine, whole, strict=True)), losses


def names_what_changed(runs: Runs, case: Case) -> None:
    """Other threads are named and refused, and allowed where that is asked for."""
    begun = replace(case, out=fresh(case.out), signal_in="saving")
    assert runs.run(begun).code == -9
    other = replace(case, options={"threads": 2})
    refused = runs.run(other)
    assert refused.code == 2, f"it went on with other threads: {refused}"
    assert "would not end in the same bytes: threads was 1, is now 2" in refused.said
    assert "--allow-inexact" in refused.said
    allowed = runs.run(replace(case, options={"threads": 2, "allow_inexact": True}))
    assert allowed.code == 0, allowed.said
    passport = json.loads((case.out / "passport.json").read_text(encoding="utf-8"))
    assert passport["inexact"] == [{"step": 1, "changed": ["threads was 1, is now 2"]}]


def stops_before_what_is_not_finite(runs: Runs, case: Case) -> None:
    """A loss that is not finite leaves the weights of the step before it, in a checkpoint."""
    wild = {"lr": 1e30, "clip": 0.0, "warmup": 0.0, "save_every": STEPS}
    ended = runs.run(replace(case, out=fresh(case.out), options=wild))
    assert ended.code == 2, f"it ended with {ended.code}: {ended.said}"
    assert "the weights were left as they are" in ended.said
    told = json.loads((case.out / "not-finite.json").read_text(encoding="utf-8"))
    assert valid_steps(case.out) == ([told["step"] - 1] if told["step"] > 1 else [])


def checked(runs: Runs, name: str, folder: Path, without: str | None) -> None:
    """One of the checks inside one process."""
    ended = runs.guard(name, folder, without)
    assert ended.code == 0, ended.said.strip().rpartition("AssertionError: ")[2]
