"""Where a model computes: on the processor, or on a CUDA card of this machine.

A command chooses once, by `device_of`; from then on what is computed is computed where the weights
are. Nothing is drawn on a card: random numbers come from the processor and are moved, so they are
the same anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from tongwen.config import Device
from tongwen.errors import ConfigError

M = TypeVar("M", bound=nn.Module)
CPU: Final = torch.device("cpu")


@cache
def cards() -> int:
    """How many CUDA cards torch sees on this machine."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def device_of(asked: Device) -> torch.device:
    """The device that a setting means here; of several processes each has a card of its own.

    Raises ConfigError where a card is asked for and there is none.
    """
    count = 0 if asked == "cpu" else cards()
    if asked == "cuda" and count == 0:
        built = "its driver may be missing" if torch.version.cuda else "it was built without CUDA"
        raise ConfigError(
            f"--device is cuda, and torch sees no card here; {built}",
            "leave --device out to compute on the processor",
        )
    if count == 0:
        return CPU
    # The only way to tell cuBLAS, which reads it once: its products then give the same bits.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def check_cards(asked: Device, processes: int) -> None:
    """Refuse more processes on this machine than it has cards, where they compute on cards."""
    count = 0 if asked == "cpu" else cards()
    if 0 < count < processes:
        raise ConfigError(
            f"{processes} processes compute on a card each, and this machine has {count}",
            f"start {count} of them here, or give --device cpu",
        )


@cache
def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a card: (8, 0) is the first that has bf16 and FlashAttention."""
    return torch.cuda.get_device_capability(device)


def card_name(device: torch.device) -> str:
    """What a card is called by its driver."""
    return torch.cuda.get_device_name(device)


def peak_memory(device: torch.device) -> int:
    """The most bytes that tensors of this process have had on a card at once."""
    return torch.cuda.max_memory_allocated(device)


def synchronize(device: torch.device) -> None:
    """Wait until a card has done what it was given; a processor has nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def placed(model: M, device: torch.device) -> M:
    """The model itself, whose parameters and buffers are on the device now."""
    nn.Module.to(model, device)
    return model


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; the processor does not wait for it to arrive on a card."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        # From other memory than pinned one the copy would wait for all that the card does before.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Only take algorithms that give the same bits each time; torch raises where it has none.

    On a processor all that is used here do so already.
    """
    if device.type == "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    # It would also fill all new memory, which finds mistakes and takes time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
