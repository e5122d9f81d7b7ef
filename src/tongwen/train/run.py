"""The run folder: its owner, its settings, its inputs, its metrics, and what it ends with.

config.toml      the settings, resolved and complete
inputs.json      sha256 of the data and of the model that it starts from
metrics.jsonl    one line per step, evaluation or sample
checkpoints/     see `tongwen.train.checkpoint`
final/           the trained model, a Hugging Face folder
passport.json    what went in and what came out
report.html      the curves
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tomllib
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tongwen.config import TrainConfig
from tongwen.errors import RunError
from tongwen.files import PARTIAL, write_whole

# Settings that may change between the parts of one run: they decide what is seen and kept, or where
# things lie, never what is learned. What lies there is told by its sha256.
FREE = {
    "out", "data", "model", "tokenizer", "save_every", "keep", "eval_every", "sample_every",
}  # fmt: skip
# What may stand in a run folder before the run.
BEFORE = {"data", "owner.lock"}
Inputs = dict[str, str]


class Run:
    """A run folder, owned by this process while the `with` block lasts."""

    def __init__(self, folder: Path, config: TrainConfig, inputs: Inputs) -> None:
        self.folder = folder
        self._config = config
        self._inputs = inputs
        self._lock: IO[str] | None = None
        self._metrics: IO[str] | None = None

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
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "owner.lock").open("a")
        try:
            # The kernel frees the lock when the process ends, however it ends.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another process is training in {self.folder}",
                "wait for it, stop it, or give another --out",
            ) from None
        self._begin_or_continue()
        self.checkpoints.mkdir(exist_ok=True)
        for leftover in self.checkpoints.glob(f".*{PARTIAL}*"):
            shutil.rmtree(leftover)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (self._metrics, self._lock):
            if file is not None:
                file.close()

    def _begin_or_continue(self) -> None:
        """Write settings and inputs, or make sure that a run goes on with its own."""
        before = read_settings(self.folder)
        if before:
            self._refuse_changes("settings", before, tomllib.loads(self._config.toml()), FREE)
            told = json.loads((self.folder / "inputs.json").read_text(encoding="utf-8"))
            self._refuse_changes("inputs", told, self._inputs, set())
        elif foreign := sorted({path.name for path in self.folder.iterdir()} - BEFORE):
            raise RunError(
                f"{self.folder} holds something else: {foreign[0]}",
                "give an --out that is empty or does not exist yet",
            )
        write_whole(self.folder / "inputs.json", json.dumps(self._inputs, indent=1) + "\n")
        write_whole(self.folder / "config.toml", self._config.toml())

    def _refuse_changes(
        self, what: str, before: dict[str, Any], now: dict[str, Any], free: set[str]
    ) -> None:
        changed = [
            f"{key} was {before.get(key, 'not set')}, is now {now.get(key, 'not set')}"
            for key in sorted((before.keys() | now.keys()) - free)
            if before.get(key) != now.get(key)
        ]
        if changed:
            raise RunError(
                f"{self.folder} holds a run with other {what}: {'; '.join(changed)}",
                f"give the {what} of that run to continue it, or another --out for a new one",
            )

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

    def flush(self) -> None:
        """Make the metrics visible to others."""
        assert self._metrics is not None, "rewind_metrics opens the file"
        self._metrics.flush()

    def finish(self, passport: dict[str, Any]) -> None:
        """Write the passport, the last file of a run."""
        write_whole(
            self.folder / "passport.json", json.dumps(passport, indent=1, ensure_ascii=False)
        )


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of the run in a folder; none where there is no run yet."""
    path = folder / "config.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file; a last line that a crash cut off is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records
