"""Rows in batches, through work that may be done elsewhere, back in their order.

    files ─ read ─ batches ─ work, in this process, in several, or in a Ray cluster ─ done, in order

The work on a batch depends on nothing but the batch, and what comes back is in the order of the
rows: neither the number of workers nor where they run can change the output.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from tongwen.cleaning.survey import Cut, Duplicate
from tongwen.data.tokens import grouped
from tongwen.errors import RunError
from tongwen.messages.bulk import BulkEncoder
from tongwen.sources import Reject, Row, TextRows, open_source

AHEAD: Final = 3
"""Batches per worker that are read before the first of them must be done."""
FORKS: Final = sys.platform == "linux"
"""A fork has the libraries loaded already, which takes a spawned process seconds; but it is only
safe before the encoder has started its threads. Afterwards these share out the cores themselves."""
FOLLOW: Final = 0.2
"""Seconds between looks at whether the parent lives."""
WORTH: Final = 8_000_000
"""Bytes of sources from which on several processes earn what it costs to start them."""

D = TypeVar("D")


@dataclass(frozen=True)
class Opened:
    """How a file was recognised."""

    form: str
    encoding: str | None
    note: str | None = None


@dataclass(frozen=True)
class Reading:
    """A file to read: its place among the sources, and the number of its first row."""

    place: int
    path: Path
    text_rows: TextRows
    first: int = 0
    verdicts: Mapping[int, Duplicate | Cut] = field(default_factory=dict)
    """What is known of its rows already, by their numbers."""


@dataclass(frozen=True)
class Batch:
    """Some rows of one file; the last of a file is empty."""

    place: int
    opened: Opened
    first: int
    """Number of its first row."""
    last: bool
    """Whether the file ends with it."""
    rows: list[Row | Reject] = field(default_factory=list)
    verdicts: Mapping[int, Duplicate | Cut] = field(default_factory=dict)


@dataclass(frozen=True)
class Done(Generic[D]):
    """What came of a batch: one outcome per row."""

    place: int
    opened: Opened
    last: bool
    outcomes: list[D]


class Work(Protocol[D]):
    """Something to be done with each batch; made anew from `task` in every process."""

    def __call__(self, batch: Batch) -> list[D]: ...


Maker = Callable[[Any], Work[D]]


def read(reading: Reading) -> Iterator[Batch]:
    """The batches of one file, and an empty one at its end."""
    source = open_source(reading.path, reading.text_rows)
    opened = Opened(source.form, source.encoding, source.note)
    first = reading.first
    for rows in grouped(source.rows(), _weight):
        numbers = range(first, first + len(rows))
        verdicts = {n: reading.verdicts[n] for n in numbers if n in reading.verdicts}
        yield Batch(reading.place, opened, first, False, rows, verdicts)
        first = numbers.stop
    yield Batch(reading.place, opened, first, True)


def flow(
    readings: Iterable[Reading],
    maker: Maker[D],
    task: object,
    workers: int = 1,
    engine: Literal["local", "ray"] = "local",
) -> Iterator[Done[D]]:
    """What `maker(task)` makes of each batch of the files, in order."""
    if engine == "ray":
        return _ray(readings, maker, task, workers)
    batches = (batch for reading in readings for batch in read(reading))
    if workers == 1 or (FORKS and BulkEncoder.threads_run):
        return _here(batches, maker, task)
    return _processes(batches, maker, task, workers)


def workers_for(asked: int, size: int) -> int:
    """How many processes `size` bytes of sources are worth."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return asked or (1 if size < WORTH else cores or 1)


def _weight(row: Row | Reject) -> int:
    """About how many characters a row holds."""
    return _characters(row.record) if isinstance(row, Row) else 0


def _characters(value: object) -> int:
    match value:
        case str():
            return len(value)
        case list():
            return sum(map(_characters, value))
        case dict():
            return sum(map(_characters, value.values()))
        case _:
            return 0


def _here(batches: Iterable[Batch], maker: Maker[D], task: object) -> Iterator[Done[D]]:
    work = maker(task)
    for batch in batches:
        yield _done(batch, work(batch))


def _processes(
    batches: Iterable[Batch], maker: Maker[D], task: object, workers: int
) -> Iterator[Done[D]]:
    context = get_context("fork" if FORKS else "spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (maker, task, os.getpid()))
    waiting: deque[tuple[Batch, Future[list[D]]]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(_work, batch)))
            if len(waiting) > AHEAD * workers:
                yield _oldest(waiting)
        while waiting:
            yield _oldest(waiting)
    except BrokenProcessPool:
        raise RunError(
            "a worker process died, most likely for lack of memory",
            "the same command with fewer --workers needs less; nothing was half-written",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _done(batch: Batch, outcomes: list[D]) -> Done[D]:
    return Done(batch.place, batch.opened, batch.last, outcomes)


def _oldest(waiting: deque[tuple[Batch, Future[list[D]]]]) -> Done[D]:
    batch, future = waiting.popleft()
    return _done(batch, future.result())


_works: list[Work[Any]] = []
"""The work of a process of the pool, which hands its calls nothing but their arguments."""


def _begin(maker: Maker[D], task: object, parent: int) -> None:
    """Make the work of this process, on one thread: the processes share out the cores."""
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    _works.append(maker(task))


def _follow(parent: int) -> None:
    """End with the parent: one that is killed cannot stop its workers."""
    while os.getppid() == parent:
        time.sleep(FOLLOW)
    os._exit(1)


def _work(batch: Batch) -> list[Any]:
    [work] = _works
    return work(batch)


def _ray(
    readings: Iterable[Reading], maker: Maker[D], task: object, workers: int
) -> Iterator[Done[D]]:
    try:
        import ray.data
    except ImportError:
        raise RunError(
            "--engine ray needs the package ray", "pip install 'ray[data]', or leave it away"
        ) from None

    class Actor:
        """The work, made once per worker of the cluster."""

        def __init__(self) -> None:
            self._work = maker(task)

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            batch: Batch = row["batch"]
            return {"done": _done(batch, self._work(batch))}

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    rows = [{"reading": reading} for reading in readings]
    files = ray.data.from_items(rows, override_num_blocks=len(rows))
    batches = files.flat_map(lambda row: [{"batch": batch} for batch in read(row["reading"])])
    # One batch a block, so that the batches of one large file are shared out too.
    spread = batches.repartition(target_num_rows_per_block=1)
    done = spread.map(Actor, compute=ray.data.ActorPoolStrategy(size=workers))  # type: ignore[arg-type]
    for row in done.iter_rows():
        yield row["done"]
