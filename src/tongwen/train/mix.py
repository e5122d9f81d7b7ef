"""Mixing sources: which items of each source a step trains on.

By weights, every step has the same share of tokens from each source; by quota, the same number of
items. A source is drawn from in a random order, without repetition until it is used up, and then
again in another order. The order is a function of (seed, epoch, source, pass), and where a step
begins in it is a multiplication, so any step is found in constant time.

When an epoch ends follows the four modes of KnowLM's sampler, a choice for what each source has
left (`incomplete`) and one for sources that are used up before the others (`exhausted`):

    drop_mode of KnowLM     0      1      2      3
    incomplete              drop   fill   drop   fill    fewer items left than a step takes: leave
                                                         them out, or take more of the next pass
    exhausted               drop   drop   fill   fill    the epoch ends with the first source that
                                                         is used up, or with the last
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
Remainder = Literal["drop", "fill"]


class Source:
    """Items that are drawn from together: so many units, tokens or items, for every step."""

    def __init__(
        self, place: tuple[int, int], units: Ints, per_step: float, incomplete: Remainder
    ) -> None:
        self._number, self._first = place
        self._units = units
        self._per_step = per_step
        steps = int(units.sum()) / per_step
        self.steps = math.ceil(steps) if incomplete == "fill" else math.floor(steps)
        """Steps in which the source is used up; 0 where it has too little for a single one."""
        self._total = units.sum() if incomplete == "fill" else self.steps * per_step
        self._order = lru_cache(maxsize=2)(self._order_of_pass)

    def draw(self, key: tuple[int, int], place: int) -> Ints:
        """The items of step `place` of the epoch that (seed, epoch) stands for."""
        low, high = place * self._per_step, (place + 1) * self._per_step
        drawn = []
        for again in range(int(low // self._total), math.ceil(high / self._total)):
            order, begins = self._order(key, again)
            here = np.array([low, min(high, (again + 1) * self._total)]) - again * self._total
            first, last = np.searchsorted(begins, here)
            drawn.append(order[first:last])
        return np.concatenate(drawn)

    def _order_of_pass(self, key: tuple[int, int], again: int) -> tuple[Ints, Ints]:
        # The order of unmixed items has a key of three numbers, which this one never equals.
        draw = np.random.default_rng([*key, 0, self._number + 1, again])
        order = draw.permutation(len(self._units))
        units = self._units[order]
        return order + self._first, np.cumsum(units) - units


class Mixture:
    """Which items of several sources each step of an epoch takes."""

    def __init__(
        self, sources: Sequence[Source], step_tokens: int, exhausted: Remainder, seed: int
    ) -> None:
        assert all(source.steps for source in sources), "every source has enough for one step"
        self._sources = sources
        self._seed = seed
        self.step_tokens = step_tokens
        """Tokens of a step, on average."""
        steps = [source.steps for source in sources]
        self.steps_per_epoch = max(steps) if exhausted == "fill" else min(steps)

    def step(self, epoch: int, place: int) -> Ints:
        """The items of step `place` of an epoch, source by source."""
        return np.concatenate([source.draw((self._seed, epoch), place) for source in self._sources])


def by_quota(
    lengths: Sequence[Ints], quota: Sequence[int], incomplete: Remainder
) -> tuple[list[Source], int]:
    """Sources that give `quota` items each to a step, and the tokens of a step."""
    units = [np.ones_like(sizes) for sizes in lengths]
    tokens = sum(items * sizes.mean() for sizes, items in zip(lengths, quota, strict=True))
    return _sources(units, quota, incomplete), round(tokens)


def by_weight(
    lengths: Sequence[Ints], weights: Sequence[float], batch_tokens: int, incomplete: Remainder
) -> tuple[list[Source], int]:
    """Sources that give their share of a step's tokens, and the tokens of a step.

    These are `batch_tokens`, or more where the longest item of the source of the largest weight is
    longer than its share: so no step is empty.
    """
    shares = np.array(weights) / sum(weights)
    heaviest = int(np.argmax(shares))
    tokens = max(batch_tokens, math.ceil(lengths[heaviest].max() / shares[heaviest]))
    return _sources(lengths, (shares * tokens).tolist(), incomplete), tokens


def _sources(
    units: Sequence[Ints], per_step: Sequence[float], incomplete: Remainder
) -> list[Source]:
    firsts = np.cumsum([0, *map(len, units)]).tolist()
    return [
        Source((number, firsts[number]), of_items, taken, incomplete)
        for number, (of_items, taken) in enumerate(zip(units, per_step, strict=True))
    ]
