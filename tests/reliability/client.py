"""What the tests here share: the server of runs, what it is asked, and what a run came to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from tongwen.files import sha256_file
from tongwen.train.checkpoint import all_checkpoints, is_valid, step_of
from tongwen.train.run import read_metrics

HERE = Path(__file__).parent
COMMON: dict[str, Any] = {
    "steps": 4, "batch_tokens": 160, "micro_batch_tokens": 80, "save_every": 1, "keep": 2,
    "eval_every": 2, "sample_every": 9, "threads": 1, "precision": "fp32", "lr": 1e-2,
}  # fmt: skip
# Of each objective the verb, the data and what else it is told.
OBJECTIVES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "pretrain": ("pretrain", "text", {}),
    "full": ("finetune", "chat", {}),
    "lora": ("finetune", "chat", {"method": "lora"}),
    "dpo": ("align", "pairs", {"objective": "dpo"}),
}
# What a clock says is another every time.
CLOCK = ("seconds", "tokens_per_second", "mfu")


@dataclass(frozen=True)
class Case:
    """A run, and what happens to it."""

    out: Path
    objective: str = "pretrain"
    options: dict[str, Any] = field(default_factory=dict)
    without: str | None = None
    """The mechanism that is taken away."""
    at: int = 0
    """The call at which the disk fails, from 1."""
    mode: str = "count"
    """How it fails then."""
    log: Path | None = None
    """Where every call is written down."""
    kill_after: float | None = None
    """Seconds after which the signal comes."""
    signal_in: str | None = None
    """Where in the code it comes, one of `mechanisms.PLACES`."""
    nth: int = 2
    """How often the code has been there then."""
    signal: int = signal.SIGKILL

    def again(self) -> Case:
        """The same command, to which nothing happens."""
        return replace(self, at=0, mode="count", log=None, kill_after=None, signal_in=None)


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    calls: int
    bytes: int
    said: str


class Runs:
    """The server, and the material in its folder."""

    def __init__(self, folder: Path, faults: Path | None) -> None:
        self.folder = folder
        self._said = folder / "said"
        environment = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        words = [sys.executable, "-m", "tests.reliability.server"]
        if faults is not None:
            environment["LD_PRELOAD"] = str(faults)
            words.append(str(faults))
        self._process = subprocess.Popen(
            words,
            env=environment,
            cwd=HERE.parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        self._ask({"material": str(self.folder)})
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def run(self, case: Case) -> Ended:
        """Run a case in a process of its own."""
        verb, data, told = OBJECTIVES[case.objective]
        places = {"data": [str(self.folder / data)], "model": str(self.folder / "model")}
        request: dict[str, Any] = {
            "verb": verb,
            "settings": {**COMMON, **places, "out": str(case.out), **told, **case.options},
            "watch": str(case.out),
            "at": case.at,
            "mode": case.mode,
            "without": case.without,
            "kill_after": case.kill_after,
            "signal": case.signal,
            "signal_in": case.signal_in,
            "nth": case.nth,
        }
        if case.log is not None:
            request["log"] = str(case.log)
        return self._ended(request)

    def guard(self, name: str, folder: Path, without: str | None = None) -> Ended:
        """Run one of `mechanisms.GUARDS`; exit code 1 says that it caught something."""
        request = {"guard": name, "folder": str(folder), "without": without}
        return self._ended({**request, "watch": str(folder), "mode": "count"})

    def _ended(self, request: dict[str, Any]) -> Ended:
        answer = self._ask({**request, "said": str(self._said)})
        return Ended(said=self._said.read_text(encoding="utf-8", errors="replace"), **answer)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        writing, reading = self._process.stdin, self._process.stdout
        assert writing is not None
        assert reading is not None
        writing.write(json.dumps(request) + "\n")
        writing.flush()
        answer = reading.readline()
        assert answer, "the server has ended; what it said stands above"
        return dict(json.loads(answer))


def outcome(out: Path) -> dict[str, object]:
    """What a run came to, by content: final model, newest checkpoint, metrics without the clock."""
    newest = all_checkpoints(out / "checkpoints")[-1]
    files = [*(out / "final").iterdir(), *newest.glob("*.safetensors")]
    metrics = [
        {key: value for key, value in record.items() if key not in CLOCK}
        for record in read_metrics(out / "metrics.jsonl")
    ]
    hashes = {f"{path.parent.name}/{path.name}": sha256_file(path) for path in sorted(files)}
    return {**hashes, "metrics": metrics}


def contents(out: Path) -> dict[int, dict[str, str]]:
    """The weights and moments of every checkpoint that can be seen, by step."""
    return {
        step_of(place): {path.name: sha256_file(path) for path in place.glob("*.safetensors")}
        for place in all_checkpoints(out / "checkpoints")
    }


def valid_steps(out: Path) -> list[int]:
    """The steps of the checkpoints that are believed, oldest first."""
    return [step_of(place) for place in all_checkpoints(out / "checkpoints") if is_valid(place)]


def fresh(out: Path) -> Path:
    """A folder that is not there."""
    shutil.rmtree(out, ignore_errors=True)
    return out
