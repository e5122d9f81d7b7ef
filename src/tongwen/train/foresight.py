"""What a run will take in memory and time, computed from shapes before any weight is loaded.

The arithmetic is that of `tongwen forecast`. What a forecast has to suppose is known here: the plan
of the steps, the precision, and how fast this machine multiplies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tongwen.config import AlignConfig, PretrainConfig, TrainConfig
from tongwen.config.align import COMPARING
from tongwen.errors import ModelError
from tongwen.models.anatomy import Anatomy, anatomy_of, read_anatomy
from tongwen.models.cost import Speed, Step, step_seconds
from tongwen.models.device import device_of
from tongwen.models.machine import compute_dtype, matrix_peak
from tongwen.models.memory import training_memory
from tongwen.models.recipe import Recipe, recipe_of
from tongwen.models.room import MARGIN, Verdict, free_memory, verdict_of
from tongwen.models.sizes import shape_config
from tongwen.native import kernels
from tongwen.progress import duration
from tongwen.train.batch import Items
from tongwen.train.heaviest import heaviest, tokens_looked_at, trained_share
from tongwen.train.mix import Ints
from tongwen.train.plan import Groups
from tongwen.train.processes import processes_here, world

GIB = 2**30


@dataclass(frozen=True)
class Foresight:
    """Memory of each process, and time; evaluating and saving are not counted."""

    peak_bytes: float
    available_bytes: float
    verdict: Verdict
    seconds_per_step: float
    tokens_per_second: float

    def told(self, steps: int) -> str:
        """Memory, and the time of so many steps, in words."""
        each = " in each process" if world() > 1 else ""
        return (
            f"memory about {self.peak_bytes / GIB:.1f} of {self.available_bytes / GIB:.1f} GiB free"
            f"{each}; about {duration(steps * self.seconds_per_step)} at "
            f"{self.tokens_per_second:,.0f} tokens/s"
        )

    def warning(self, run: Path) -> str:
        """How much memory is missing, and who knows what to do about it."""
        missing = (self.peak_bytes - self.available_bytes) / GIB
        return (
            f"{missing:.1f} GiB of memory are missing by forecast; "
            f"`tongwen forecast {run} --fit` says what fits"
        )


@dataclass(frozen=True)
class Outlook:
    """The work of a run: which of the groups its steps learn from, of how many tokens each."""

    plan: Groups
    steps: range
    lengths: Ints
    """Tokens of each group."""
    items: Items
    held_out: Items
    folders: Sequence[Path]


def foreseen(
    config: TrainConfig, base: Path | None, vocabulary: int, work: Outlook
) -> Foresight | None:
    """What a run will take; None where that cannot be counted from shapes.

    Answers that are generated and mixtures of experts cannot. A new model, which has no `base`, has
    so many tokens in its `vocabulary`.
    """
    objective = config.objective if isinstance(config, AlignConfig) else None
    if objective == "grpo":
        return None
    try:
        anatomy = _anatomy(config, base, vocabulary)
    except ModelError:
        # What is wrong with a model is said when it is loaded.
        return None
    looked = _looked_at(config, work)
    device = device_of(config.device)
    recipe = _recipe(config, device, len(work.plan.step(looked[-1])))
    share = trained_share(work.folders)
    load = heaviest(work.plan, work.lengths, looked, share)
    alone = tokens_looked_at(
        int(work.items.lengths.sum()),
        int(work.held_out.lengths.sum()),
        compared=objective in COMPARING,
    )
    load = replace(load, looked=-(-alone // config.micro_batch_tokens))
    memory = training_memory(anatomy, recipe, load)
    available = free_memory(device) / (1 if recipe.card else processes_here())
    tokens, squares = float(work.plan.step_tokens), np.square(work.lengths, dtype=np.float64)
    step = Step(tokens, tokens * share, float(squares.sum() / work.lengths.sum()))
    peak = matrix_peak(compute_dtype(config.precision, device), device)
    seconds = step_seconds(anatomy, recipe, step, Speed(peak, config.threads))
    return Foresight(
        peak_bytes=memory.peak,
        available_bytes=available,
        verdict=verdict_of(memory.peak, MARGIN["card" if recipe.card else "processor"], available),
        seconds_per_step=seconds,
        tokens_per_second=tokens / seconds,
    )


def _anatomy(config: TrainConfig, base: Path | None, vocabulary: int) -> Anatomy:
    if base is not None:
        return read_anatomy(base)
    assert isinstance(config, PretrainConfig), "only pretraining begins without a model"
    return anatomy_of(shape_config(config.size, vocabulary, config.context))


def _recipe(config: TrainConfig, device: torch.device, micro_batches: int) -> Recipe:
    """How the model is trained by all processes, those on other machines included."""
    real = config.model_copy(update={"nproc": world()})
    card = device.type == "cuda"
    compiled = not card and kernels() is not None
    recipe = recipe_of(real, config.precision, card=card, compiled=compiled)
    return replace(recipe, micro_batches=-(-micro_batches // world()))


def _looked_at(config: TrainConfig, work: Outlook) -> Sequence[int]:
    """The steps of the first epoch, and those of the end where they have other data."""
    epoch = work.plan.steps_per_epoch
    first = work.steps[:epoch]
    return first if config.decay_data is None else [*first, *work.steps[-epoch:]]
