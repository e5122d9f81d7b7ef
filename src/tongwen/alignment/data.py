"""Which data an objective learns from, and what to say about others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tongwen.config.align import Objective
from tongwen.data import KINDS, TokenStore
from tongwen.errors import DataError
from tongwen.train.batch import Items
from tongwen.train.mix import Ints

PAIR = ("chosen", "rejected")
KINDS_OF: dict[Objective, tuple[str, ...]] = {
    **dict.fromkeys(("dpo", "orpo", "simpo", "reward"), PAIR),
    "kto": ("good", "bad", *PAIR),
    "grpo": ("conversation",),
}
NEEDS: dict[tuple[str, ...], str] = {
    PAIR: 'pairs, rows such as {"prompt": …, "chosen": …, "rejected": …}',
    ("good", "bad", *PAIR): 'judged answers, rows such as {"messages": […], "label": true}',
    ("conversation",): 'tasks, rows such as {"question": …, "answer": …}',
}
PROMPTS = 3


def group_of(objective: Objective) -> int:
    """Items that the objective learns from together."""
    return 2 if KINDS_OF[objective] == PAIR else 1


def check_kinds(items: Items, objective: Objective) -> None:
    """Refuse items of which the objective knows nothing to learn."""
    wanted = KINDS_OF[objective]
    counts = np.bincount(items.kinds, minlength=len(KINDS)).tolist()
    found = {kind: count for kind, count in zip(KINDS, counts, strict=True) if count}
    if found.keys() - set(wanted):
        listed = ", ".join(f"{count:,} {kind}" for kind, count in found.items())
        raise DataError(
            f"{objective} learns from {' and '.join(wanted)} items, and the data holds {listed}",
            f"{objective} needs {NEEDS[wanted]}; prepare other data apart",
        )
    if wanted == PAIR:
        sides = [np.all(items.kinds[n::2] == KINDS.index(PAIR[n])) for n in (0, 1)]
        assert all(sides), "preparing writes the rejected answer behind the chosen one"


def prompt_of(ids: Ints, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[int]:
    """The tokens of an item before its first trained one."""
    return [int(number) for number in ids[: int(mask.argmax())]]


def held_out_prompts(folders: Sequence[Path]) -> list[list[int]]:
    """A few different prompts of what is held out."""
    prompts: list[list[int]] = []
    for folder in folders:
        store = TokenStore.open(folder, "held_out")
        for item in range(min(2 * PROMPTS, len(store))):
            prompt = prompt_of(store.ids(item).astype(np.int64), store.mask(item))
            if prompt not in prompts:
                prompts.append(prompt)
    return prompts[:PROMPTS]
