"""One engine on one job, in a process of its own: its steps, its memory, or why it failed.

An engine trains on the rows of a `Job` for some steps and says of each how long it took and what
was in it. Memory is the highest resident set of the process, as the kernel kept it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

HERE: Final = Path(__file__).parent
CUTOFF: Final = 512
STEP_TOKENS: Final = 4096
WARMUP: Final = 3
"""First steps of a run, which allocate and compile and are not counted, of every engine."""
KEPT: Final = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
"""What Tongwen tells glibc for itself: freed memory is kept by the process."""
LIMIT: Final = 900.0
"""Seconds after which a process is ended and counted as failed."""
LINES: Final = 12
"""Last lines of a failed process that are kept."""


@dataclass(frozen=True)
class Job:
    """What all engines of a case are given."""

    size: str
    kind: str
    material: Path
    threads: int
    method: str = "full"
    steps: int = 1
    precision: str = "bf16"

    @property
    def model(self) -> Path:
        """The model folder to start from."""
        return self.material / self.size / "model"

    @property
    def data(self) -> Path:
        """The rows, in the form of each tool."""
        return self.material / self.size / self.kind

    @property
    def lr(self) -> float:
        """Learning rate; it changes no speed."""
        if self.kind.startswith("pairs"):
            return 1e-5
        return 1e-4 if self.method == "full" else 1e-3


@dataclass(frozen=True)
class Step:
    """One optimiser step."""

    seconds: float
    tokens: int
    trained: int
    loss: float


@dataclass(frozen=True)
class Done:
    """What a run came to."""

    version: str = ""
    steps: Sequence[Step] = ()
    peak: int = 0
    """Bytes."""
    seconds: float = 0.0
    """Of the whole command."""
    load: float = 0.0
    """Of the machine, before it."""
    failure: str = ""
    """The last lines of a process that failed."""


class Engine(Protocol):
    """One way to train."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def environment(self) -> Mapping[str, str]: ...

    def command(self, job: Job, out: Path) -> list[str]:
        """The process that does the job; `out` is a folder that it makes."""
        ...

    def read(self, place: Path) -> tuple[str, list[Step]]:
        """Its version and its steps, from what it left in `place`: `out`, and `said`."""
        ...


@dataclass(frozen=True)
class Peer:
    """A script in peers/ that prints its result, with the interpreter that has the peer."""

    name: str
    title: str
    python: Path
    script: str
    settings: Mapping[str, object]
    environment: Mapping[str, str] = field(default_factory=dict)

    def keeping_memory(self) -> Peer:
        """The same with the policy of the allocator that Tongwen has."""
        return replace(
            self, name=f"{self.name}_kept", title=f"{self.title}, memory kept", environment=KEPT
        )

    def command(self, job: Job, out: Path) -> list[str]:
        asked = {
            "model": str(job.model),
            "data": str(job.data),
            "out": str(out),
            "method": job.method,
            "rank": 8,
            "steps": job.steps,
            "precision": job.precision,
            "threads": job.threads,
            "lr": job.lr,
            "cutoff": CUTOFF,
            "settings": dict(self.settings),
        }
        return [str(self.python), str(HERE / "peers" / self.script), json.dumps(asked)]

    def read(self, place: Path) -> tuple[str, list[Step]]:
        said = (place / "said").read_text(encoding="utf-8", errors="replace").splitlines()
        [line] = [line for line in said if line.startswith("RESULT ")]
        result = json.loads(line.removeprefix("RESULT "))
        names = ("seconds", "tokens", "trained", "loss")
        return result["version"], [Step(*(step[n] for n in names)) for step in result["steps"]]


@dataclass(frozen=True)
class Tongwen:
    """A command of Tongwen; its steps are read from metrics.jsonl."""

    verb: str
    flags: Sequence[str] = ()
    name: str = "tongwen"
    title: str = "Tongwen"
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, job: Job, out: Path) -> list[str]:
        never = str(10**6)
        flags = {
            "model": job.model,
            "data": job.data / "prepared",
            "out": out,
            "steps": job.steps,
            "batch-tokens": STEP_TOKENS,
            "micro-batch-tokens": STEP_TOKENS,
            "lr": job.lr,
            "schedule": "constant",
            "warmup": 0,
            "weight-decay": 0,
            "precision": job.precision,
            "threads": job.threads,
            "save-every": never,
            "eval-every": never,
            "sample-every": never,
        }
        given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
        return [sys.executable, "-m", "tongwen", self.verb, *given, *self.flags]

    def read(self, place: Path) -> tuple[str, list[Step]]:
        out = place / "out"
        lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        steps, before = [], 0.0
        for record in map(json.loads, lines):
            if "loss" in record:
                spent, before = record["seconds"] - before, record["seconds"]
                steps.append(
                    Step(spent, record["tokens"], record["trained_tokens"], record["loss"])
                )
        passport = json.loads((out / "passport.json").read_text(encoding="utf-8"))
        return f"Tongwen {passport['versions']['tongwen']}", steps


def run(engine: Engine, job: Job) -> Done:
    """Do a job in a process, in a folder that is gone afterwards."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        place = Path(folder)
        environment = {
            **os.environ,
            "HF_HOME": str(place / "cache"),
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": str(job.threads),
            **engine.environment,
        }
        began = time.perf_counter()
        with (place / "said").open("w") as said:
            process = subprocess.Popen(
                engine.command(job, place / "out"),
                stdout=said,
                stderr=said,
                env=environment,
            )
            status, peak = _wait(process)
        seconds = time.perf_counter() - began
        if status != 0:
            failure = _last_lines(place / "said", status)
            return Done(peak=peak, seconds=seconds, load=load, failure=failure)
        version, steps = engine.read(place)
        return Done(version, steps, peak, seconds, load)


def _last_lines(said: Path, status: int) -> str:
    # Progress bars end their lines with a carriage return.
    text = said.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    return "\n".join([*text.strip().splitlines()[-LINES:], f"ended with status {status}"])


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """The exit status of a process and the bytes that it had resident at most."""
    deadline = time.monotonic() + LIMIT
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, used.ru_maxrss * 1024
        if time.monotonic() > deadline:
            process.kill()
            deadline = float("inf")
        time.sleep(0.05)
