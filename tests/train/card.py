"""A card that is not there: the processor computes, and tensors say where they would be.

Within `card(...)`, what is made on `CARD` or brought there is an ordinary tensor that is remembered
as being on a card. Its `device` says so, what is computed with it is there too, and an operation on
tensors of both places raises `Mixed`, as CUDA would. So whole runs take place, backward passes too,
and come to numbers that can be compared. (torch's FakeTensorMode has no numbers, and in a build
without CUDA no backward pass over tensors on a card.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tongwen.models import device, machine

CARD = torch.device("cuda", 0)
CPU = torch.device("cpu")
NAME, PEAK_BYTES = "a card of the tests", 12345
# Copies go both ways, and indices of a tensor on a card may be in the memory of the processor.
COPIES = {"aten::copy_", "aten::_foreach_copy_"}
INDEXED = {"aten::index.Tensor", "aten::index_put_"}
MAKERS = ("arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros")
_place = Tensor.device.__get__
_to, _numpy = Tensor.to, Tensor.numpy


class Mixed(Exception):
    """An operation on tensors in different places."""


class Memory:
    """What is on the card, by its storage."""

    def __init__(self) -> None:
        self._there: dict[int, StorageWeakRef] = {}

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor is there."""
        return tensor.untyped_storage()._cdata in self._there

    def put(self, tensor: Tensor, there: bool = True) -> None:
        """Remember where a tensor is."""
        storage = tensor.untyped_storage()
        self._there.pop(storage._cdata, None)
        if there:
            # As long as there is a weak reference, nothing else gets the same address.
            self._there[storage._cdata] = StorageWeakRef(storage)


# One for all tests: tables that are made once for each device stay from one test to the next.
MEMORY = Memory()


class _Operations(TorchDispatchMode):
    """Every operation, those of backward passes too: are all tensors in one place?"""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        there = [MEMORY.has(one) for one in given]
        # A single number in the memory of the processor goes with anything.
        counted = {on for on, one in zip(there, given, strict=True) if on or one.dim()}
        name = func.name()
        if len(counted) > 1 and name not in COPIES and not (name in INDEXED and there[0]):
            places = zip(there, given, strict=True)
            told = [f"{list(one.shape)} on {'card' if on else 'cpu'}" for on, one in places]
            raise Mixed(f"{name}: {', '.join(told)}")
        results = func(*args, **(kwargs or {}))
        if name not in COPIES and any(there):
            for one in tree_leaves(results):
                if isinstance(one, Tensor):
                    MEMORY.put(one)
        return results


def _device(tensor: Tensor) -> torch.device:
    where: torch.device = CARD if MEMORY.has(tensor) else _place(tensor)
    return where


def _brought(tensor: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
    """What `tensor.to` gives."""
    if args and isinstance(args[0], Tensor):
        kwargs, args = {"device": _device(args[0]), "dtype": args[0].dtype}, args[1:]
    where, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    card = MEMORY.has(tensor) if where is None else where == CARD
    changed = tensor if dtype is None else _to(tensor, dtype)
    if changed is tensor and (copy or card != MEMORY.has(tensor)):
        changed = tensor.clone()
    if changed is not tensor:
        MEMORY.put(changed, card)
    return changed


def _array(tensor: Tensor, **kwargs: Any) -> Any:
    if MEMORY.has(tensor):
        raise Mixed("an array of a tensor on a card")
    return _numpy(tensor, **kwargs)


def _maker(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        card = device is not None and torch.device(device) == CARD
        tensor = make(*args, device=CPU if card else device, **kwargs)
        if card:
            MEMORY.put(tensor)
        return tensor

    return made


@contextmanager
def card(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] = (7, 5), count: int = 1
) -> Iterator[None]:
    """A machine with cards of a capability; without FlashAttention unless it says otherwise."""
    device.capability.cache_clear()
    with monkeypatch.context() as changed:
        changed.setattr(device, "cards", lambda: count)
        changed.setattr(machine, "_measured_peak", lambda *_: 1e12)
        for name, answer in (
            ("get_device_capability", capability),
            ("get_device_name", NAME),
            ("max_memory_allocated", PEAK_BYTES),
            ("mem_get_info", (2**33, 2**33)),
            ("synchronize", None),
        ):
            changed.setattr(torch.cuda, name, lambda _, answer=answer: answer)
        changed.setattr(Tensor, "device", property(_device))
        changed.setattr(Tensor, "to", _brought)
        changed.setattr(Tensor, "cpu", lambda tensor: _brought(tensor, CPU))
        changed.setattr(Tensor, "pin_memory", lambda tensor: tensor)
        changed.setattr(Tensor, "numpy", _array)
        for name in MAKERS:
            changed.setattr(torch, name, _maker(getattr(torch, name)))
        with _Operations():  # type: ignore[no-untyped-call]
            yield
    device.capability.cache_clear()
