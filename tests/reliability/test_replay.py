"""A step looked at again is the step that was, and the item that spoils it is named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.reliability import material

import tongwen
from tongwen.alignment.stage import align
from tongwen.config import AlignConfig, FinetuneConfig, PretrainConfig, ReplayConfig
from tongwen.errors import RunError
from tongwen.replays import ReplayResult, replay
from tongwen.tokenizer import load_tokenizer
from tongwen.train.run import read_metrics

SETTINGS: dict[str, Any] = {
    "steps": 4, "batch_tokens": 160, "micro_batch_tokens": 80, "save_every": 3, "threads": 1,
    "precision": "fp32", "lr": 1e-2,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model and its data."""
    folder = tmp_path_factory.mktemp("made")
    material.make(folder)
    return folder


@pytest.fixture(scope="module")
def pretrained(made: Path) -> Path:
    out = made / "pretrained"
    places: dict[str, Any] = {"model": made / "model", "data": [made / "text"], "out": out}
    tongwen.pretrain(PretrainConfig(**SETTINGS, **places))
    return out


@pytest.fixture(scope="module")
def aligned(made: Path) -> Path:
    out = made / "aligned"
    places: dict[str, Any] = {"model": made / "model", "data": [made / "pairs"], "out": out}
    align(AlignConfig(**SETTINGS | {"lr": 1e-3}, **places))
    return out


@pytest.mark.parametrize("step", [1, 3, 4])
@pytest.mark.parametrize("run", ["pretrained", "aligned"])
def test_a_step_again_is_the_step_that_was(
    run: str, step: int, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(run)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = replay(ReplayConfig(run=folder, step=step))
    steps = [one for one in read_metrics(folder / "metrics.jsonl") if "loss" in one]
    was = steps[step - 1]
    assert (result.loss, result.gradient_norm) == (was["loss"], was["grad_norm"])
    assert math.fsum(item.loss for item in result.items) == pytest.approx(was["loss"], abs=1e-5)
    assert sum(item.trained_tokens for item in result.items) == was["trained_tokens"]
    assert {len(item.items) for item in result.items} == {2 if run == "aligned" else 1}
    assert "every item is finite" in str(result)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_item_that_is_not_finite_is_named(made: Path) -> None:
    """Of a token whose embedding is broken there is one item in the data."""
    broken = made / "broken"
    tokenizer = load_tokenizer(made / "model")
    tokenizer.save_pretrained(broken)
    (broken / "config.json").write_bytes((made / "model" / "config.json").read_bytes())
    weights = load_file(made / "model" / "model.safetensors")
    (token,) = tokenizer.encode("7", add_special_tokens=False)
    weights["model.embed_tokens.weight"][token] = math.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    out = made / "spoilt"
    places: dict[str, Any] = {"model": broken, "data": [made / "chat"], "out": out}
    config = FinetuneConfig(**SETTINGS | {"steps": 12, "save_every": 0}, **places)
    with pytest.raises(RunError, match="the weights were left as they are") as caught:
        tongwen.finetune(config)
    assert caught.value.hint is not None
    assert f"`tongwen replay {out}`" in caught.value.hint
    told = json.loads((out / "not-finite.json").read_text(encoding="utf-8"))
    result = replay(ReplayConfig(run=out))
    assert result.step == told["step"] > 1
    saved = out / "checkpoints" / f"step-{told['step'] - 1:09}" / "model.safetensors"
    spoilt = load_file(saved)["model.embed_tokens.weight"]
    assert torch.isfinite(spoilt).all(dim=1).sum() == len(spoilt) - 1
    wrong = [item for item in result.items if not item.finite]
    assert wrong
    assert all("7" in item.text for item in wrong)
    assert len(wrong) < len(result.items)
    assert f"item {wrong[0].name} of {made / 'chat'}" in str(result)
    with pytest.raises(RunError, match="the weights were left as they are"):
        tongwen.finetune(config)


def test_what_cannot_be_replayed_is_said(pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has no step 9: it ends with step 4"):
        replay(ReplayConfig(run=pretrained, step=9))
    with pytest.raises(RunError, match="holds no run"):
        replay(ReplayConfig(run=tmp_path))


def test_a_long_step_is_shown_in_part(pretrained: Path) -> None:
    result: ReplayResult = replay(ReplayConfig(run=pretrained, step=1, rows=2))
    assert f"and {len(result.items) - 2} more" in str(result)
