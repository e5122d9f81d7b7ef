"""Whole runs: they learn, they stop and go on to the same bytes, and they refuse what is wrong."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tongwen import FinetuneConfig, PretrainConfig, finetune, pretrain
from tongwen.errors import ConfigError, DataError, RunError
from tongwen.files import sha256_file
from tongwen.models import load_model
from tongwen.train.run import read_metrics


def pretrain_config(lessons: Path, out: Path, **changes: Any) -> PretrainConfig:
    settings: dict[str, Any] = {
        "data": [lessons / "text"], "out": out, "size": "1m", "context": 256, "steps": 8,
        "batch_tokens": 600, "micro_batch_tokens": 600, "lr": 3e-3, "eval_every": 4,
        "threads": 1, "precision": "fp32",
    }  # fmt: skip
    return PretrainConfig(**{**settings, **changes})


def weights(out: Path) -> str:
    return sha256_file(out / "final" / "model.safetensors")


@pytest.fixture(scope="module")
def run(lessons: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "pretrain"
    result = pretrain(pretrain_config(lessons, out))
    assert result.steps == 8
    return out


def test_a_run_leaves_what_the_documentation_says(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"config.toml", "metrics.jsonl", "final", "passport.json", "report.html"} <= names
    records = read_metrics(run / "metrics.jsonl")
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == list(range(1, 9))
    evaluations = [record for record in records if "bits_per_byte" in record]
    assert [record["step"] for record in evaluations] == [0, 4, 8]
    assert evaluations[0]["held_out_loss"] == pytest.approx(math.log(500), abs=0.2)
    assert evaluations[-1]["bits_per_byte"] < evaluations[0]["bits_per_byte"]
    assert {record["prompt"] for record in records if "sample" in record} == {"", "The", "今天"}
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "<svg" in report
    assert "http" not in report.replace("http://www.w3.org", "")
    model = load_model(run, torch.float32)
    assert model.config.architectures == ["LlamaForCausalLM"]


def test_the_same_seed_gives_the_same_weights(lessons: Path, run: Path, tmp_path: Path) -> None:
    pretrain(pretrain_config(lessons, tmp_path / "again"))
    assert weights(tmp_path / "again") == weights(run)
    pretrain(pretrain_config(lessons, tmp_path / "other", seed=1))
    assert weights(tmp_path / "other") != weights(run)


def test_a_finished_run_is_not_run_again(
    lessons: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = weights(run)
    pretrain(pretrain_config(lessons, run))
    assert "finished already" in capsys.readouterr().err
    assert weights(run) == before


def test_cutting_a_step_into_micro_batches_changes_nothing(
    lessons: Path, run: Path, tmp_path: Path
) -> None:
    pretrain(pretrain_config(lessons, tmp_path / "cut", micro_batch_tokens=150))
    ours, theirs = (
        [r["loss"] for r in read_metrics(out / "metrics.jsonl") if "loss" in r]
        for out in (tmp_path / "cut", run)
    )
    assert ours == pytest.approx(theirs, abs=2e-4)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_command_goes_on_to_the_same_weights(
    lessons: Path, tmp_path: Path, number: signal.Signals
) -> None:
    changes = {"precision": "bf16", "schedule": "wsd", "micro_batch_tokens": 250}
    pretrain(pretrain_config(lessons, tmp_path / "whole", **changes))
    config = pretrain_config(lessons, tmp_path / "killed", save_every=2, **changes)
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, tongwen.cli\nsys.exit(tongwen.cli.main(sys.argv[1:]))\n", encoding="utf-8"
    )
    settings = tmp_path / "settings.toml"
    settings.write_text(config.toml(), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script), "pretrain", "--config", str(settings)],
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("checkpoints/step-*")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate()
    # On a fast machine the run may have ended before the signal came.
    if process.returncode:
        assert process.returncode == {"SIGKILL": -9, "SIGTERM": 143}[number.name]
        assert number == signal.SIGKILL or "the same command goes on from here" in said
    pretrain(config)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    killed, whole = (
        read_metrics(tmp_path / name / "metrics.jsonl") for name in ("killed", "whole")
    )
    for key in ("loss", "held_out_loss", "sample"):
        assert [(r["step"], r[key]) for r in killed if key in r] == [
            (r["step"], r[key]) for r in whole if key in r
        ]


def test_a_damaged_checkpoint_is_passed_over(
    lessons: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "damaged"
    config = pretrain_config(lessons, out, save_every=2)
    pretrain(config)
    for path in (out / "passport.json",):
        path.unlink()
    for path in (out / "final").iterdir():
        path.unlink()
    (out / "final").rmdir()
    newest = max((out / "checkpoints").iterdir()) / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    pretrain(config)
    said = capsys.readouterr().err
    assert "is damaged; it is set aside as .damaged-step-000000008 and passed over" in said
    assert (out / "checkpoints" / ".damaged-step-000000008").is_dir()
    assert "continuing from step 6" in said
    assert weights(out) == weights(run)


def test_other_settings_do_not_continue_a_run(lessons: Path, run: Path) -> None:
    with pytest.raises(RunError, match=r"lr was 0\.003, is now 0\.001"):
        pretrain(pretrain_config(lessons, run, lr=1e-3))


def test_a_run_that_has_learned_nothing_begins_anew(lessons: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = tmp_path / "model"
    pretrain(pretrain_config(lessons, model, steps=1))
    settings: dict[str, Any] = {
        "data": [lessons / "chat"], "out": out, "model": model, "method": "lora", "steps": 1,
        "threads": 1,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="q_prog"):
        finetune(FinetuneConfig(**settings, lora_targets=["q_prog"]))
    (out / "reference").mkdir()
    finetune(FinetuneConfig(**settings, lora_targets=["q_proj"]))
    assert not (out / "reference").exists()
    assert (out / "final").is_dir()


def test_moved_data_continue_a_run_and_changed_data_do_not(lessons: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(lessons / "text", moved)
    out = tmp_path / "out"
    pretrain(pretrain_config(lessons, out, steps=2))
    pretrain(pretrain_config(lessons, out, steps=2, data=[moved]))
    manifest = moved / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(RunError, match="other inputs: data 1 was"):
        pretrain(pretrain_config(lessons, out, steps=2, data=[moved]))


def test_a_folder_with_something_else_is_left_alone(lessons: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").touch()
    with pytest.raises(RunError, match=r"holds something else: thesis\.doc"):
        pretrain(pretrain_config(lessons, tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.doc", "owner.lock"}


def test_items_longer_than_the_window_are_refused(lessons: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than the 16 that the model can see") as caught:
        pretrain(pretrain_config(lessons, tmp_path / "out", context=16))
    assert caught.value.hint == "prepare it again with `--max-length 16`"


def test_a_folder_has_one_owner(lessons: Path, tmp_path: Path) -> None:
    from tongwen.train.run import Run

    config = pretrain_config(lessons, tmp_path / "owned")
    with Run(config.out, config, {}), pytest.raises(RunError, match="another process is training"):
        pretrain(config)


def test_wsd_keeps_the_checkpoint_before_the_decay(lessons: Path, tmp_path: Path) -> None:
    out = tmp_path / "wsd"
    pretrain(pretrain_config(lessons, out, schedule="wsd", decay=0.5, save_every=1, keep=1))
    names = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert names == ["step-000000004", "step-000000008"]


def test_a_loss_that_is_not_finite_never_reaches_the_weights(lessons: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the weights were left as they are"):
        pretrain(pretrain_config(lessons, tmp_path / "nan", lr=1e30, clip=0.0, warmup=0.0))
    assert not (tmp_path / "nan" / "final").exists()


def test_fine_tuning_on_a_raw_file_prepares_it(lessons: Path, run: Path, tmp_path: Path) -> None:
    before = load_file(run / "final" / "model.safetensors")
    result = finetune(
        FinetuneConfig(
            model=run,
            data=[lessons / "chat.jsonl"],
            out=tmp_path / "ft",
            steps=6,
            batch_tokens=600,
            threads=1,
            lr=3e-3,
        )
    )
    manifest = json.loads((tmp_path / "ft" / "data" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["balance"]["rows_in"] == 160
    assert before.keys() == load_file(tmp_path / "ft" / "final" / "model.safetensors").keys()
    losses = [r["loss"] for r in read_metrics(tmp_path / "ft" / "metrics.jsonl") if "loss" in r]
    assert losses[-1] < losses[0]
    assert result.trained_tokens < result.tokens


def test_data_of_another_tokenizer_is_refused(lessons: Path, run: Path, tmp_path: Path) -> None:
    from tongwen.config import DataPrepareConfig
    from tongwen.data import data_prepare

    other = tmp_path / "other"
    data_prepare(DataPrepareConfig(sources=[lessons / "chat.jsonl"], out=other, vocab_size=400))
    with pytest.raises(DataError, match="another tokenizer"):
        finetune(FinetuneConfig(model=run, data=[other], out=tmp_path / "ft"))
