"""What `test_processes` does in several processes, all of it in the same ones: starting takes long.

RANK=0 WORLD_SIZE=2 … python together.py LESSONS OUT
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from tongwen import AlignConfig, FinetuneConfig, PretrainConfig, align, finetune, pretrain
from tongwen.engine import Sampling
from tongwen.models import load_model
from tongwen.tokenizer import load_tokenizer
from tongwen.train import stages
from tongwen.train.checkpoint import Position, load_checkpoint, save_checkpoint
from tongwen.train.folders import ModelFolder
from tongwen.train.optim import new_optimizer
from tongwen.train.processes import exchange, joined, leads, world

STEPS, HALF = 8, 4
SHARDED: dict[str, Any] = {"shard": "full"}
INEXACT: dict[str, Any] = {"allow_inexact": True}
# Steps of about one item: most leave a process without a micro-batch.
SCARCE: dict[str, Any] = {"batch_tokens": 60, "micro_batch_tokens": 60, "lr": 3e-4}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "dpo": ("align", {}),
    "dpo-lora": ("align", {"method": "lora", "lora_dropout": 0.1}),
    "orpo": ("align", {"objective": "orpo"}),
    "qlora": ("finetune", {"method": "qlora", "lora_dropout": 0.1, "neftune": 5.0}),
    "average": ("finetune", {"average": "ema"}),
    "frozen": ("finetune", {"freeze_layers": 2}),
    "muon": ("finetune", {"optimizer": "muon"}),
    "adamw8bit": ("finetune", {"optimizer": "adamw8bit"}),
    "mezo": ("finetune", {"optimizer": "mezo"}),
}
SHARDABLE = ("dpo", "dpo-lora", "orpo", "qlora", "average", "frozen")
LORA: dict[str, Any] = {"method": "lora", "precision": "bf16", "checkpointing": True}


def pretrain_config(lessons: Path, out: Path, **changes: Any) -> PretrainConfig:
    settings: dict[str, Any] = {
        "data": [lessons / "text"], "out": out, "size": "1m", "context": 256, "steps": STEPS,
        "batch_tokens": 600, "micro_batch_tokens": 150, "lr": 3e-3, "eval_every": STEPS,
        "save_every": HALF, "threads": 1, "precision": "fp32",
    }  # fmt: skip
    return PretrainConfig(**{**settings, **changes})


def finetune_config(lessons: Path, out: Path, model: Path, **changes: Any) -> FinetuneConfig:
    return FinetuneConfig(
        data=[lessons / "chat"], out=out, model=model, steps=HALF, batch_tokens=600, threads=1,
        eval_every=HALF, **changes,
    )  # fmt: skip


def every_method(lessons: Path, out: Path, model: Path) -> None:
    """Learn in every way, whole and in shards."""
    for name, (verb, changes) in METHODS.items():
        data = out / "pairs.jsonl" if verb == "align" else lessons / "chat"
        kind: Any = AlignConfig if verb == "align" else FinetuneConfig
        learn: Any = align if verb == "align" else finetune
        for shard in ("none", "full"):
            if shard == "full" and (name not in SHARDABLE or world() == 1):
                continue
            config = kind(
                data=[data], out=out / f"{name}-{shard}-{world()}", model=model, steps=HALF,
                batch_tokens=600, micro_batch_tokens=200, threads=1, eval_every=HALF,
                precision="fp32", shard=shard, **changes,
            )  # fmt: skip
            learn.__wrapped__(config)


def place_of(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:09}"


def half_of(run: Path, copy: Path) -> None:
    """A copy of a run as it was when half of its steps were done."""
    if leads():
        shutil.copytree(run, copy)
        (copy / "passport.json").unlink()
        shutil.rmtree(copy / "final")
        shutil.rmtree(place_of(copy, STEPS))
    exchange(None)


def reload(lessons: Path, run: Path, out: Path, changes: dict[str, Any]) -> None:
    """Save what is loaded from the checkpoint of another run, before any step."""
    config = pretrain_config(lessons, out, **changes)
    model = load_model(place_of(run, HALF), torch.float32)
    optimizer = new_optimizer(model, config, torch.float32, STEPS)
    form = ModelFolder(model, load_tokenizer(lessons / "text"))
    at = load_checkpoint(place_of(run, HALF), optimizer, form)
    assert at == Position(HALF, at.tokens, at.trained_tokens, at.seconds, at.flops)
    save_checkpoint(out / "checkpoints", at, optimizer, form)


def main(lessons: Path, out: Path) -> None:
    stages.SAMPLE = Sampling(max_new_tokens=4, temperature=0.0)
    learn: Any = pretrain.__wrapped__  # type: ignore[attr-defined]
    teach: Any = finetune.__wrapped__  # type: ignore[attr-defined]
    with joined():
        for name, changes in (("divided", {}), ("sharded", SHARDED), ("scarce", SCARCE)):
            learn(pretrain_config(lessons, out / name, **changes))
        learn(pretrain_config(lessons, out / "scarce-sharded", **SCARCE, **SHARDED))
        for name, of, changes in (
            ("divided-again", "divided", {}),
            ("sharded-again", "sharded", SHARDED),
            ("gathered", "sharded", INEXACT),
            ("scattered", "divided", SHARDED | INEXACT),
        ):
            half_of(out / of, out / name)
            learn(pretrain_config(lessons, out / name, **changes))
        reload(lessons, out / "divided", out / "reloaded", SHARDED)
        for name, changes in (("lora", LORA), ("lora-sharded", LORA | SHARDED)):
            teach(finetune_config(lessons, out / name, out / "divided", **changes))


if __name__ == "__main__":
    places = [Path(word) for word in sys.argv[1:]]
    if len(places) == 2:
        main(*places)
    else:
        with joined():
            every_method(*places)
