"""The processes of a run: who there is, what they tell each other, and how they end together.

A process is one of several if it was started with RANK and WORLD_SIZE in its environment, as
torchrun does, and so does `tongwen.train.launch`. Where it is alone, every function here is
trivial, so the code around the loop need not know. The process of rank 0 leads: it alone talks, and
owns the run folder.

What is decided from the clock, a signal or the disk may come out differently in each process, and a
difference leaves them waiting for each other for ever. Such things are exchanged, or the leader's
view is taken.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from tongwen.errors import ConfigError, RunError, TongwenError
from tongwen.models.device import CPU

T = TypeVar("T")

# The leader may clean and encode raw data, or write a large model, while the others wait; one that
# has died is noticed at once, since its connections close.
PATIENCE = timedelta(days=1)
# Gradients are summed in flat pieces of this size: large enough to use the network well, small
# enough not to double the memory of the gradients.
BUCKET_BYTES = 64 * 2**20
FAILURE = "tongwen/failure"
DEVICE = "tongwen/device"
LOST = "another process of the run was lost"


class Store(Protocol):
    """What processes leave word in for whoever started them: torch's store."""

    def add(self, key: str, amount: int, /) -> int:
        """Count up; returns the sum."""

    def set(self, key: str, value: str, /) -> None:
        """Leave a text."""

    def get(self, key: str, /) -> bytes:
        """The text that was left."""

    def check(self, keys: list[str], /) -> bool:
        """Whether texts were left under all of these."""


def started_as_one_of_several() -> bool:
    """Whether torchrun, or `tongwen.train.launch`, started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def processes_here() -> int:
    """How many of the processes run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if started_as_one_of_several() else 1


def leads() -> bool:
    """Whether this process talks, and owns the run folder."""
    return rank() == 0


def exchange(value: Any) -> list[Any]:
    """What every process gives here, by rank: anything that JSON holds."""
    if world() == 1:
        return [value]
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    sizes = torch.zeros(world(), dtype=torch.int64)
    dist.all_gather_single(sizes, torch.tensor([len(text)]))
    padded = torch.zeros(world(), int(sizes.max()), dtype=torch.uint8)
    mine = torch.zeros(padded.shape[1], dtype=torch.uint8)
    mine[: len(text)] = text
    dist.all_gather_single(padded.view(-1), mine)
    return [
        json.loads(row[:size].numpy().tobytes())
        for row, size in zip(padded, sizes.tolist(), strict=True)
    ]


def leaders(value: T) -> T:
    """The leader's view of a value that JSON holds."""
    told: T = exchange(value)[0]
    return told


def leader_first(work: Callable[[], T]) -> T:
    """Let the leader do something, and then the others, who find it done."""
    if not leads():
        exchange(None)
        return work()
    done = work()
    exchange(None)
    return done


def share(parts: Sequence[T]) -> tuple[Sequence[T], bool]:
    """This process' parts of a step, and whether the last one of them is idle.

    Every process gets as many: where models are sharded, all take part in every forward pass. One
    that has none left gets the first part again, which is idle and must weigh nothing.
    """
    mine = parts[rank() :: world()]
    idle = len(mine) * world() < len(parts)
    return ([*mine, parts[0]] if idle else mine), idle


def sum_gradients(masters: Sequence[Tensor]) -> None:
    """Sum the gradients over the processes, in place.

    A weight that no process has a gradient of keeps none: a rule leaves it alone, as it would where
    there is one process.
    """
    if world() == 1 or not masters:
        return
    present = torch.tensor([master.grad is not None for master in masters], dtype=torch.int32)
    dist.all_reduce(present, dist.ReduceOp.MAX)
    grads = []
    for master, anywhere in zip(masters, present.tolist(), strict=True):
        if anywhere and master.grad is None:
            master.grad = torch.zeros_like(master)
        if master.grad is not None:
            grads.append(master.grad)
    for bucket in _buckets(grads):
        flat = torch.cat([grad.reshape(-1) for grad in bucket])
        dist.all_reduce(flat)
        pieces = flat.split([grad.numel() for grad in bucket])
        for grad, piece in zip(bucket, pieces, strict=True):
            grad.copy_(piece.view_as(grad))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        bucket.append(tensor)
        size += tensor.nbytes
        if size >= BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


@contextmanager
def joined(device: torch.device = CPU) -> Iterator[None]:
    """Be one of several processes while the block lasts; only the leader is heard.

    What is on cards goes from one to another by NCCL, and all else by Gloo.

    If it fails anywhere, it fails everywhere, and the process that failed first says why: the
    others end silently. A process other than the leader ends with the block.
    """
    store, number, count = next(rendezvous("env://", timeout=PATIENCE))
    try:
        _check_alike(store, number, device)
        backend = "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl"
        dist.init_process_group(
            backend, store=store, rank=number, world_size=count, timeout=PATIENCE
        )
        with _silence(number > 0):
            yield
            exchange(None)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        loss = _lost() if _is_loss(error) else None
        if not _fails_first(store, loss or error):
            raise SystemExit(2) from None
        if loss is not None:
            raise loss from error
        raise
    # A sharded model holds on to the group, by cycles; its threads must have ended before Python
    # does, or they abort the process.
    gc.collect()
    dist.destroy_process_group()
    if number > 0:
        raise SystemExit(0)


def _check_alike(store: Store, number: int, device: torch.device) -> None:
    """Refuse processes on cards beside others that have none; they would wait for each other."""
    if number == 0:
        store.set(DEVICE, device.type)
    elif (first := store.get(DEVICE).decode()) != device.type:
        raise ConfigError(
            f"process {number} computes on device {device.type}, and process 0 on {first}",
            "give --device cpu, or see why torch finds no card on one of the machines",
        )


@contextmanager
def _silence(silent: bool) -> Iterator[None]:
    if not silent:
        yield
        return
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stderr(nowhere),
        redirect_stdout(nowhere),
    ):
        yield


def _is_loss(error: BaseException) -> bool:
    """Whether a process failed only because it talked to one that had ended."""
    network = ("gloo", "Connection closed", "Connection reset", "Broken pipe")
    return isinstance(error, dist.DistError) or (
        type(error) is RuntimeError and any(word in str(error) for word in network)
    )


def _lost() -> RunError:
    return RunError(
        LOST,
        "perhaps for want of memory; the same command goes on from the last checkpoint",
    )


def _fails_first(store: Store, error: BaseException) -> bool:
    """Leave word of a failure where `failure` finds it; false if another process did before."""
    try:
        if store.add(FAILURE, 1) > 1:
            return False
        hint = error.hint if isinstance(error, TongwenError) else None
        known = isinstance(error, TongwenError | OSError)
        kind = type(error).__name__ if known else None
        store.set(f"{FAILURE}/text", json.dumps([kind, str(error), hint]))
    except (RuntimeError, dist.DistError):
        # The store ended with the process that held it, which said why.
        return False
    return True
