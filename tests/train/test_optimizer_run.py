"""Whole runs with all that the optimiser has: they go on to the same bytes, and say what is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.test_run import pretrain_config, weights

from tongwen import PretrainConfig, pretrain
from tongwen.errors import ConfigError
from tongwen.train.run import read_metrics

SETTINGS: dict[str, Any] = {
    "schedule": "wsd", "decay": 0.4, "warmup_steps": 2, "batch_ramp": 3, "batch_ramp_parts": 2,
    "average": "mean", "average_last": 0.5, "checkpointing": True, "precision": "bf16",
    "save_every": 1, "keep": 9,
}  # fmt: skip


def all_of_it(lessons: Path, out: Path, **changes: Any) -> PretrainConfig:
    return pretrain_config(
        lessons, out, **{**SETTINGS, "decay_data": [lessons / "chat"], **changes}
    )


def steps_of(out: Path) -> list[dict[str, Any]]:
    return [record for record in read_metrics(out / "metrics.jsonl") if "loss" in record]


@pytest.fixture(scope="module")
def run(lessons: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("optimizer") / "run"
    pretrain(all_of_it(lessons, out))
    return out


def test_the_batch_grows_the_rate_rises_and_the_decay_has_its_own_data(run: Path) -> None:
    steps = steps_of(run)
    assert steps[0]["tokens"] < 450 < steps[3]["tokens"]
    assert [record["lr"] for record in steps[:3]] == pytest.approx([1.5e-3, 3e-3, 3e-3])
    # Of a text every token is trained, of a conversation the answers.
    shares = [record["trained_tokens"] / record["tokens"] for record in steps]
    assert min(shares[:5]) > 0.9
    assert max(shares[5:]) < 0.8


def test_a_run_ends_with_the_average_and_is_examined_by_it(run: Path) -> None:
    final = load_file(run / "final" / "model.safetensors")
    last = [
        load_file(run / "checkpoints" / f"step-{step:09}" / "model.safetensors")
        for step in range(5, 9)
    ]
    for name, weight in final.items():
        mean = torch.stack([weights_of_step[name] for weights_of_step in last]).mean(0)
        torch.testing.assert_close(weight, mean)
    exams = [r for r in read_metrics(run / "metrics.jsonl") if "held_out_loss" in r]
    assert ["unaveraged_held_out_loss" in record for record in exams] == [False, False, True]
    told = json.loads((run / "passport.json").read_text(encoding="utf-8"))["result"]
    assert told["held_out"]["held_out_loss"] == exams[-1]["held_out_loss"]


def test_it_goes_on_to_the_same_weights(lessons: Path, run: Path, tmp_path: Path) -> None:
    """From the middle of the decay and of the average."""
    out = tmp_path / "cut"
    shutil.copytree(run, out)
    shutil.rmtree(out / "final")
    (out / "passport.json").unlink()
    for step in (7, 8):
        shutil.rmtree(out / "checkpoints" / f"step-{step:09}")
    pretrain(all_of_it(lessons, out))
    assert weights(out) == weights(run)
    assert [r["loss"] for r in steps_of(out)] == [r["loss"] for r in steps_of(run)]


def test_decay_data_must_be_prepared(lessons: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--decay-data takes prepared folders, and .*chat.jsonl"):
        pretrain(all_of_it(lessons, tmp_path / "run", decay_data=[lessons / "chat.jsonl"]))


@pytest.mark.parametrize("optimizer", ["adamw8bit", "muon"])
def test_every_optimiser_trains(lessons: Path, tmp_path: Path, optimizer: str) -> None:
    out = tmp_path / optimizer
    pretrain(pretrain_config(lessons, out, optimizer=optimizer, steps=6, batch_tokens=300))
    exams = [r for r in read_metrics(out / "metrics.jsonl") if "held_out_loss" in r]
    assert exams[-1]["held_out_loss"] < exams[0]["held_out_loss"]
