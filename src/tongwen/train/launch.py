"""Start the processes of a run on this machine, and end with them.

They are started as torchrun starts them, so there is one way to be one of several processes. What
differs is the end: nobody is killed while it saves, and the process that failed first says why, in
one line.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol, TypeVar

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from tongwen import errors
from tongwen.config import TrainConfig
from tongwen.errors import ConfigError, RunError
from tongwen.models.device import check_cards, device_of
from tongwen.train.processes import (
    FAILURE,
    LOST,
    Store,
    joined,
    processes_here,
    started_as_one_of_several,
)
from tongwen.train.result import TrainResult, result_of
from tongwen.train.run import Run

C = TypeVar("C", bound=TrainConfig)
Children = Sequence["subprocess.Popen[bytes]"]
HOST = "127.0.0.1"
# Those whose peer has ended notice it when they next talk to it, within a step on a CPU; on a GPU
# they may wait for it for ever.
GRACE_SECONDS = 20.0
POLL_SECONDS = 0.05


def in_processes(work: Callable[[C], TrainResult]) -> Callable[[C], TrainResult]:
    """A command that is divided among processes: starts them, or is one of them."""

    @functools.wraps(work)
    def divided(config: C) -> TrainResult:
        if started_as_one_of_several():
            _check_started(config)
            with joined(device_of(config.device)):
                return work(config)
        if config.nproc == 1 and config.shard == "none":
            return work(config)
        _launch(work.__name__, config)
        return result_of(Run(config.out, config, {}))

    return divided


def _check_started(config: TrainConfig) -> None:
    here = processes_here()
    if config.nproc not in (1, here):
        raise ConfigError(
            f"--nproc is {config.nproc}, and the launcher started {here} on this machine",
            "leave --nproc to torchrun",
        )
    check_cards(config.device, here)


def _launch(command: str, config: TrainConfig) -> None:
    """Run a command in `config.nproc` processes; returns when all have come to their end."""
    check_cards(config.device, config.nproc)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = folder / "settings.toml"
        settings.write_text(config.toml(), encoding="utf-8")
        store = new_store()
        words = [sys.executable, "-m", "tongwen.train.worker", command, str(settings)]
        children = [
            stack.enter_context(_started(words, environment_of(rank, config.nproc, store.port)))
            for rank in range(config.nproc)
        ]
        stack.enter_context(_forwarded_signals(children))
        _wait(children)
        judge([child.returncode for child in children], store)


class OpenStore(Store, Protocol):
    """A store that other processes find."""

    @property
    def port(self) -> int:
        """Where it listens."""


def new_store() -> OpenStore:
    """Where the processes of this machine find each other."""
    store: OpenStore = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    return store


def environment_of(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun, too, tells a process of itself and the others."""
    return {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        # What a process takes for the cores of the machine, unless --threads says otherwise.
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // world)),
    }


@contextmanager
def _started(words: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    # In a session of its own, so that Ctrl-C reaches it once, from here. Its stdin ends when this
    # process does, however it ends.
    child = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


@contextmanager
def _forwarded_signals(children: Children) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def forward(number: int, _: FrameType | None) -> None:
        for child in children:
            child.send_signal(number)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, forward) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _wait(children: Children) -> None:
    """Until all have ended; once one has failed, the others have a while to notice."""
    deadline: float | None = None
    while any(child.poll() is None for child in children):
        time.sleep(POLL_SECONDS)
        if deadline is None and any(child.returncode for child in children):
            deadline = time.monotonic() + GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            for child in children:
                child.kill()


def judge(codes: list[int], store: Store) -> None:
    """Raise what ended the processes, if anything did."""
    if not any(codes):
        return
    # A process that is not training yet is ended by the signal itself.
    if {128 + signal.SIGTERM, -signal.SIGTERM} & set(codes):
        raise SystemExit(128 + signal.SIGTERM)
    if {128 + signal.SIGINT, -signal.SIGINT} & set(codes):
        raise KeyboardInterrupt
    kind, text, hint = _failure(store)
    killed = [(rank, -code) for rank, code in enumerate(codes) if code < 0]
    if killed and text in (LOST, None):
        rank, number = killed[0]
        raise RunError(
            f"process {rank} of {len(codes)} was ended by {signal.Signals(number).name}",
            "perhaps for want of memory; the same command goes on from the last checkpoint",
        )
    if kind is None or text is None:
        raise SystemExit(1)  # a mistake of ours, whose traceback has been printed
    raise getattr(errors, kind, RunError)(text, hint)


def _failure(store: Store) -> tuple[str | None, str | None, str | None]:
    """Kind, message and hint of the error of the process that failed first."""
    key = f"{FAILURE}/text"
    if not store.check([key]):
        return None, None, None
    kind, text, hint = json.loads(store.get(key))
    return kind, text, hint
