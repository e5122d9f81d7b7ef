"""What a run takes in memory, told from its plan before it starts.

The arithmetic is `models/memory.py`; here is what it needs of a run: the heaviest micro-batch,
found by cutting the steps as training will cut them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tongwen.config import TrainConfig
from tongwen.models import Packing
from tongwen.models.anatomy import anatomy_of
from tongwen.models.memory import Memory, training_memory
from tongwen.models.recipe import Load, recipe_of
from tongwen.native import kernels
from tongwen.train.mix import Ints
from tongwen.train.plan import Groups

MOST_STEPS = 2000
"""Steps that are looked at, evenly from a run of more."""


def footprint(
    model_config: Any, config: TrainConfig, plan: Groups, lengths: Ints, steps: int, trained: float
) -> Memory:
    """The memory of one process of a run.

    Args:
        model_config: The model's transformers configuration.
        config: Settings with the precision as it is, not `auto`.
        plan: Which groups every step trains on.
        lengths: Tokens of each group.
        steps: Steps of the run.
        trained: Share of the tokens that carry loss.
    """
    recipe = recipe_of(config, config.precision, compiled=kernels() is not None)
    load = heaviest(plan, lengths, steps, trained)
    return training_memory(anatomy_of(model_config), recipe, load)


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
