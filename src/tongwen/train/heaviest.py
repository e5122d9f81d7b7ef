"""The heaviest micro-batch of a run, found by cutting the steps as training will cut them.

It is what the arithmetic of `models/memory.py` needs of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tongwen.data import load_manifest
from tongwen.models.attention import ROUND
from tongwen.models.recipe import Load
from tongwen.train.loop import EVAL_TOKENS_AT_ENDS
from tongwen.train.mix import Ints
from tongwen.train.plan import Groups

MOST_STEPS = 1000
"""Steps that are looked at, evenly from a run of more."""


def tokens_looked_at(train: int, held_out: int, *, compared: bool) -> int:
    """Tokens that go forward alone: held-out ones, and all once where a reference is compared."""
    return min(held_out, EVAL_TOKENS_AT_ENDS) + (train + held_out) * compared


def trained_share(folders: Sequence[Path]) -> float:
    """Share of the tokens of prepared folders that carries loss."""
    splits = [load_manifest(folder).splits["train"] for folder in folders]
    return sum(split.trained_tokens for split in splits) / sum(split.tokens for split in splits)


def heaviest(plan: Groups, lengths: Ints, steps: Sequence[int], trained: float) -> Load:
    """The largest micro-batch of some steps of a run: the most there is of each quantity.

    `lengths` are the tokens of each group; `trained` is the share of them that carries loss.
    """
    quantities = np.stack([lengths, *_laid_out(lengths)])
    largest = np.zeros(3, dtype=np.int64)
    sizes_seen: set[int] = set()
    places = np.linspace(0, len(steps) - 1, min(MOST_STEPS, len(steps))).astype(int)
    for place in places.tolist():
        for part in plan.step(steps[place]):
            sums = quantities[:, part].sum(1)
            sizes_seen.add(int(sums[0]))
            largest = np.maximum(largest, sums)
    tokens, padded, pairs = largest.tolist()
    return Load(tokens, round(tokens * trained), padded, pairs, len(sizes_seen))


def laid_out(lengths: Ints) -> tuple[int, int]:
    """Tokens and pairs of documents as packed attention lays them out."""
    places, pairs = _laid_out(lengths)
    return int(places.sum()), int(pairs.sum())


def _laid_out(lengths: Ints) -> tuple[Ints, Ints]:
    """The same of each document, the padding up to the width of its bucket included."""
    widths = -(-lengths // ROUND) * ROUND
    return widths, widths**2
