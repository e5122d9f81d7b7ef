"""The mechanisms that keep a run, how each is taken away, and checks inside one process.

Only the server imports this, and only a forked child changes anything.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import tongwen.files
from tongwen.config import PretrainConfig
from tongwen.engine import local
from tongwen.errors import RunError
from tongwen.files import sha256_file
from tongwen.train import (
    checkpoint,
    heldout,
    inputs,
    loop,
    objective,
    optim,
    plan,
    run,
    shards,
    stages,
)


def remove(name: str | None) -> None:
    """Take a mechanism away from this process."""
    if name is not None:
        REMOVED[name]()


def put(place: Any, name: str, value: object) -> None:
    """Put something else in the place of a function."""
    setattr(place, name, value)


def _no_sync_of_files() -> None:
    def only_folders(folder: Path) -> None:
        for place, _, _ in os.walk(folder):
            tongwen.files._sync_folder(Path(place))

    put(tongwen.files, "_sync", only_folders)


def _no_sync_of_folders() -> None:
    put(tongwen.files, "_sync_folder", lambda _: None)


def _no_sync_of_metrics() -> None:
    def flush(self: run.Run) -> None:
        assert self._metrics is not None
        self._metrics.flush()

    put(run.Run, "flush", flush)


def _no_rename() -> None:
    @contextmanager
    def in_place(out: Path) -> Iterator[Path]:
        out.mkdir(parents=True)
        yield out
        tongwen.files._sync(out)

    put(shards, "new_folder", in_place)
    put(stages, "new_folder", in_place)


def _removed_in_place() -> None:
    put(checkpoint, "remove_folder", shutil.rmtree)


def _no_hash() -> None:
    def looks_whole(place: Path) -> bool:
        try:
            return all((place / name).is_file() for name in checkpoint._record(place)["sha256"])
        except (OSError, ValueError, KeyError):
            return False

    put(checkpoint, "is_valid", looks_whole)


def _no_seal() -> None:
    def unsealed(place: Path) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((place / checkpoint.RECORD).read_bytes())
        del record["seal"]
        return record

    put(checkpoint, "_record", unsealed)


def _hash_of_what_was_read() -> None:
    from tongwen.models import tensors
    from tongwen.train import folders

    def reread(path: Path, pieces: Any) -> str:
        with path.open("xb") as file:
            file.writelines(pieces)
        return sha256_file(path)

    for module in (checkpoint, tensors, folders):
        put(module, "write_hashed", reread)


def _order_from_nowhere() -> None:
    def drawn(self: plan.Shuffle, _: int) -> Any:
        order = np.random.default_rng().permutation(len(self._lengths))
        return order, plan._bounds(self._lengths[order], self.steps_per_epoch)

    put(plan.Shuffle, "_epoch_order", drawn)


def _each_batch_by_itself() -> None:
    def divided(model: Any, batch: Any, _: Any) -> objective.Loss:
        return objective.Loss(objective.language_model_loss(model, batch) / len(batch.target_K))

    put(stages, "language_model", divided)


def _no_lock() -> None:
    put(fcntl, "flock", lambda *_: None)


def _no_moments() -> None:
    def weights_alone(self: optim.Optimizer, weights: Any, _: Any) -> None:
        self.masters.load_weights(weights)

    put(optim.Optimizer, "load", weights_alone)


def _no_rewinding() -> None:
    def append(self: run.Run, _: int) -> None:
        self._metrics = (self.folder / "metrics.jsonl").open("a", encoding="utf-8")

    put(run.Run, "rewind_metrics", append)


def _no_environment() -> None:
    put(run, "differences", lambda *_: [])


def _no_finite() -> None:
    put(math, "isfinite", lambda _: True)


REMOVED: dict[str, Callable[[], None]] = {
    "sync of files": _no_sync_of_files,
    "sync of folders": _no_sync_of_folders,
    "sync of metrics": _no_sync_of_metrics,
    "rename of what was written": _no_rename,
    "rename of what is removed": _removed_in_place,
    "hash of every file": _no_hash,
    "seal of the record": _no_seal,
    "hash of what was meant": _hash_of_what_was_read,
    "order from the seed": _order_from_nowhere,
    "normalisation by the whole step": _each_batch_by_itself,
    "lock of the owner": _no_lock,
    "state of the optimiser": _no_moments,
    "rewinding of the metrics": _no_rewinding,
    "comparison of environments": _no_environment,
    "stop before weights that are not finite": _no_finite,
}


PLACES: dict[str, tuple[Any, str]] = {
    "preparing": (inputs, "data_prepare"),
    "evaluating": (heldout, "language_model_losses"),
    "sampling": (local, "decode"),
    "stepping": (loop, "train_step"),
    "saving": (checkpoint, "write_tensors"),
}


def signal_in(place: str | None, nth: int, number: int) -> None:
    """Let this process get a signal when it is at a place for the n-th time."""
    if place is None:
        return
    module, name = PLACES[place]
    function, calls = getattr(module, name), []

    def signalled(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == nth:
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    put(module, name, signalled)


def guard(name: str, folder: Path) -> int:
    """Whether a check fails, as an exit code."""
    GUARDS[name](folder)
    return 0


def flipped_bits(out: Path) -> None:
    """No flipped bit, no cut, no missing file of a checkpoint passes."""
    place = checkpoint.all_checkpoints(out / "checkpoints")[-1]
    assert checkpoint.is_valid(place)
    draw = random.Random(0)
    for path in sorted(place.iterdir()):
        whole = path.read_bytes()
        small = path.name == checkpoint.RECORD
        places = range(len(whole)) if small else draw.sample(range(len(whole)), 40)
        for at in places:
            flipped = bytearray(whole)
            flipped[at] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
            assert not checkpoint.is_valid(place), f"{path.name}: a flipped bit in byte {at} passed"
        for size in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            assert not checkpoint.is_valid(place), f"{path.name}: cut to {size} bytes, it passed"
        path.unlink()
        assert not checkpoint.is_valid(place), f"without {path.name} it passed"
        path.write_bytes(whole)
    assert checkpoint.is_valid(place)


def two_owners(folder: Path) -> None:
    """A run folder has one owner."""
    config = PretrainConfig(data=[folder], out=folder / "owned")
    with run.Run(config.out, config, {}):
        try:
            with run.Run(config.out, config, {}):
                pass
        except RunError as error:
            said = error.message
        else:
            raise AssertionError("two processes own one run folder")
    assert f"process {os.getpid()} on " in said


GUARDS: dict[str, Callable[[Path], None]] = {
    "flipped bits": flipped_bits,
    "two owners": two_owners,
}
