"""Twenty steps of ours equal those of transformers, PEFT and TRL on the same batches, in fp32.

The peers are installed in an environment of their own by benchmarks/environments.py, where the
script benchmarks/peers/parity.py trains. It is given the rows of every step of our run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from safetensors.torch import load_file

from tongwen import AlignConfig, DataPrepareConfig, FinetuneConfig, align, data_prepare, finetune
from tongwen.config import TrainConfig
from tongwen.data import TokenStore
from tongwen.lessons import Course
from tongwen.models import new_model
from tongwen.tokenizer import save_tokenizer, train_tokenizer
from tongwen.train.batch import Items
from tongwen.train.inputs import planned
from tongwen.train.result import TrainResult

ROOT = Path(__file__).resolve().parents[2]
STEPS = 20
ROWS = 4
CLOSE = 1e-4
Method = Literal["full", "lora", "dpo"]

pytestmark = pytest.mark.peers


@dataclass(frozen=True)
class Material:
    """A random model, and what it is to learn from."""

    model: Path
    conversations: Path
    preferences: Path


@dataclass(frozen=True)
class Outcome:
    """The loss of every step, and the weights in the end."""

    losses: list[float]
    weights: Path

    def moved(self) -> float:
        """By how much the loss changed at all."""
        return max(self.losses) - min(self.losses)

    def far(self, other: Outcome) -> tuple[float, float]:
        """By how much losses and weights differ at most."""
        losses = zip(self.losses, other.losses, strict=True)
        ours, theirs = load_file(self.weights), load_file(other.weights)
        assert ours.keys() == theirs.keys()
        return (
            max(abs(a - b) for a, b in losses),
            max(float((ours[name] - theirs[name]).abs().max()) for name in ours),
        )


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter that has the peers."""
    command = [sys.executable, str(ROOT / "benchmarks" / "environments.py"), "trl"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("parity")
    exercises: list[Any] = [row.item.to_record() for row in Course(0).exercises(STEPS * ROWS)]
    tokenizer = train_tokenizer(map(str, exercises), 400)
    new_model("1m", len(tokenizer), 1024, seed=0).save_pretrained(folder / "model")
    save_tokenizer(tokenizer, folder / "model")
    pairs = [
        {"prompt": one["messages"][:-1], "chosen": one["messages"][-1:], "rejected": wrong}
        for one, other in zip(exercises, exercises[1:] + exercises[:1], strict=True)
        for wrong in [other["messages"][-1:]]
    ]
    for name, rows in (("conversations", exercises), ("preferences", pairs)):
        source = folder / f"{name}.json"
        source.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        data_prepare(
            DataPrepareConfig(
                sources=[source], out=folder / name, tokenizer=folder / "model", hold_out=0.0
            )
        )
    return Material(folder / "model", folder / "conversations", folder / "preferences")


def settings(material: Material, method: Method, folder: Path) -> dict[str, Any]:
    return {
        "model": material.model,
        "data": [material.preferences if method == "dpo" else material.conversations],
        "out": folder / "ours",
        "steps": STEPS,
        "batch_rows": ROWS,
        # Several micro-batches a step, where the peers have one.
        "micro_batch_tokens": 300,
        "lr": 3e-4,
        "schedule": "constant",
        "warmup": 0.0,
        "weight_decay": 0.0,
        "clip": 0.5,
        "precision": "fp32",
        "threads": 1,
    }


def rows(config: TrainConfig, group: int) -> list[dict[str, Any]]:
    """The items of every step of our run, in order, as ids and masks."""
    items = Items([TokenStore.open(folder, "train") for folder in config.data])
    lengths = items.lengths.reshape(-1, group).sum(1)
    plan, steps = planned(config, [lengths], config.data)
    numbers = [
        int(one) * group + place
        for step in range(steps)
        for part in plan.step(step)
        for one in part
        for place in range(group)
    ]
    return [{"ids": items.ids(n).tolist(), "mask": items.mask(n).tolist()} for n in numbers]


def theirs(
    python: str, method: Method, config: FinetuneConfig | AlignConfig, folder: Path
) -> Outcome:
    """What the peers make of the same rows."""
    job = {
        "method": method,
        "model": str(config.model),
        "items": rows(config, 2 if method == "dpo" else 1),
        "rows": ROWS,
        "lr": config.lr,
        "betas": config.betas,
        "eps": config.eps,
        "clip": config.clip,
        "threads": 1,
        "start": str(folder / "start"),
        "out": str(folder / "theirs"),
    }
    file = folder / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    script = ROOT / "benchmarks" / "peers" / "parity.py"
    command = [python, str(script), str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    losses = json.loads((folder / "theirs" / "losses.json").read_text(encoding="utf-8"))
    return Outcome(losses, weights_in(folder / "theirs"))


def ours(result: TrainResult) -> Outcome:
    lines = (result.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [record["loss"] for record in map(json.loads, lines) if "loss" in record]
    return Outcome(losses, weights_in(result.model))


def weights_in(folder: Path) -> Path:
    [file] = folder.glob("*model.safetensors")
    return file


def test_full_training_is_that_of_transformers(
    python: str, material: Material, tmp_path: Path
) -> None:
    config = FinetuneConfig(**settings(material, "full", tmp_path))
    reference = theirs(python, "full", config, tmp_path)
    loss, weight = ours(finetune(config)).far(reference)
    assert reference.moved() > 0.1
    assert loss < CLOSE
    assert weight < CLOSE


def test_lora_is_that_of_peft(python: str, material: Material, tmp_path: Path) -> None:
    adapter = {
        "method": "lora",
        "lora_r": 4,
        "lora_alpha": 8.0,
        "warm_start": tmp_path / "start",
        "lr": 1e-3,
    }
    config = FinetuneConfig(**(settings(material, "lora", tmp_path) | adapter))
    reference = theirs(python, "lora", config, tmp_path)
    loss, weight = ours(finetune(config)).far(reference)
    assert reference.moved() > 0.1
    assert loss < CLOSE
    assert weight < CLOSE


def test_dpo_is_that_of_trl(python: str, material: Material, tmp_path: Path) -> None:
    config = AlignConfig(**settings(material, "dpo", tmp_path), objective="dpo", beta=0.1)
    reference = theirs(python, "dpo", config, tmp_path)
    loss, weight = ours(align(config)).far(reference)
    assert reference.moved() > 0.1
    assert loss < CLOSE
    assert weight < CLOSE
