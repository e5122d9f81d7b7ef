"""The whole way, in a tiny form: the same weights twice, whatever interrupts it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tongwen import QuickstartConfig, RunError, quickstart
from tongwen.lessons import SKILLS

SCALE = "0.002"


def command(out: Path) -> list[str]:
    return [sys.executable, "-m", "tongwen", "quickstart", "--out", str(out), "--scale", SCALE]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The folder, the JSON result and the talk of one whole quickstart."""
    out = tmp_path_factory.mktemp("quickstart") / "all"
    done = subprocess.run(
        [*command(out), "--json"], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    return out, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_the_result_holds_the_exam_by_skill_and_language(
    unbroken: tuple[Path, dict[str, Any], str],
) -> None:
    out, result, talk = unbroken
    exam = result["exam"]
    assert set(exam) == {"overall", *SKILLS}
    assert all(set(exam[skill]) == {"zh", "en"} for skill in SKILLS)
    assert 0 <= exam["overall"] <= 1
    assert result["exam_items"] == 400
    assert Path(result["model"], "model.safetensors").is_file()
    for part in ("pretrain", "finetune", "tok/s", "MFU", "exam:", "overall", "A conversation:"):
        assert part in talk
    answers = json.loads((out / "exam.json").read_text(encoding="utf-8"))["answers"]
    assert len(answers) == 400
    assert exam["overall"] == sum(one["right"] for one in answers) / 400


def test_again_costs_nothing_and_says_the_same(
    unbroken: tuple[Path, dict[str, Any], str],
) -> None:
    out, result, _ = unbroken
    before = (out / "finetune" / "final" / "model.safetensors").stat().st_mtime_ns
    again = quickstart(QuickstartConfig(out=out, scale=float(SCALE)))
    assert (out / "finetune" / "final" / "model.safetensors").stat().st_mtime_ns == before
    assert again.exam == result["exam"]
    assert again.weights_sha256 == result["weights_sha256"]


def test_another_course_in_the_same_folder_is_refused(
    unbroken: tuple[Path, dict[str, Any], str],
) -> None:
    with pytest.raises(RunError, match="holds another course"):
        quickstart(QuickstartConfig(out=unbroken[0], scale=float(SCALE), seed=1))


# What a quickstart makes, in order; it is killed a moment after each has appeared.
MILESTONES = (
    "lessons/exam.jsonl",
    "tokenizer/tokenizer.json",
    "prepared/exercises/manifest.json",
    "pretrain/checkpoints/step-*",
    "pretrain/final/config.json",
    "finetune/checkpoints/step-*2",
    "finetune/final/config.json",
)


def killed_after(milestone: str, out: Path, pause: float) -> None:
    """Start or continue a quickstart that saves at every step, and kill it after a milestone."""
    program = (
        "import sys, tongwen.train.loop as loop, tongwen.cli as cli\n"
        "loop.SAVE_SECONDS = 0\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, *command(out)[3:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(out.glob(milestone)) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(pause)
    process.kill()
    process.wait()


def test_killed_at_any_moment_it_ends_with_the_same_weights(
    unbroken: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    _, result, _ = unbroken
    out = tmp_path / "killed"
    moments = random.Random(0)
    for milestone in MILESTONES:
        killed_after(milestone, out, moments.uniform(0, 0.1))
    again = quickstart(QuickstartConfig(out=out, scale=float(SCALE)))
    assert again.weights_sha256 == result["weights_sha256"]


def test_a_moved_quickstart_goes_on(
    unbroken: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    out, result, _ = unbroken
    shutil.copytree(out, tmp_path / "moved")
    again = quickstart(QuickstartConfig(out=tmp_path / "moved", scale=float(SCALE)))
    assert again.weights_sha256 == result["weights_sha256"]


@pytest.mark.soak
def test_many_kills(unbroken: tuple[Path, dict[str, Any], str], tmp_path: Path) -> None:
    _, result, _ = unbroken
    moments = random.Random(os.environ.get("TONGWEN_SOAK_SEED", "1"))
    for number in range(3):
        out = tmp_path / str(number)
        for milestone in MILESTONES:
            killed_after(milestone, out, moments.uniform(0, 3))
        again = quickstart(QuickstartConfig(out=out, scale=float(SCALE)))
        assert again.weights_sha256 == result["weights_sha256"]
