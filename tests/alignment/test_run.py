"""Whole runs of `tongwen align`: they learn, go on to the same bytes, and refuse other data."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.stand import interrupted_before

from tongwen import AlignConfig, align
from tongwen.alignment import reference
from tongwen.config import DataPrepareConfig
from tongwen.data import TokenStore, data_prepare
from tongwen.errors import DataError, ModelError
from tongwen.files import sha256_file
from tongwen.models import load_model
from tongwen.models.reward import load_reward_model
from tongwen.testing import tiny_model
from tongwen.train.run import read_metrics

WORDS = ("red", "green", "blue", "猫", "狗", "鸟")


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and rows of every kind: the good answer repeats the word, the bad one says no."""
    folder = tmp_path_factory.mktemp("align")
    tiny_model(folder / "model")
    asked = [f"Say {word} {number}" for number in range(8) for word in WORDS]
    said = [word for _ in range(8) for word in WORDS]
    rows = {}
    rows["pairs"] = write(
        folder / "pairs.jsonl",
        (
            {"prompt": prompt, "chosen": word, "rejected": f"no {len(word)}"}
            for prompt, word in zip(asked, said, strict=True)
        ),
    )
    rows["judged"] = write(
        folder / "judged.jsonl",
        (
            {
                "messages": [
                    {"role": "user", "content": prompt},
                    {"role": "assistant", "content": word if number % 2 else f"no {len(word)}"},
                ],
                "label": bool(number % 2),
            }
            for number, (prompt, word) in enumerate(zip(asked, said, strict=True))
        ),
    )
    rows["tasks"] = write(
        folder / "tasks.jsonl",
        ({"question": q, "answer": a} for q, a in zip(asked, said, strict=True)),
    )
    for name, source in rows.items():
        data_prepare(
            DataPrepareConfig(
                sources=[source], out=folder / name, tokenizer=folder / "model", max_length=64,
                hold_out=0.2,
            )
        )  # fmt: skip
    return folder


def settings(folder: Path, out: Path, objective: str = "dpo", **changes: Any) -> AlignConfig:
    data = {"kto": "judged", "grpo": "tasks"}.get(objective, "pairs")
    given: dict[str, Any] = {
        "model": folder / "model", "data": [folder / data], "out": out,
        "objective": objective, "steps": 6, "batch_tokens": 600, "micro_batch_tokens": 300,
        "lr": 1e-3, "warmup": 0.0, "eval_every": 3, "threads": 1, "precision": "fp32",
    }  # fmt: skip
    return AlignConfig(**{**given, **changes})


def weights(out: Path) -> str:
    return sha256_file(out / "final" / "model.safetensors")


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "dpo"
    align(settings(folder, out))
    return out


def test_dpo_learns_to_prefer(run: Path) -> None:
    records = read_metrics(run / "metrics.jsonl")
    exams = [record for record in records if "held_out_loss" in record]
    assert [record["step"] for record in exams] == [0, 3, 6]
    assert exams[0]["held_out_loss"] == pytest.approx(0.6931, abs=1e-4)
    assert exams[0]["held_out_margin"] == pytest.approx(0.0, abs=1e-4)
    assert exams[-1]["held_out_margin"] > 0.05
    steps = [record for record in records if "loss" in record]
    assert {"margin", "accuracy", "reward_chosen", "reward_rejected", "logp_chosen"} <= set(
        steps[0]
    )
    passport = json.loads((run / "passport.json").read_text(encoding="utf-8"))
    assert passport["result"]["held_out"]["held_out_accuracy"] > 0.5
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "Margin of rewards" in report
    assert "Share of judgements" in report


def test_the_reference_is_computed_once(
    folder: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is taken up again asks the reference for nothing that is there."""
    out = tmp_path / "again"
    shutil.copytree(run, out)
    for name in ("final", "checkpoints"):
        shutil.rmtree(out / name)
    (out / "passport.json").unlink()
    monkeypatch.setattr(
        reference.Reference, "_asked", lambda *_: pytest.fail("the reference was asked again")
    )
    align(settings(folder, out))
    assert weights(out) == weights(run)


def test_a_killed_reference_goes_on_where_it_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "PART", 16)
    whole = tmp_path / "whole"
    align(settings(folder, whole))
    asked = reference.Reference._asked
    calls = 0

    def dies(self: reference.Reference, batches: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return asked(self, batches)

    monkeypatch.setattr(reference.Reference, "_asked", dies)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        align(settings(folder, out))
    assert len(list((out / "reference").iterdir())) == 2
    align(settings(folder, out))
    assert calls == 3 + len(list((out / "reference").iterdir())) - 2
    for path in (whole / "reference").iterdir():
        assert (out / "reference" / path.name).read_bytes() == path.read_bytes()
    assert weights(out) == weights(whole)


CLOCKED = {"seconds", "tokens_per_second", "mfu"}


def same_runs(left: Path, right: Path) -> bool:
    """Whether two runs ended with the same bytes and recorded the same, but for the clock."""
    final, metrics = [], []
    for out in (left, right):
        final.append([sha256_file(path) for path in sorted((out / "final").glob("*.safetensors"))])
        records = read_metrics(out / "metrics.jsonl")
        metrics.append([{k: v for k, v in r.items() if k not in CLOCKED} for r in records])
    return final[0] == final[1] != [] and metrics[0] == metrics[1] != []


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("dpo", {"method": "lora"}),
        ("kto", {}),
        ("reward", {}),
        ("grpo", {"grpo_updates": 2, "grpo_group": 4, "grpo_tokens": 12}),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bytes(
    folder: Path,
    tmp_path: Path,
    objective: str,
    changes: dict[str, Any],
) -> None:
    align(settings(folder, tmp_path / "whole", objective, **changes))
    config = settings(folder, tmp_path / "stopped", objective, save_every=3, **changes)
    with interrupted_before(4):
        align(config)
    align(config)
    assert same_runs(tmp_path / "stopped", tmp_path / "whole")


def test_answers_that_are_used_twice_are_to_all_prompts(folder: Path, tmp_path: Path) -> None:
    changes = {"grpo_updates": 2, "grpo_group": 2, "grpo_tokens": 4, "steps": None}
    result = align(settings(folder, tmp_path / "out", "grpo", **changes))
    files = sorted((tmp_path / "out" / "rollouts").iterdir())
    drawn = [one["item"] for file in files for one in json.loads(file.read_text())["rollouts"]]
    prompts = len(TokenStore.open(folder / "tasks", "train"))
    assert result.steps == 2 * len(files)
    assert sorted(drawn) == sorted([*range(prompts)] * 2)


def test_a_killed_dpo_run_goes_on_to_the_same_bytes(
    folder: Path, run: Path, tmp_path: Path
) -> None:
    config = settings(folder, tmp_path / "killed", save_every=1)
    (tmp_path / "settings.toml").write_text(config.toml(), encoding="utf-8")
    program = "import sys, tongwen.cli; sys.exit(tongwen.cli.main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "align", "--config", str(tmp_path / "settings.toml")],
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("checkpoints/step-*3")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    align(config)
    assert same_runs(tmp_path / "killed", run)


@pytest.mark.parametrize("objective", ["orpo", "simpo", "kto"])
def test_the_others_learn_to_prefer(folder: Path, tmp_path: Path, objective: str) -> None:
    align(settings(folder, tmp_path / "out", objective, steps=8))
    exams = [r for r in read_metrics(tmp_path / "out" / "metrics.jsonl") if "held_out_margin" in r]
    assert exams[-1]["held_out_margin"] > exams[0]["held_out_margin"]
    assert exams[-1]["held_out_loss"] < exams[0]["held_out_loss"]


def test_a_reward_model_tells_good_from_bad(folder: Path, tmp_path: Path) -> None:
    result = align(settings(folder, tmp_path / "out", "reward", steps=20, lr=3e-3))
    assert result.held_out["held_out_accuracy"] == 1.0
    model = load_reward_model(tmp_path / "out", torch.float32)
    assert type(model).__name__ == "LlamaForSequenceClassification"
    with pytest.raises(ModelError, match="is a reward model: it judges answers and gives none"):
        load_model(tmp_path / "out", torch.float32)
    (tmp_path / "out" / "final" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match=r"the reward model in .* cannot be loaded"):
        load_reward_model(tmp_path / "out", torch.float32)


def test_another_reference(folder: Path, tmp_path: Path, run: Path) -> None:
    """The model that was trained is the reference of one that was not: it is far behind."""
    align(settings(folder, tmp_path / "out", reference=run, steps=1))
    first = next(r for r in read_metrics(tmp_path / "out" / "metrics.jsonl") if "loss" in r)
    assert first["margin"] < -0.05
    inputs = json.loads((tmp_path / "out" / "inputs.json").read_text(encoding="utf-8"))
    assert inputs["reference model.safetensors"] == weights(run)


def test_lora_keeps_the_base_and_learns(folder: Path, tmp_path: Path) -> None:
    align(settings(folder, tmp_path / "out", method="lora", lr=1e-2))
    exams = [r for r in read_metrics(tmp_path / "out" / "metrics.jsonl") if "held_out_margin" in r]
    assert exams[0]["held_out_margin"] == pytest.approx(0.0, abs=1e-4)
    assert exams[-1]["held_out_margin"] > 0.05
    names = load_file(tmp_path / "out" / "final" / "adapter_model.safetensors").keys()
    assert all("lora_" in name for name in names)
    with pytest.raises(ModelError, match="is an adapter, and no reward model"):
        load_reward_model(tmp_path / "out", torch.float32)


@pytest.mark.parametrize(
    ("objective", "data", "wrong"),
    [
        ("dpo", "tasks", r"dpo learns from chosen and rejected items, and the data holds \d+ conv"),
        ("kto", "tasks", "kto learns from good and bad and chosen and rejected items"),
        ("grpo", "pairs", r"grpo learns from conversation items, and the data holds \d+ chosen"),
    ],
)
def test_other_data_are_refused(
    folder: Path, tmp_path: Path, objective: str, data: str, wrong: str
) -> None:
    changes = {"data": [folder / data]}
    with pytest.raises(DataError, match=wrong):
        align(settings(folder, tmp_path / "out", objective, **changes))
