"""Whole runs that learn less than a model: they learn, they go on to the same bytes, they load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tongwen import ConfigError, FinetuneConfig, PretrainConfig, finetune, pretrain
from tongwen.engine import Sampling
from tongwen.engine.local import load_engine
from tongwen.errors import ModelError, RunError
from tongwen.files import sha256_file
from tongwen.models import load_model, new_model
from tongwen.tokenizer import load_tokenizer, save_tokenizer
from tongwen.train.run import read_metrics

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", "lora_dropout": 0.1, "neftune": 5.0},
    "qlora": {"method": "qlora", "lora_dropout": 0.1, "precision": "bf16"},
    "int8": {"method": "qlora", "quant": "int8", "modules_to_save": ["embed_tokens"]},
    "prefix": {"method": "prefix", "prefix_tokens": 4},
}


@pytest.fixture(scope="module")
def base(lessons: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows nothing yet, with a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "base"
    tokenizer = load_tokenizer(lessons / "tokenizer")
    new_model("1m", len(tokenizer), 256, seed=0).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return folder


def config(lessons: Path, base: Path, out: Path, **changes: Any) -> FinetuneConfig:
    settings: dict[str, Any] = {
        "model": base, "data": [lessons / "chat"], "out": out, "steps": 4, "batch_tokens": 300,
        "lr": 1e-2, "save_every": 2, "keep": 9, "eval_every": 4, "threads": 1, "precision": "fp32",
    }  # fmt: skip
    return FinetuneConfig(**{**settings, **changes})


def weights(out: Path) -> str:
    return sha256_file(out / "final" / "adapter_model.safetensors")


@pytest.mark.parametrize("changes", METHODS.values(), ids=list(METHODS))
def test_it_learns_goes_on_to_the_same_bytes_and_answers(
    lessons: Path, base: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = config(lessons, base, tmp_path / "whole", **changes)
    finetune(whole)
    metrics = read_metrics(whole.out / "metrics.jsonl")
    losses = [record["held_out_loss"] for record in metrics if "held_out_loss" in record]
    assert losses[-1] < losses[0]
    for place in (whole.out / "checkpoints").iterdir():
        held = {path.name for path in place.iterdir() if path.suffix == ".safetensors"}
        assert held == {"adapter_model.safetensors", "optimizer.safetensors"}
    # As a process that was killed after its first checkpoint leaves it.
    broken = config(lessons, base, tmp_path / "broken", **changes)
    shutil.copytree(whole.out, broken.out)
    shutil.rmtree(broken.out / "final")
    (broken.out / "passport.json").unlink()
    shutil.rmtree(broken.out / "checkpoints" / "step-000000004")
    finetune(broken)
    assert weights(broken.out) == weights(whole.out)
    engine = load_engine(whole.out)
    sampling = Sampling(max_new_tokens=3, temperature=0.0)
    assert isinstance("".join(engine.complete("The", sampling)), str)


def test_micro_batches_draw_the_masks_of_the_whole_step(
    lessons: Path, base: Path, tmp_path: Path
) -> None:
    settings = {**METHODS["lora"], "lora_dropout": 0.3}
    found = []
    for tokens in (300, 100):
        out = tmp_path / str(tokens)
        finetune(config(lessons, base, out, micro_batch_tokens=tokens, steps=2, **settings))
        found.append([r["loss"] for r in read_metrics(out / "metrics.jsonl") if "loss" in r])
    assert found[0] == pytest.approx(found[1], abs=2e-5)


def test_frozen_layers_keep_their_weights(lessons: Path, base: Path, tmp_path: Path) -> None:
    finetune(config(lessons, base, tmp_path / "run", freeze_layers=2, freeze_embeddings=True))
    before = load_file(base / "model.safetensors")
    after = load_file(tmp_path / "run" / "final" / "model.safetensors")
    frozen = ("model.embed_tokens.", "model.layers.0.", "model.layers.1.")
    for name, weight in after.items():
        assert torch.equal(weight, before[name]) == name.startswith(frozen), name


def test_an_adapter_is_refused_where_it_cannot_be(
    lessons: Path, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="needs a model that knows something"):
        pretrain(PretrainConfig(data=[lessons / "text"], out=tmp_path / "a", method="lora"))
    finetune(config(lessons, base, tmp_path / "first", method="lora", steps=1))
    with pytest.raises(ConfigError, match="is an adapter"):
        finetune(config(lessons, tmp_path / "first", tmp_path / "b", method="lora"))
    assert not (tmp_path / "b").exists()
    assert load_model(tmp_path / "first", torch.float32).config.model_type == "llama"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora_r": 4}, "has r 8, and this run has 4"),
        ({"lora_alpha": 8.0}, r"has lora_alpha 16\.0, and this run has 8\.0"),
        ({"rslora": True}, "has use_rslora None, and this run has True"),
        ({"lora_targets": ["q_proj"]}, "lora_A, and nothing is to learn"),
        ({"dora": True}, r"holds nothing for .*magnitude"),
    ],
)
def test_an_adapter_of_other_settings_is_not_gone_on_from(
    lessons: Path, base: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    first = config(lessons, base, tmp_path / "first", method="lora", steps=1)
    finetune(first)
    with pytest.raises(RunError, match=said):
        finetune(
            config(lessons, base, tmp_path / "x", method="lora", warm_start=first.out, **changes)
        )


def test_an_adapter_of_another_base_is_not_gone_on_from(
    lessons: Path, base: Path, tmp_path: Path
) -> None:
    first = config(lessons, base, tmp_path / "first", method="lora", steps=1)
    finetune(first)
    finetune(config(lessons, base, tmp_path / "on", method="lora", warm_start=first.out))
    other = tmp_path / "other"
    new_model("1m", len(load_tokenizer(base)), 256, seed=1).save_pretrained(other)
    save_tokenizer(load_tokenizer(base), other)
    with pytest.raises(ModelError, match="was trained on another model than --model"):
        finetune(config(lessons, other, tmp_path / "x", method="lora", warm_start=first.out))
    with pytest.raises(RunError, match="holds no adapter, and an adapter is to learn"):
        finetune(config(lessons, base, tmp_path / "y", method="lora", warm_start=other))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora_r": 4}, "lora_r is a setting of method lora and qlora, and method is full"),
        ({"method": "lora", "quant": "int8"}, "quant is a setting of method qlora"),
        ({"method": "prefix", "dora": True}, "dora is a setting of method lora and qlora"),
        ({"method": "lora", "freeze_layers": 1}, "freeze_layers is a setting of method full"),
        ({"optimizer": "mezo", "neftune": 5.0}, "neftune acts where gradients are computed"),
    ],
)
def test_settings_of_another_method_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FinetuneConfig(model=Path("m"), data=[Path("d")], out=Path("o"), **settings)
