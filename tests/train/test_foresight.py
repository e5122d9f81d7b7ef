"""What a run says of its memory and time before it begins, and keeps beside what it took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tongwen import FinetuneConfig, PretrainConfig, finetune, pretrain
from tongwen.config import ForecastConfig
from tongwen.forecasts import forecast
from tongwen.models import Packing
from tongwen.train.heaviest import laid_out


def config(lessons: Path, out: Path, **changes: Any) -> PretrainConfig:
    settings: dict[str, Any] = {
        "data": [lessons / "text"], "out": out, "size": "1m", "context": 256, "steps": 2,
        "batch_tokens": 600, "micro_batch_tokens": 300, "threads": 1, "precision": "fp32",
    }  # fmt: skip
    return PretrainConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def run(lessons: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("foreseen") / "run"
    pretrain(config(lessons, out))
    return out


def plan_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "plan.json").read_text(encoding="utf-8")))


def test_what_a_run_says_is_what_the_forecast_of_it_says(run: Path) -> None:
    said, told = plan_of(run)["forecast"], forecast(ForecastConfig(run=run))
    assert said["peak_bytes"] == told.peak_bytes
    assert said["verdict"] == told.verdict == "fits"
    rate = told.tokens_per_step / told.seconds_per_step
    assert said["tokens_per_second"] == pytest.approx(rate, rel=0.02)


def test_the_passport_and_the_report_hold_forecast_and_measured(run: Path) -> None:
    passport = json.loads((run / "passport.json").read_text(encoding="utf-8"))
    assert passport["forecast"] == plan_of(run)["forecast"]
    report = (run / "report.html").read_text(encoding="utf-8")
    memory = passport["forecast"]["peak_bytes"] / 2**30
    measured = passport["machine"]["peak_rss_of_process_bytes"] / 2**30
    assert f"<td>Memory of a process (GiB)<td>{memory:.3g}<td>{measured:.3g}" in report


def test_memory_and_time_are_said_before_the_first_step(
    lessons: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(config(lessons, tmp_path / "run"))
    said = capsys.readouterr().err
    plan, _, steps = said.partition("step 0:")
    assert "GiB free; about 0:0" in plan
    assert "tokens/s" in plan
    assert steps
    assert "missing" not in said


def test_what_will_not_fit_is_said_before_loading_and_tried(
    lessons: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tongwen.train.foresight.free_memory", lambda *_: 2**27)
    out = tmp_path / "run"
    settings = FinetuneConfig(
        data=[lessons / "chat"], model=run, out=out, steps=1, threads=1, method="lora"
    )
    result = finetune(settings)
    first = capsys.readouterr().err.splitlines()[0]
    assert "GiB of memory are missing by forecast" in first
    assert f"`tongwen forecast {out} --fit`" in first
    assert result.steps == 1


def test_a_forecast_changes_no_draw_and_no_result(
    lessons: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tongwen.train.stages.foreseen", lambda *_: None)
    pretrain(config(lessons, tmp_path / "run"))
    assert plan_of(tmp_path / "run")["forecast"] is None
    ours, theirs = (at / "final" / "model.safetensors" for at in (tmp_path / "run", run))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("lengths", [[1], [128, 129, 5], [64, 1000, 128, 300, 300]])
def test_documents_are_laid_out_as_attention_lays_them_out(lengths: list[int]) -> None:
    shapes = Packing.of(lengths).shapes
    tokens = sum(n * width for n, width in shapes)
    assert laid_out(np.array(lengths)) == (tokens, sum(n * width**2 for n, width in shapes))


def test_small_models_reach_less_of_the_peak() -> None:
    shares = [
        forecast(ForecastConfig(size=size, tokens=10**6, machine="Xeon")).efficiency
        for size in ("1m", "25m", "135m")
    ]
    assert shares == sorted(shares)
    assert shares[0] < 0.5 * shares[2] < 0.5
