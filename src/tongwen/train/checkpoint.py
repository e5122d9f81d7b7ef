"""Checkpoints: everything a run needs to go on as if it had never stopped.

    checkpoints/step-000000400/
        config.json, model.safetensors, tokenizer …   a model or adapter folder, weights in fp32
        optimizer.safetensors                          the moments, by parameter name
        checkpoint.json                                step, counts, the sha256 of every file, and a
                                                       seal: the sha256 of this record itself

A checkpoint appears whole or not at all, and is believed only if every hash agrees. Nothing random
is stored: what a step draws follows from (seed, step).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from tongwen.errors import RunError
from tongwen.files import PARTIAL, remove_folder, sha256_file, write_hashed
from tongwen.models.tensors import write_tensors
from tongwen.train.folders import Folder, Hashes
from tongwen.train.optim import Optimizer
from tongwen.train.processes import leaders, leads
from tongwen.train.sharding import ShardedMasters
from tongwen.train.shards import Shards, shared_folder, write_shard

RECORD = "checkpoint.json"
MOMENTS = "optimizer.safetensors"
# The two groups of what a shard holds.
WEIGHTS, STATE = "weights", "state"


@dataclass(frozen=True)
class Position:
    """How far a run is, together with the run that it goes on from."""

    step: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    seconds: float = 0.0
    flops: float = 0.0


def save_checkpoint(checkpoints: Path, at: Position, optimizer: Optimizer, form: Folder) -> Path:
    """Write a checkpoint, unless a valid one of this step is there already; returns its folder."""
    place = checkpoints / f"step-{at.step:09}"
    if leaders(leads() and is_valid(place)):
        return place
    try:
        if leads() and place.exists():
            remove_folder(place)
        with shared_folder(place) as folder:
            hashes = _write(folder, optimizer, form)
            if leads():
                write_hashed(folder / RECORD, [_sealed({**asdict(at), "sha256": hashes})])
    except OSError as error:
        raise RunError(
            f"checkpoint {place} cannot be written: {error.strerror or error}",
            f"{standing(checkpoints)}; make room and run the same command again",
        ) from error
    return place


def _write(folder: Path, optimizer: Optimizer, form: Folder) -> Hashes:
    """Weights and optimiser state: of the leader, where all have the same, or of everyone."""
    masters = optimizer.masters
    if isinstance(masters, ShardedMasters):
        groups = {WEIGHTS: masters.weights(), STATE: optimizer.state()}
        return write_shard(folder, {key: (one, masters.rows(one)) for key, one in groups.items()})
    if not leads():
        return {}
    hashes = form.write(folder, masters.weights())
    return {**hashes, MOMENTS: write_tensors(folder / MOMENTS, optimizer.state())}


def read_weights(place: Path, form: Folder) -> Mapping[str, Tensor]:
    """The weights of a checkpoint, by parameter name."""
    return Shards(place, WEIGHTS) or form.read(place)


def load_checkpoint(place: Path, optimizer: Optimizer, form: Folder) -> Position:
    """Put weights and optimiser state of a valid checkpoint into `optimizer` and its model."""
    record = _record(place)
    del record["sha256"]
    own = optimizer.masters.own
    state = Shards(place, STATE) or load_file(place / MOMENTS)
    optimizer.load(own(read_weights(place, form)), own(state))
    return Position(**record)


def newest_valid(checkpoints: Path) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint whose hashes agree, and the newer ones that are damaged."""
    damaged: list[Path] = []
    for place in reversed(all_checkpoints(checkpoints)):
        if is_valid(place):
            return place, damaged
        damaged.append(place)
    return None, damaged


def all_checkpoints(checkpoints: Path) -> list[Path]:
    """What passes for a checkpoint by its name, oldest first."""
    # A copy that someone made under another name is left alone.
    places = checkpoints.glob("step-*")
    return sorted(place for place in places if re.fullmatch(r"step-\d{9}", place.name))


def step_of(place: Path) -> int:
    """The step of a checkpoint, as its name says."""
    return int(place.name.removeprefix("step-"))


def is_valid(place: Path) -> bool:
    """Whether the record of a checkpoint is as it was written, and every file as it says.

    A disk that does not answer says nothing of that, and is a RunError.
    """
    try:
        record = _record(place)
        hashes: Hashes = record["sha256"]
        return record["step"] == step_of(place) and all(
            sha256_file(place / name) == sha for name, sha in hashes.items()
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return False
    except OSError as error:
        raise RunError(
            f"checkpoint {place} cannot be read: {error.strerror or error}",
            "nothing was changed; run the same command again where its files can be read",
        ) from error


def set_aside(place: Path) -> Path:
    """Rename a damaged checkpoint, so that it passes for none; returns where it lies now."""
    aside = place.with_name(f".damaged-{place.name}")
    if aside.exists():
        shutil.rmtree(aside)
    return place.replace(aside)


def prune(checkpoints: Path, keep: int, kept_steps: set[int]) -> None:
    """Remove all but the newest `keep` checkpoints and those of `kept_steps`."""
    if not leads():
        return
    places = all_checkpoints(checkpoints)
    for place in [place for place in places if step_of(place) not in kept_steps][:-keep]:
        remove_folder(place)


def remove_unfinished(checkpoints: Path) -> None:
    """Remove what killed processes left; the caller owns the run."""
    for leftover in checkpoints.glob(f".*{PARTIAL}*"):
        shutil.rmtree(leftover)


def standing(checkpoints: Path) -> str:
    """What can be gone on from, in words."""
    place, _ = newest_valid(checkpoints)
    return "there is no checkpoint yet" if place is None else f"checkpoint {place.name} is whole"


def _sealed(record: dict[str, Any]) -> bytes:
    seal = hashlib.sha256(json.dumps(record).encode()).hexdigest()
    return json.dumps({**record, "seal": seal}, indent=1).encode()


def _record(place: Path) -> dict[str, Any]:
    """The record of a checkpoint; a ValueError or KeyError if it is not as it was written."""
    content = (place / RECORD).read_bytes()
    record: dict[str, Any] = json.loads(content)
    del record["seal"]
    if content != _sealed(record):
        raise ValueError("the record is not as it was written")
    return record
