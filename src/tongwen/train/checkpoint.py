"""Checkpoints: everything a run needs to go on as if it had never stopped.

    checkpoints/step-000000400/
        config.json, model.safetensors, tokenizer …   a model or adapter folder, weights in fp32
        optimizer.safetensors                          the moments, by parameter name
        checkpoint.json                                step, counts, and the sha256 of every file

A checkpoint appears whole or not at all, and is believed only if every hash agrees. Nothing random
is stored: what a step draws follows from (seed, step).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tongwen.errors import RunError
from tongwen.files import new_folder, sha256_file
from tongwen.train.folders import Folder
from tongwen.train.optim import Optimizer

RECORD = "checkpoint.json"


@dataclass(frozen=True)
class Position:
    """How far a run is."""

    step: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    seconds: float = 0.0


def save_checkpoint(checkpoints: Path, at: Position, optimizer: Optimizer, form: Folder) -> Path:
    """Write a checkpoint; returns its folder."""
    place = checkpoints / f"step-{at.step:09}"
    if place.exists():
        shutil.rmtree(place)
    try:
        with new_folder(place) as folder:
            form.write(folder, optimizer.masters.weights())
            save_file(optimizer.state(), folder / "optimizer.safetensors")
            hashes = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
            record = {**asdict(at), "sha256": hashes}
            (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"checkpoint {place} cannot be written: {error}",
            "the checkpoints before it are whole; make room and run the same command again",
        ) from error
    return place


def load_checkpoint(place: Path, optimizer: Optimizer, form: Folder) -> Position:
    """Put weights and optimiser state of a valid checkpoint into `optimizer` and its model."""
    record = json.loads((place / RECORD).read_text(encoding="utf-8"))
    del record["sha256"]
    optimizer.load(form.read(place), load_file(place / "optimizer.safetensors"))
    return Position(**record)


def newest_valid(checkpoints: Path) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint whose hashes agree, and the newer ones that are damaged."""
    damaged: list[Path] = []
    for place in sorted(checkpoints.glob("step-*[0-9]"), reverse=True):
        if _valid(place):
            return place, damaged
        damaged.append(place)
    return None, damaged


def prune(checkpoints: Path, keep: int, kept_steps: set[int]) -> None:
    """Remove all but the newest `keep` checkpoints and those of `kept_steps`."""
    ordinary = [
        place
        for place in sorted(checkpoints.glob("step-*[0-9]"))
        if int(place.name.removeprefix("step-")) not in kept_steps
    ]
    for place in ordinary[:-keep]:
        shutil.rmtree(place)


def _valid(place: Path) -> bool:
    try:
        record = json.loads((place / RECORD).read_text(encoding="utf-8"))
        return all(sha256_file(place / name) == sha for name, sha in record["sha256"].items())
    except (OSError, ValueError, KeyError):
        return False
