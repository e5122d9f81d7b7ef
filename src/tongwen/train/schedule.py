"""The learning rate of every step."""

from __future__ import annotations

import math

from tongwen.config import OptimizerConfig
from tongwen.errors import ConfigError

LOWEST_OF_CURVES = 0.1


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """The factor on the highest learning rate at `step` (from 0) of `steps`.

    Linear warm-up; then a cosine (Hoffmann et al. 2022, arXiv:2203.15556) or a line down to
    `min_lr`, constant, or constant with a decay at the end (warm-up, stable, decay; Hu et al. 2024,
    arXiv:2404.06395). The decay is a line, half a cosine, one minus a square root (Hägele et al.
    2024, arXiv:2405.18392), or exponential as in the former paper.
    """
    warm = warmup_end(steps, config)
    if step < warm:
        return (step + 1) / warm
    if config.schedule == "constant":
        return 1.0
    shape: str = config.schedule
    begin = warm
    if config.schedule == "wsd":
        shape, begin = config.decay_shape, decay_start(steps, config.decay)
    progress = max(0.0, (step - begin) / max(1, steps - begin))
    lowest = _lowest(config, shape)
    if shape == "exponential":
        return math.pow(lowest, progress)
    return lowest + (1 - lowest) * _left(shape, progress)


def warmup_end(steps: int, config: OptimizerConfig) -> int:
    """The first step after the warm-up."""
    return config.warmup_steps or round(steps * config.warmup)


def decay_start(steps: int, decay: float) -> int:
    """The first step of the decay of a `wsd` schedule."""
    return steps - round(steps * decay)


def check_schedule(steps: int, config: OptimizerConfig) -> None:
    """Refuse a warm-up that does not leave room for the rest of the schedule."""
    end = decay_start(steps, config.decay) if config.schedule == "wsd" else steps
    if config.warmup_steps is not None and config.warmup_steps > end:
        raise ConfigError(
            f"--warmup-steps {config.warmup_steps:,} of {steps:,} steps ends after step {end:,}, "
            + ("where the decay begins" if end < steps else "the last one"),
            "give fewer, or leave it out: `--warmup` is a share of the steps",
        )


def _lowest(config: OptimizerConfig, shape: str) -> float:
    if config.min_lr is not None:
        return config.min_lr
    curved = config.schedule == "cosine" or shape == "exponential"
    return LOWEST_OF_CURVES if curved else 0.0


def _left(shape: str, progress: float) -> float:
    """How much is left of the way down, from 1 to 0."""
    if shape == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - math.sqrt(progress) if shape == "sqrt" else 1 - progress
