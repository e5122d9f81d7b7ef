"""From prepared folders to batches: what each optimiser step trains on.

Legend: T tokens of a packed row, K trained positions.

The order is a function of (seed, epoch) alone, and each epoch has a fixed number of steps, so any
step's rows are found in constant time: resuming is seeking, never replaying.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from tongwen.data import TokenStore
from tongwen.models import Packing
from tongwen.train.mix import Ints, Mixture


@dataclass(frozen=True)
class Batch:
    """One packed row of whole items."""

    ids_T: Tensor
    position_T: Tensor  # position inside the item
    trained_K: Tensor  # positions whose next token carries loss
    target_K: Tensor  # that next token
    packing: Packing


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

    def mask(self, item: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which tokens of an item carry loss."""
        store, local = self._locate(item)
        return store.mask(local)

    def _locate(self, item: int) -> tuple[TokenStore, int]:
        store = int(np.searchsorted(self._first, item, side="right")) - 1
        return self._stores[store], int(item - self._first[store])

    def batch(self, items: Ints) -> Batch:
        """Pack whole items side by side into one row."""
        ids_T = np.concatenate([self.ids(int(item)) for item in items])
        mask_T = np.concatenate([self.mask(int(item)) for item in items])
        lengths = self.lengths[items]
        starts = np.cumsum(lengths) - lengths
        position_T = np.arange(len(ids_T)) - np.repeat(starts, lengths)
        # The first token of an item has no token before it that could predict it.
        trained_K = np.flatnonzero(mask_T & (position_T > 0)) - 1
        return Batch(
            ids_T=torch.from_numpy(ids_T),
            position_T=torch.from_numpy(position_T),
            trained_K=torch.from_numpy(trained_K),
            target_K=torch.from_numpy(ids_T[trained_K + 1]),
            packing=Packing.of(lengths.tolist()),
        )


class Plan:
    """Which items each optimiser step trains on, cut into micro-batches."""

    def __init__(
        self,
        lengths: Ints,
        batch_tokens: int,
        micro_batch_tokens: int,
        seed: int,
        mixture: Mixture | None = None,
    ) -> None:
        assert len(lengths) > 0, "a plan needs at least one item"
        self._lengths = lengths
        self._order = mixture or Shuffle(lengths, batch_tokens, seed)
        self.steps_per_epoch = self._order.steps_per_epoch
        self.step_tokens = self._order.step_tokens
        """Tokens of a step, on average."""
        asked = mixture.step_tokens if mixture else batch_tokens
        self.micro_batches = max(1, -(-asked // micro_batch_tokens))

    def step(self, step: int) -> list[Ints]:
        """The items of step `step` (from 0), one array per micro-batch."""
        items = self._order.step(*divmod(step, self.steps_per_epoch))
        parts = min(self.micro_batches, len(items))
        return [part for part in _cut(items, self._lengths[items], parts) if len(part)]


class Shuffle:
    """All items in a random order, each once an epoch."""

    def __init__(self, lengths: Ints, batch_tokens: int, seed: int) -> None:
        self._lengths = lengths
        self._seed = seed
        total = int(lengths.sum())
        # Never more steps than items, so that no step is empty-handed by construction.
        self.steps_per_epoch = max(1, min(round(total / batch_tokens), len(lengths)))
        self.step_tokens = total // self.steps_per_epoch
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    def step(self, epoch: int, place: int) -> Ints:
        """The items of step `place` of an epoch."""
        order, bounds = self._order(epoch)
        return order[bounds[place] : bounds[place + 1]]

    def _epoch_order(self, epoch: int) -> tuple[Ints, Ints]:
        order = np.random.default_rng([self._seed, epoch, 0]).permutation(len(self._lengths))
        return order, _bounds(self._lengths[order], self.steps_per_epoch)


def _bounds(lengths: Ints, parts: int) -> Ints:
    """Cut points that split a sequence of items into parts of about equal tokens, none empty."""
    ends = np.cumsum(lengths)
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, parts) / parts, side="left") + 1
    # At least one item for every part, counted from both ends.
    steps = np.arange(1, parts)
    cuts = np.maximum.accumulate(np.maximum(cuts, steps) - steps) + steps
    cuts = np.minimum(cuts, len(lengths) - parts + steps)
    return np.concatenate([[0], cuts, [len(lengths)]])


def _cut(items: Ints, lengths: Ints, parts: int) -> list[Ints]:
    bounds = _bounds(lengths, parts)
    return [items[a:b] for a, b in pairwise(bounds)]
