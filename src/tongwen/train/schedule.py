"""The learning rate of every step."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate(
    step: int, steps: int, schedule: Literal["cosine", "wsd"], warmup: float, decay: float
) -> float:
    """The factor on the highest learning rate at `step` (from 0) of `steps`.

    Linear warm-up over `warmup` of the steps; then a cosine to 0.1 (Hoffmann et al. 2022,
    arXiv:2203.15556), or constant with a last `decay` of the steps going linearly to zero
    (warm-up, stable, decay; Hu et al. 2024, arXiv:2404.06395).
    """
    warm = round(steps * warmup)
    if step < warm:
        return (step + 1) / warm
    if schedule == "cosine":
        progress = (step - warm) / max(1, steps - warm)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))
    left = steps - step
    return min(1.0, left / max(1, steps - decay_start(steps, decay)))


def decay_start(steps: int, decay: float) -> int:
    """The first step of the decay of a `wsd` schedule."""
    return steps - round(steps * decay)
