"""The run folder: its owner, its settings, its inputs, its metrics, and what it ends with.

config.toml      the settings, resolved and complete
inputs.json      the command, and sha256 of the data and of the model that it starts from
environment.json what the last bits depend on, and where it changed on the way
metrics.jsonl    one line per step, evaluation or sample
checkpoints/     see `tongwen.train.checkpoint`
final/           the trained model, a Hugging Face folder
passport.json    what went in and what came out
report.html      the curves
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tongwen.config import TrainConfig
from tongwen.errors import RunError
from tongwen.files import PARTIAL, make_folder, write_whole
from tongwen.train.checkpoint import all_checkpoints, remove_unfinished, standing, step_of
from tongwen.train.environment import differences, environment
from tongwen.verbs import VERBS

# Settings that may change between the parts of one run: they decide what is seen and kept, or where
# things lie, never what is learned. What lies there is told by its sha256; what changes the last
# bits alone belongs to the environment.
FREE = {
    "out", "data", "model", "tokenizer", "save_every", "keep", "eval_every", "sample_every",
    "threads", "precision", "micro_batch_tokens", "allow_inexact", "warm_start", "append", "guard",
    "track", "track_name", "decay_data", "nproc", "shard", "offload",
    "device",
}  # fmt: skip
# What may stand in a run folder before the run; config.toml is written last and begins it.
BEFORE = {"data", "owner.lock", "inputs.json", "environment.json"}
# What settings made before the first checkpoint, of no use to others.
DERIVED = ("reference", "rollouts")
# What the disk may answer to a write.
UNWRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
Inputs = dict[str, str]


class Run:
    """A run folder, owned by this process while the `with` block lasts."""

    def __init__(self, folder: Path, config: TrainConfig, inputs: Inputs) -> None:
        self.folder = folder
        self.config = config
        self._inputs = {"verb": _verb_of(config), **inputs}
        self._lock: IO[str] | None = None
        self._metrics: IO[str] | None = None
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        """Who is told of every record, beside the metrics file."""

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.folder / "checkpoints"

    @property
    def final(self) -> Path:
        """Where the trained model lies once the run is finished."""
        return self.folder / "final"

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return (self.folder / "passport.json").is_file() and self.final.is_dir()

    def __enter__(self) -> Self:
        try:
            make_folder(self.folder)
            self._own()
            self._begin_or_continue()
            make_folder(self.checkpoints)
            remove_unfinished(self.checkpoints)
        except OSError as error:
            raise self._unwritten(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._metrics is not None:
                self._metrics.close()
        except OSError as late:
            if error is None:
                raise self._unwritten(late) from late
        finally:
            if self._lock is not None:
                self._lock.close()
        if isinstance(error, OSError) and error.errno in UNWRITTEN:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> RunError:
        return RunError(
            f"{self.folder} cannot be written: {error.strerror}",
            f"{standing(self.checkpoints)}; make room and run the same command again",
        )

    def _own(self) -> None:
        self._lock = (self.folder / "owner.lock").open("a+", encoding="utf-8")
        try:
            # The kernel frees the lock when the process ends, however it ends.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            raise RunError(
                f"another process is training in {self.folder}: {self._lock.read().strip()}",
                "wait for it, stop it, or give another --out",
            ) from None
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._lock.flush()

    def _begin_or_continue(self) -> None:
        """Write settings and inputs, or make sure that a run goes on with its own."""
        before = read_settings(self.folder)
        if before:
            self._check_changes("settings", before, tomllib.loads(self.config.toml()), FREE)
            self._check_changes("inputs", read_inputs(self.folder), self._inputs, set())
        elif foreign := sorted(
            path.name
            for path in self.folder.iterdir()
            if path.name not in BEFORE and PARTIAL not in path.name
        ):
            raise RunError(
                f"{self.folder} holds something else: {foreign[0]}",
                "give an --out that is empty or does not exist yet",
            )
        if not self.finished:
            self._keep_environment()
        write_whole(self.folder / "inputs.json", json.dumps(self._inputs, indent=1) + "\n")
        write_whole(self.folder / "config.toml", self.config.toml())

    def _check_changes(
        self, what: str, before: dict[str, Any], now: dict[str, Any], free: set[str]
    ) -> None:
        """Refuse changes to a run that has learned; one that has not begins anew with them."""
        changed = [
            f"{key} was {before.get(key, 'not set')}, is now {now.get(key, 'not set')}"
            for key in sorted((before.keys() | now.keys()) - free)
            if before.get(key) != now.get(key)
        ]
        if not changed:
            return
        if self.final.exists() or all_checkpoints(self.checkpoints):
            raise RunError(
                f"{self.folder} holds a run with other {what}: {'; '.join(changed)}",
                f"give the {what} of that run to continue it, or another --out for a new one",
            )
        for folder in (self.folder / name for name in DERIVED):
            if folder.exists():
                shutil.rmtree(folder)

    def _keep_environment(self) -> None:
        """Refuse what would end in other bits than the run before it, or record that it does."""
        path = self.folder / "environment.json"
        now = environment(self.config)
        told: dict[str, Any] = {"environment": {}, "inexact": []}
        saved = all_checkpoints(self.checkpoints)
        # Without a checkpoint there is nothing yet to be equal to.
        if saved:
            if path.exists():
                told = json.loads(path.read_text(encoding="utf-8"))
            changed = differences(told["environment"], now)
            if changed and not self.config.allow_inexact:
                raise RunError(
                    f"{self.folder} would not end in the same bytes: {'; '.join(changed)}",
                    "go on as before, or give --allow-inexact, which the passport will tell",
                )
            if changed:
                told["inexact"].append({"step": step_of(saved[-1]), "changed": changed})
        write_whole(path, json.dumps({**told, "environment": now}, indent=1) + "\n")

    def inexact(self) -> list[dict[str, Any]]:
        """Where the run was allowed to go on otherwise than it began."""
        told = json.loads((self.folder / "environment.json").read_text(encoding="utf-8"))
        return list(told["inexact"])

    def rewind_metrics(self, step: int) -> None:
        """Drop what will be done, and recorded, again when the run goes on from `step`."""
        path = self.folder / "metrics.jsonl"
        kept = [
            json.dumps(record, ensure_ascii=False) + "\n"
            for record in read_metrics(path)
            # A step is recorded before it is saved, its evaluation and its samples come after.
            if record["step"] < step or (record["step"] == step and "loss" in record)
        ]
        write_whole(path, "".join(kept))
        self._metrics = path.open("a", encoding="utf-8")

    def record(self, **values: Any) -> None:
        """Append one line to the metrics."""
        assert self._metrics is not None, "rewind_metrics opens the file"
        self._metrics.write(json.dumps(values, ensure_ascii=False) + "\n")
        for listener in self.listeners:
            listener(values)

    def flush(self) -> None:
        """Bring the metrics to the disk: a checkpoint must not know more than they do."""
        assert self._metrics is not None, "rewind_metrics opens the file"
        self._metrics.flush()
        os.fsync(self._metrics.fileno())

    def finish(self, passport: dict[str, Any]) -> None:
        """Write the passport, the last file of a run."""
        write_whole(
            self.folder / "passport.json", json.dumps(passport, indent=1, ensure_ascii=False)
        )


class Bystander(Run):
    """A run folder as a process sees it that does not lead: it reads, and writes nothing."""

    def __enter__(self) -> Self:
        return self

    def rewind_metrics(self, step: int) -> None:
        """The leader does it."""

    def record(self, **values: Any) -> None:
        """The leader does it."""

    def flush(self) -> None:
        """The leader does it."""

    def finish(self, passport: dict[str, Any]) -> None:
        """The leader does it."""


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of the run in a folder; none where there is no run yet."""
    path = folder / "config.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read_inputs(folder: Path) -> Inputs:
    """What the run in a folder started from, and the command that it is of."""
    told: Inputs = json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
    return told


def _verb_of(config: TrainConfig) -> str:
    return next(verb.path for verb in VERBS if verb.config == type(config).__name__)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file, up to what a crash cut off or a power cut made garbage."""
    if not path.exists():
        return []
    records = []
    # Not by `splitlines`: a sample may hold a separator of lines that is none in JSON.
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            records.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            break
    return records
