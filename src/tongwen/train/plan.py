"""Which items each optimiser step trains on, found in constant time: resuming is seeking.

The order is a function of (seed, epoch) alone, and each epoch has a fixed number of steps, so any
step's items are found without going through the steps before it. What is ordered are groups: an
item by itself, or items that must be seen together, such as the two answers of a preference.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import numpy as np

from tongwen.train.mix import Ints, Mixture


class Groups(Protocol):
    """Which groups every step trains on."""

    steps_per_epoch: int
    """Steps in which all of them are seen once."""
    step_tokens: int
    """Tokens of a step, on average."""

    def step(self, step: int) -> list[Ints]:
        """The groups of step `step` (from 0), one array per micro-batch."""

    def epochs(self, steps: int) -> float:
        """How often all groups are seen in so many steps."""


@dataclass(frozen=True)
class Ramp:
    """A batch that grows: step s takes 1 to `parts` parts of it, all of them from step `steps` on.

    What is planned are parts, one after another; which of them a step takes is a closed form, so
    any step is found without the ones before it. Mixing holds in every part.

    Steps, but for those of the ramp itself, are counted from step `first` of the schedule on.
    """

    steps: int = 0
    parts: int = 1
    first: int = 0

    def before(self, step: int) -> int:
        """Parts that the steps before `step` take."""
        return self._scheduled(self.first + step) - self._scheduled(self.first)

    def _scheduled(self, step: int) -> int:
        """Parts that the steps of the schedule before `step` take."""
        # Of the steps of the ramp, an equal share takes 1, 2, … parts - 1 parts: part k joins at
        # step ceil(steps · k / (parts - 1)).
        joined = (
            max(0, step - -(-self.steps * k // (self.parts - 1))) for k in range(1, self.parts)
        )
        return step + sum(joined)

    def of(self, step: int) -> range:
        """The parts that a step takes."""
        return range(self.before(step), self.before(step + 1))

    def steps_for(self, parts: int) -> int:
        """The fewest steps that take at least so many parts."""
        return bisect_left(range(parts), parts, key=self.before)


class Plan:
    """The groups of each optimiser step, cut into micro-batches.

    `batch_tokens` are those of a part of a step of `ramp`, and so is what `mixture` draws.
    """

    def __init__(
        self,
        lengths: Ints,
        batch_tokens: int,
        micro_batch_tokens: int,
        seed: int,
        mixture: Mixture | None = None,
        ramp: Ramp | None = None,
        processes: int = 1,
    ) -> None:
        assert len(lengths) > 0, "a plan needs at least one item"
        self._lengths = lengths
        self._order = mixture or Shuffle(lengths, batch_tokens, seed)
        self._ramp = ramp or Ramp()
        self._asked = mixture.step_tokens if mixture else batch_tokens
        self._micro_batch_tokens = micro_batch_tokens
        self._processes = processes
        self.steps_per_epoch = -(-self._order.steps_per_epoch // self._ramp.parts)
        """Steps of the full batch in which all groups are seen once."""
        self.step_tokens = self._order.step_tokens * self._ramp.parts
        """Tokens of a step, on average."""

    def step(self, step: int) -> list[Ints]:
        """The groups of step `step` (from 0), one array per micro-batch."""
        parts = self._ramp.of(step)
        of_parts = [self._order.step(*divmod(p, self._order.steps_per_epoch)) for p in parts]
        groups = np.concatenate(of_parts)
        tokens = self._asked * len(parts)
        # As many for every process.
        rounds = max(1, -(-tokens // (self._micro_batch_tokens * self._processes)))
        micro_batches = rounds * self._processes
        cut = _cut(groups, self._lengths[groups], min(micro_batches, len(groups)))
        return [part for part in cut if len(part)]

    def epochs(self, steps: int) -> float:
        """How often all groups are seen in so many steps."""
        return self._ramp.before(steps) / self._order.steps_per_epoch

    def steps(self, epochs: float) -> int:
        """Steps in which all groups are seen so many times, at least one."""
        return max(1, self._ramp.steps_for(round(epochs * self._order.steps_per_epoch)))


class Phases:
    """One plan up to step `at`, and from then on another one, of groups numbered after its own.

    The second begins with its own first step at step `at`.
    """

    def __init__(self, first: Plan, second: Plan, at: int, groups: int) -> None:
        self._first, self._second = first, second
        self._at = at
        self._groups = groups
        self.steps_per_epoch = first.steps_per_epoch
        self.step_tokens = first.step_tokens

    def step(self, step: int) -> list[Ints]:
        """The groups of step `step` (from 0), one array per micro-batch."""
        if step < self._at:
            return self._first.step(step)
        return [part + self._groups for part in self._second.step(step - self._at)]

    def epochs(self, steps: int) -> float:
        """How often all groups of the first plan are seen in so many steps."""
        return self._first.epochs(min(steps, self._at))


class Scheduled:
    """A plan as the steps of a schedule take it: of its draws, each makes `updates` steps.

    Draws are counted as steps are, from the first step of the schedule on; the plan begins with the
    draw of step `done`, which makes fewer steps where `done` stands within it.
    """

    def __init__(self, plan: Groups, updates: int, done: int) -> None:
        self._plan = plan
        self._updates = updates
        self._first = done // updates
        self.steps_per_epoch = plan.steps_per_epoch * updates
        self.step_tokens = plan.step_tokens

    def step(self, step: int) -> list[Ints]:
        """The groups of a step of the schedule."""
        return self._plan.step(step // self._updates - self._first)

    def epochs(self, steps: int) -> float:
        """How often all groups are drawn by so many steps of the schedule."""
        return self._plan.epochs(-(-steps // self._updates) - self._first)


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
