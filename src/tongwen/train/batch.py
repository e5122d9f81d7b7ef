"""From prepared folders to batches: the tokens of the items that a step trains on.

Legend: T tokens of a packed row, K trained positions, M items of the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tongwen.data import TokenStore
from tongwen.models import Packing
from tongwen.models.device import moved
from tongwen.train.mix import Ints
from tongwen.train.plan import Groups
from tongwen.train.processes import share

Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True)
class Batch:
    """One packed row of whole items."""

    ids_T: Tensor
    position_T: Tensor  # position inside the item
    trained_K: Tensor  # positions whose next token carries loss
    target_K: Tensor  # that next token
    packing: Packing
    lengths_M: tuple[int, ...]  # tokens of each item, in order; their sum is T
    trained_M: tuple[int, ...]  # trained positions of each item; their sum is K
    item_M: Ints  # numbers of the items
    values: dict[str, Tensor] = field(default_factory=dict)
    """What an objective needs besides, by item [M] or by trained position [K]."""
    idle: bool = False
    """Weighs nothing: the process has no micro-batch left and keeps step with the others."""

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        if device.type == "cpu":
            return self
        return replace(
            self,
            ids_T=moved(self.ids_T, device),
            position_T=moved(self.position_T, device),
            trained_K=moved(self.trained_K, device),
            target_K=moved(self.target_K, device),
            packing=self.packing.to(device),
            values={name: moved(one, device) for name, one in self.values.items()},
        )


@dataclass(frozen=True)
class Whole:
    """A whole optimiser step, over all its micro-batches: what losses are divided by."""

    step: int
    trained: int  # trained tokens
    groups: int  # items; or pairs, where items go in pairs


@dataclass(frozen=True)
class Work:
    """What there is to do in a step, in this process."""

    batches: list[Batch]
    whole: Whole


class Source(Protocol):
    """What the steps of a run train on."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which all of it is seen once."""

    @property
    def step_tokens(self) -> int:
        """Tokens of a step, on average."""

    def step(self, step: int) -> Work:
        """The micro-batches of step `step` (from 0), the same ones whenever it is asked."""


def pack(ids: Sequence[Ints], masks: Sequence[Bools], item_M: Ints) -> Batch:
    """A row of items side by side, each with its ids and with which of them carry loss."""
    ids_T, mask_T = np.concatenate(ids), np.concatenate(masks)
    lengths = np.array([len(one) for one in ids])
    starts = np.cumsum(lengths) - lengths
    position_T = np.arange(len(ids_T)) - np.repeat(starts, lengths)
    trained_T = mask_T & (position_T > 0)
    trained_K = np.flatnonzero(trained_T) - 1
    return Batch(
        ids_T=torch.from_numpy(ids_T),
        position_T=torch.from_numpy(position_T),
        trained_K=torch.from_numpy(trained_K),
        target_K=torch.from_numpy(ids_T[trained_K + 1]),
        packing=Packing.of(lengths.tolist()),
        lengths_M=tuple(lengths.tolist()),
        trained_M=tuple(np.add.reduceat(trained_T, starts, dtype=np.int64).tolist()),
        item_M=item_M,
    )


class Items:
    """The items of several token stores, numbered one after another."""

    def __init__(self, stores: Sequence[TokenStore]) -> None:
        self._stores = stores
        self._first = np.cumsum([0, *(len(store) for store in stores)])
        self.lengths: Ints = np.concatenate([store.lengths for store in stores]).astype(np.int64)
        self.bytes: Ints = np.concatenate([store.bytes for store in stores]).astype(np.int64)
        self.languages: Ints = np.concatenate([store.languages for store in stores])
        self.kinds: Ints = np.concatenate([store.kinds for store in stores])

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def lengths_by_store(self) -> list[Ints]:
        """Tokens of the items of each store."""
        return np.split(self.lengths, self._first[1:-1])

    def ids(self, item: int) -> Ints:
        """Token ids of an item."""
        store, local = self._locate(item)
        return store.ids(local).astype(np.int64)

    def mask(self, item: int) -> Bools:
        """Which tokens of an item carry loss."""
        store, local = self._locate(item)
        return store.mask(local)

    def trained(self, item: int) -> int:
        """Tokens of an item that carry loss and have one before them that predicts them."""
        return int(np.count_nonzero(self.mask(item)[1:]))

    def _locate(self, item: int) -> tuple[TokenStore, int]:
        store = int(np.searchsorted(self._first, item, side="right")) - 1
        return self._stores[store], int(item - self._first[store])

    def batch(self, items: Ints) -> Batch:
        """Pack whole items side by side into one row."""
        return pack(
            [self.ids(int(item)) for item in items],
            [self.mask(int(item)) for item in items],
            items,
        )


class Rows:
    """Items in the order of a plan; groups of `group` items one after another stay together."""

    def __init__(self, items: Items, plan: Groups, group: int = 1) -> None:
        self._items = items
        self._plan = plan
        self._group = group
        self.steps_per_epoch = plan.steps_per_epoch
        self.step_tokens = plan.step_tokens

    def step(self, step: int) -> Work:
        """The micro-batches of step `step`."""
        parts = self._plan.step(step)
        whole = Whole(
            step=step,
            trained=sum(
                self._items.trained(int(item)) for part in parts for item in self._items_of(part)
            ),
            groups=sum(map(len, parts)),
        )
        mine, idle = share(parts)
        batches = [self._items.batch(self._items_of(part)) for part in mine]
        if idle:
            batches[-1] = replace(batches[-1], idle=True)
        return Work(batches, whole)

    def _items_of(self, groups: Ints) -> Ints:
        return (groups[:, None] * self._group + np.arange(self._group)).ravel()
