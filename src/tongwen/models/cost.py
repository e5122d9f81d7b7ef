"""Time and disk of a training.

Time is work over speed. The work are floating-point operations, counted as by Chowdhery et al. 2022
(PaLM, arXiv:2204.02311, appendix B), but what is really computed: no gradient of weights that do
not learn, and a second forward pass where activations are computed again.

On a processor our training multiplies about as fast as the peak says, and what lies between the
products takes time for every number that it makes of a token: it is most of the time of a small
model, and little of that of a large one. Anything else is taken at a share of the peak.
"""

from __future__ import annotations

from dataclasses import dataclass

from tongwen.models.anatomy import Anatomy
from tongwen.models.recipe import Recipe

EFFICIENCY = {
    ("tongwen", "card"): 0.40,
    ("peers", "processor"): 0.08,
    ("peers", "card"): 0.53,
}
"""Share of the matrix peak. The peers' on a card is what Aquila2's table of seconds comes to; the
others are assumptions."""
ALONE, TOGETHER = 1.0, 0.85
"""Share of the peak that matrix products reach on one thread of a processor, and on several."""
NUMBER_SECONDS = 2.4e-9
"""Seconds of a thread for each number that is made of a token, in both passes, beside products."""
ROWS_OF_HIDDEN = 10
"""Numbers of a layer's token in rows as wide as the model; three more are as wide as its inside."""
LINK = 25e9
"""Bytes per second between a card and its host, of PCIe 4.0 with 16 lanes."""
HOST_SPEED, HOST_BYTES = 20e9, 28.0
"""Bytes per second of a host's memory, and bytes that AdamW moves for each number it updates."""


@dataclass(frozen=True)
class Speed:
    """How fast the device of one process computes."""

    peak: float
    """FLOP/s of large matrix products."""
    threads: int = 1
    """Of a processor."""
    link: float = LINK
    """Bytes per second between a card and the memory of its host, one way."""


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


def step_seconds(anatomy: Anatomy, recipe: Recipe, step: Step, speed: Speed) -> float:
    """Seconds of a step; talk between processes is not counted."""
    flops = step_flops(anatomy, recipe, step)
    if recipe.way == "tongwen" and not recipe.card:
        share = ALONE if speed.threads == 1 else TOGETHER
        seconds = flops / (speed.peak * share)
        seconds += _numbers(anatomy, recipe, step) * NUMBER_SECONDS / speed.threads
    else:
        seconds = flops / (
            speed.peak * EFFICIENCY[recipe.way, "card" if recipe.card else "processor"]
        )
    seconds /= recipe.processes
    if recipe.offload:
        moved = recipe.trainable(anatomy) / (recipe.processes if recipe.shard else 1)
        seconds += moved * (4 + recipe.element) / speed.link + moved * HOST_BYTES / HOST_SPEED
    return seconds


def _numbers(anatomy: Anatomy, recipe: Recipe, step: Step) -> float:
    """Numbers that are made of the tokens of a step, logits included."""
    layer = ROWS_OF_HIDDEN * anatomy.hidden + 3 * anatomy.intermediate
    # A third of both passes is gone through again.
    passes = 4 / 3 if recipe.checkpointing else 1
    return passes * anatomy.layers * layer * step.tokens + anatomy.vocabulary * step.trained


def reached(anatomy: Anatomy, recipe: Recipe, step: Step, speed: Speed) -> float:
    """Share of the matrix peak that the time of a step comes to."""
    seconds = step_seconds(anatomy, recipe, step, speed)
    return step_flops(anatomy, recipe, step) / (seconds * speed.peak * recipe.processes)


def disk_bytes(anatomy: Anatomy, recipe: Recipe, keep: int) -> dict[str, float]:
    """Bytes of the files of a run: weights and moments of what learns, in every checkpoint."""
    learning = recipe.trainable(anatomy)
    checkpoint = 4.0 * learning + recipe.moments(anatomy)
    # One more than are kept stands while it is written.
    return {"checkpoints": (keep + 1) * checkpoint, "final": 4.0 * learning}
