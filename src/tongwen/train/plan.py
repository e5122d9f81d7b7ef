"""Which items each optimiser step trains on, found in constant time: resuming is seeking.

The order is a function of (seed, epoch) alone, and each epoch has a fixed number of steps, so any
step's items are found without going through the steps before it. What is ordered are groups: an
item by itself, or items that must be seen together, such as the two answers of a preference.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np

from tongwen.train.mix import Ints, Mixture


class Plan:
    """The groups of each optimiser step, cut into micro-batches."""

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
        """The groups of step `step` (from 0), one array per micro-batch."""
        groups = self._order.step(*divmod(step, self.steps_per_epoch))
        parts = min(self.micro_batches, len(groups))
        return [part for part in _cut(groups, self._lengths[groups], parts) if len(part)]


class Shuffle:
    """All groups in a random order, each once an epoch."""

    def __init__(self, lengths: Ints, batch_tokens: int, seed: int) -> None:
        self._lengths = lengths
        self._seed = seed
        total = int(lengths.sum())
        # Never more steps than groups, so that no step is empty-handed by construction.
        self.steps_per_epoch = max(1, min(round(total / batch_tokens), len(lengths)))
        self.step_tokens = total // self.steps_per_epoch
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    def step(self, epoch: int, place: int) -> Ints:
        """The groups of step `place` of an epoch."""
        order, bounds = self._order(epoch)
        return order[bounds[place] : bounds[place + 1]]

    def _epoch_order(self, epoch: int) -> tuple[Ints, Ints]:
        order = np.random.default_rng([self._seed, epoch, 0]).permutation(len(self._lengths))
        return order, _bounds(self._lengths[order], self.steps_per_epoch)


def _bounds(lengths: Ints, parts: int) -> Ints:
    """Cut points that split a sequence of groups into parts of about equal tokens, none empty."""
    ends = np.cumsum(lengths)
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, parts) / parts, side="left") + 1
    # At least one group for every part, counted from both ends.
    steps = np.arange(1, parts)
    cuts = np.maximum.accumulate(np.maximum(cuts, steps) - steps) + steps
    cuts = np.minimum(cuts, len(lengths) - parts + steps)
    return np.concatenate([[0], cuts, [len(lengths)]])


def _cut(groups: Ints, lengths: Ints, parts: int) -> list[Ints]:
    bounds = _bounds(lengths, parts)
    return [groups[a:b] for a, b in pairwise(bounds)]
