"""The run folder: its owner, its settings, its metrics, and what it ends with.

config.toml      the settings, resolved and complete
metrics.jsonl    one line per step, evaluation or sample
checkpoints/     see `tongwen.train.checkpoint`
final/           the trained model, a Hugging Face folder
passport.json    what went in and what came out
report.html      the curves
"""

from __future__ import annotations

import fcntl
import json
import tomllib
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tongwen.config import TrainConfig
from tongwen.errors import RunError
from tongwen.files import write_whole

# Settings that may change between the parts of one run: they decide what is seen and kept, never
# what is learned.
FREE = {"out", "save_every", "keep", "eval_every", "sample_every"}


class Run:
    """A run folder, owned by this process while the `with` block lasts."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.folder = folder
        self._config = config
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
        return (self.folder / "passport.json").is_file()

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
        self._settle()
        self.checkpoints.mkdir(exist_ok=True)
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

    def _settle(self) -> None:
        """Write the settings, or make sure that an unfinished run goes on with its own."""
        path = self.folder / "config.toml"
        text = self._config.toml()
        if path.exists():
            before, now = tomllib.loads(path.read_text(encoding="utf-8")), tomllib.loads(text)
            changed = [
                f"{key} was {before.get(key, 'not set')}, is now {now.get(key, 'not set')}"
                for key in sorted((before.keys() | now.keys()) - FREE)
                if before.get(key) != now.get(key)
            ]
            if changed:
                raise RunError(
                    f"{self.folder} holds a run with other settings: {'; '.join(changed)}",
                    "give the settings of that run to continue it, or another --out for a new one",
                )
        write_whole(path, text)

    def rewind_metrics(self, step: int) -> None:
        """Drop what was recorded after `step`: it will be done, and recorded, again."""
        path = self.folder / "metrics.jsonl"
        kept = [json.dumps(r, ensure_ascii=False) for r in read_metrics(path) if r["step"] <= step]
        write_whole(path, "".join(line + "\n" for line in kept))
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
