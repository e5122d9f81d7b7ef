"""Time and disk of a training.

Time is work over speed: floating-point operations counted as by Chowdhery et al. 2022 (PaLM,
arXiv:2204.02311, appendix B), but what is really computed: no gradient of weights that do not
learn, and a second forward pass where activations are computed again. The speed is the machine's
peak times an efficiency, which is measured where something was measured, and is said.
"""

from __future__ import annotations

from dataclasses import dataclass

from tongwen.forecasts.machines import Machine
from tongwen.models.anatomy import Anatomy
from tongwen.models.recipe import Recipe

EFFICIENCY = {
    ("tongwen", "processor"): 0.45,
    ("tongwen", "card"): 0.40,
    ("peers", "processor"): 0.08,
    ("peers", "card"): 0.53,
}
"""Share of the matrix peak. The peers' on a card is what Aquila2's table of seconds comes to. Ours
on a processor was 0.6 where it was measured (135M, full); less is taken, since small models reach
less. The others are assumptions."""
HOST_SPEED, HOST_BYTES = 20e9, 28.0
"""Bytes per second of a host's memory, and bytes that AdamW moves for each number it updates."""


@dataclass(frozen=True)
class Step:
    """One optimiser step of all processes."""

    tokens: float
    trained: float
    square_length: float
    """Keys that a token is scored with."""


def step_flops(anatomy: Anatomy, recipe: Recipe, step: Step) -> float:
    """Floating-point operations of a step."""
    layers = 2 * anatomy.matrices * step.tokens
    # Scores and weighted values, halved by causality.
    layers += 2 * anatomy.layers * anatomy.query * step.square_length * step.tokens
    head = 2 * anatomy.embedding * (step.trained if recipe.way == "tongwen" else step.tokens)
    full = recipe.adapter.method == "full"
    backward = 2 if full else 1
    adapters = 0 if full else 6 * recipe.trainable(anatomy) * step.tokens
    return layers * (1 + recipe.checkpointing + backward) + head * (1 + backward) + adapters


def efficiency(recipe: Recipe) -> float:
    """Share of the matrix peak that is reached."""
    return EFFICIENCY[recipe.way, "card" if recipe.card else "processor"]


def step_seconds(
    anatomy: Anatomy, recipe: Recipe, machine: Machine, peak: float, step: Step
) -> float:
    """Seconds of a step; talk between processes is not counted."""
    speed = peak * efficiency(recipe) * recipe.processes
    seconds = step_flops(anatomy, recipe, step) / speed
    if recipe.offload:
        moved = recipe.trainable(anatomy) / (recipe.processes if recipe.shard else 1)
        seconds += moved * (4 + recipe.element) / machine.link + moved * HOST_BYTES / HOST_SPEED
    return seconds


def disk_bytes(anatomy: Anatomy, recipe: Recipe, keep: int) -> dict[str, float]:
    """Bytes of the files of a run: weights and moments of what learns, in every checkpoint."""
    learning = recipe.trainable(anatomy)
    checkpoint = 4.0 * learning + recipe.moments(anatomy)
    # One more than are kept stands while it is written.
    return {"checkpoints": (keep + 1) * checkpoint, "final": 4.0 * learning}
