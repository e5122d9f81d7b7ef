"""Checkpoints one by one: what is believed, what is replaced, what is removed."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch

from tongwen.config import PretrainConfig
from tongwen.errors import RunError
from tongwen.files import PARTIAL
from tongwen.models import load_model
from tongwen.testing import tiny_model
from tongwen.tokenizer import load_tokenizer
from tongwen.train import checkpoint
from tongwen.train.checkpoint import (
    Position,
    is_valid,
    load_checkpoint,
    newest_valid,
    prune,
    save_checkpoint,
    step_of,
)
from tongwen.train.folders import ModelFolder
from tongwen.train.optim import Optimizer, new_optimizer


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> tuple[Optimizer, ModelFolder]:
    """An optimiser that has made a step, and its folder."""
    folder = tiny_model(tmp_path_factory.mktemp("tiny") / "model")
    model = load_model(folder, torch.float32)
    config = PretrainConfig(data=[folder], out=folder)
    optimizer = new_optimizer(model, config, torch.float32, 10)
    for master in optimizer.masters.masters:
        master.grad = torch.ones_like(master)
    optimizer.step(1e-3)
    return optimizer, ModelFolder(model, load_tokenizer(folder))


def save(checkpoints: Path, step: int, learner: tuple[Optimizer, ModelFolder]) -> Path:
    return save_checkpoint(checkpoints, Position(step), *learner)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_valid_checkpoint_is_never_written_over(
    tmp_path: Path, learner: tuple[Optimizer, ModelFolder]
) -> None:
    place = save(tmp_path, 3, learner)
    inodes = {path: path.stat().st_ino for path in place.iterdir()}
    assert save(tmp_path, 3, learner) == place
    assert inodes == {path: path.stat().st_ino for path in place.iterdir()}
    flip(place / "optimizer.safetensors")
    assert save(tmp_path, 3, learner) == place
    assert is_valid(place)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000003"]


def test_a_checkpoint_of_another_step_is_not_believed(
    tmp_path: Path, learner: tuple[Optimizer, ModelFolder]
) -> None:
    save(tmp_path, 3, learner).rename(tmp_path / "step-000000009")
    place = save(tmp_path, 4, learner)
    assert newest_valid(tmp_path) == (place, [tmp_path / "step-000000009"])


def test_a_record_that_was_edited_is_not_believed(
    tmp_path: Path, learner: tuple[Optimizer, ModelFolder]
) -> None:
    place = save(tmp_path, 3, learner)
    record = json.loads((place / "checkpoint.json").read_text(encoding="utf-8"))
    for text in (json.dumps({**record, "tokens": 7}, indent=1), json.dumps(record), "[]", "7"):
        (place / "checkpoint.json").write_text(text, encoding="utf-8")
        assert not is_valid(place)


def test_what_is_saved_is_loaded(tmp_path: Path, learner: tuple[Optimizer, ModelFolder]) -> None:
    optimizer, form = learner
    at = Position(step=3, tokens=7, trained_tokens=5, seconds=1.5)
    before = {**optimizer.masters.weights(), **optimizer.state()}
    before = {name: tensor.clone() for name, tensor in before.items()}
    place = save_checkpoint(tmp_path, at, optimizer, form)
    for tensor in optimizer.masters.masters:
        tensor.data.zero_()
    assert load_checkpoint(place, optimizer, form) == at
    after = {**optimizer.masters.weights(), **optimizer.state()}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_disk_that_does_not_answer_says_nothing_of_a_checkpoint(
    tmp_path: Path, learner: tuple[Optimizer, ModelFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = save(tmp_path, 3, learner)

    def unread(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(checkpoint, "sha256_file", unread)
    with pytest.raises(RunError, match=r"step-000000003 cannot be read: Input/output error"):
        newest_valid(tmp_path)
    assert place.is_dir()


def test_a_copy_under_another_name_is_left_alone(
    tmp_path: Path, learner: tuple[Optimizer, ModelFolder]
) -> None:
    place = save(tmp_path, 3, learner)
    copy = shutil.copytree(place, tmp_path / "step-000000003-copy2")
    assert newest_valid(tmp_path) == (place, [])
    save(tmp_path, 4, learner)
    prune(tmp_path, keep=1, kept_steps=set())
    assert is_valid(tmp_path / "step-000000004")
    assert not place.exists()
    assert copy.is_dir()


def test_pruning_keeps_the_newest_and_those_that_are_asked_for(
    tmp_path: Path, learner: tuple[Optimizer, ModelFolder]
) -> None:
    for step in range(1, 7):
        save(tmp_path, step, learner)
    (tmp_path / f".step-000000001{PARTIAL}removed").mkdir()
    prune(tmp_path, keep=2, kept_steps={3})
    assert [step_of(path) for path in sorted(tmp_path.iterdir())] == [3, 5, 6]
