"""Runs on mixed folders: they take what they were told, and refuse what cannot be mixed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tongwen import PretrainConfig, pretrain
from tongwen.config import DataPrepareConfig
from tongwen.data import TokenStore, data_prepare
from tongwen.errors import ConfigError, DataError
from tongwen.train.run import read_metrics


def config(lessons: Path, out: Path, **changes: Any) -> PretrainConfig:
    settings: dict[str, Any] = {
        "data": [lessons / "text", lessons / "chat"], "out": out, "size": "1m", "context": 256,
        "steps": 4, "batch_tokens": 600, "micro_batch_tokens": 600, "threads": 1,
        "precision": "fp32",
    }  # fmt: skip
    return PretrainConfig(**{**settings, **changes})


def mean_length(folder: Path) -> float:
    return float(np.mean(TokenStore.open(folder, "train").lengths))


def test_a_run_takes_its_quota(
    lessons: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = pretrain(config(lessons, tmp_path / "run", quota=[6, 2], micro_batch_tokens=200))
    expected = 6 * mean_length(lessons / "text") + 2 * mean_length(lessons / "chat")
    assert result.tokens / result.steps == pytest.approx(expected, rel=0.4)
    steps = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in r]
    assert len(steps) == 4
    last = max(-(-len(TokenStore.open(lessons / name, "train")) // taken)
               for name, taken in (("text", 6), ("chat", 2)))  # fmt: skip
    said = f"4 steps of about {round(expected):,} tokens ({4 / last:.2f} epochs)"
    assert said in capsys.readouterr().err


def test_a_run_takes_its_shares_and_goes_on_where_it_was(lessons: Path, tmp_path: Path) -> None:
    changes = {"mix": [3, 1], "incomplete": "drop", "exhausted": "drop"}
    result = pretrain(config(lessons, tmp_path / "run", **changes))
    assert result.tokens / result.steps == pytest.approx(600, rel=0.2)
    again = pretrain(config(lessons, tmp_path / "run", **changes))
    assert again == result


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mix": [1]}, "--mix has 1 numbers for the 2 folders"),
        ({"quota": [1, 2, 3]}, "--quota has 3 numbers for the 2 folders"),
    ],
)
def test_a_number_for_each_folder(
    lessons: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrain(config(lessons, tmp_path / "run", **changes))


def test_what_cannot_be_mixed_is_refused(lessons: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="mix and quota are given together"):
        config(lessons, tmp_path / "run", mix=[1, 1], quota=[1, 1])
    data = [lessons / "text", lessons / "chat.jsonl"]
    with pytest.raises(ConfigError, match=r"--mix takes prepared folders, and .*chat.jsonl is"):
        pretrain(config(lessons, tmp_path / "run", mix=[1, 1], data=data))
    with pytest.raises(DataError, match=r"chat has less than a step takes of it"):
        pretrain(config(lessons, tmp_path / "run", quota=[1, 10_000], incomplete="drop"))
    assert not (tmp_path / "run").exists()


def test_judged_answers_are_not_learned_alike(lessons: Path, tmp_path: Path) -> None:
    source = tmp_path / "pairs.jsonl"
    pair = {
        "prompt": [{"role": "user", "content": "1 + 1?"}],
        "chosen": [{"role": "assistant", "content": "2"}],
        "rejected": [{"role": "assistant", "content": "3"}],
    }
    source.write_text(json.dumps(pair) + "\n", encoding="utf-8")
    fields = {"sources": [source], "out": tmp_path / "out", "hold_out": 0}
    tokenizer = lessons / "tokenizer"
    data_prepare(DataPrepareConfig.model_validate({**fields, "tokenizer": tokenizer}))
    with pytest.raises(DataError, match=r"judged answers \(1 chosen, 1 rejected\), and pretrain"):
        pretrain(config(lessons, tmp_path / "run", data=[tmp_path / "out"]))
