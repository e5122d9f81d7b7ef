"""The heaviest micro-batch of a run, found by cutting the steps as training will cut them.

It is what the arithmetic of `models/memory.py` needs of a run.
"""

from __future__ import annotations

import numpy as np

from tongwen.models import Packing
from tongwen.models.recipe import Load
from tongwen.train.loop import EVAL_TOKENS_AT_ENDS
from tongwen.train.mix import Ints
from tongwen.train.plan import Groups

MOST_STEPS = 2000
"""Steps that are looked at, evenly from a run of more."""


def tokens_looked_at(train: int, held_out: int, *, compared: bool) -> int:
    """Tokens that go forward alone: held-out ones, and all once where a reference is compared."""
    return min(held_out, EVAL_TOKENS_AT_ENDS) + (train + held_out) * compared


def heaviest(plan: Groups, lengths: Ints, steps: int, trained: float) -> Load:
    """The largest micro-batch of a run: the most there is of each quantity."""
    largest = np.zeros(3, dtype=np.int64)
    sizes_seen: set[int] = set()
    for step in np.linspace(0, steps - 1, min(MOST_STEPS, steps)).astype(int).tolist():
        for part in plan.step(step):
            sizes = lengths[part].tolist()
            sizes_seen.add(sum(sizes))
            largest = np.maximum(largest, [sum(sizes), *laid_out(sizes)])
    tokens, places, pairs = largest.tolist()
    return Load(tokens, round(tokens * trained), places, pairs, len(sizes_seen))


def laid_out(lengths: list[int]) -> tuple[int, int]:
    """Tokens and pairs of documents as packed attention lays them out."""
    shapes = Packing.of(lengths).shapes
    return sum(n * width for n, width in shapes), sum(n * width**2 for n, width in shapes)
