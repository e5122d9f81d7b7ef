"""`tongwen replay`: one step of a run again, item by item.

A step follows from the weights before it and from its number, so it can be looked at as often as
one likes: from the nearest checkpoint before it, with the steps between done again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tongwen.alignment.stage import align_stage
from tongwen.config import ReplayConfig, TrainConfig
from tongwen.errors import RunError
from tongwen.models import PACKED, Packing
from tongwen.progress import Progress, counted
from tongwen.train.batch import Batch, Items, Work
from tongwen.train.checkpoint import (
    Position,
    all_checkpoints,
    is_valid,
    load_checkpoint,
    step_of,
)
from tongwen.train.finite import told_step
from tongwen.train.loop import Learner, Task, loss_of, train_step
from tongwen.train.run import Bystander, read_inputs, read_settings
from tongwen.train.stages import (
    Stage,
    assembled,
    finetune_stage,
    opened,
    pretrain_stage,
    resolved,
    scheduled,
)
from tongwen.verbs import VERBS

STAGES: dict[str, Callable[..., Stage]] = {
    "pretrain": pretrain_stage,
    "finetune": finetune_stage,
    "align": align_stage,
}
WORDS = 64
SHOWN = 48


@dataclass(frozen=True)
class ReplayedItem:
    """An item of a step, or several that are learned from together, computed alone."""

    source: str
    """The prepared folder."""
    items: list[int]
    """Their numbers there, from 0."""
    micro_batch: int
    tokens: int
    trained_tokens: int
    loss: float
    """Its share of the loss of the step."""
    gradient_norm: float
    text: str
    """How it begins."""

    def line(self) -> str:
        """Its line in the table."""
        return (
            f"{self.name:>10} {self.micro_batch:>5} {self.tokens:>7,} {self.loss:>10.4g} "
            f"{self.gradient_norm:>10.4g}  {self.text}"
        )

    @property
    def name(self) -> str:
        """Its number, or those of several."""
        return "+".join(map(str, self.items))

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


@dataclass(frozen=True)
class ReplayResult:
    """A step, computed again."""

    run: Path
    step: int
    loss: float
    gradient_norm: float
    micro_batches: list[float]
    """The shares of the loss that they have, each computed whole."""
    items: list[ReplayedItem]
    shown: int

    def __str__(self) -> str:
        wrong = [item for item in self.items if not item.finite]
        rest = sorted(
            (item for item in self.items if item.finite), key=lambda item: -item.gradient_norm
        )
        head = (
            f"step {self.step}: loss {self.loss:.4g}, gradient norm {self.gradient_norm:.4g}, "
            f"{counted(len(self.micro_batches), 'micro-batch')}, "
            f"{counted(len(self.items), 'item')}"
        )
        columns = f"{'item':>10} {'micro':>5} {'tokens':>7} {'loss':>10} {'grad norm':>10}  text"
        lines = [item.line() for item in [*wrong, *rest][: self.shown]]
        if len(self.items) > self.shown:
            lines.append(f"… and {len(self.items) - self.shown} more; --json has all of them")
        return "\n".join([head, "", columns, *lines, "", *self._verdict(wrong)])

    def _verdict(self, wrong: list[ReplayedItem]) -> list[str]:
        if wrong:
            return ["not finite:", *(f"  item {item.name} of {item.source}" for item in wrong)]
        if all(map(math.isfinite, (self.loss, self.gradient_norm))):
            return ["every item is finite"]
        return ["every item is finite by itself, and not all together: the range is too small"]


def replay(config: ReplayConfig) -> ReplayResult:
    """Compute a step again, and each of its items alone."""
    stage = _stage(config.run)
    stage = replace(stage, config=resolved(stage.config))
    items, held_out = opened(stage)
    run = Bystander(config.run, stage.config, {})
    saved = [place for place in all_checkpoints(run.checkpoints) if is_valid(place)]
    newest = step_of(saved[-1]) if saved else 0
    number = config.step or told_step(config.run) or newest + 1
    learner, task = assembled(stage, scheduled(stage, items), items, held_out, run)
    if number > task.steps:
        raise RunError(
            f"{config.run} has no step {number}: it ends with step {task.steps}",
            f"`--step` takes a number from 1 to {task.steps}",
        )
    learner.model.set_attn_implementation(PACKED)
    at = Position()
    before = [place for place in saved if step_of(place) < number]
    if before:
        at = load_checkpoint(before[-1], learner.optimizer, learner.form)
    with Progress("steps before it", number - 1, at.step) as progress:
        for step in range(at.step, number - 1):
            train_step(learner, task, stage.config, step)
            progress.advance(step + 1)
    work = task.source.step(number - 1)
    losses, norm = _computed(learner, task, work)
    return ReplayResult(
        run=config.run,
        step=number,
        loss=math.fsum(losses),
        gradient_norm=norm,
        micro_batches=losses,
        items=list(_alone(learner, task, work, items, stage)),
        shown=config.rows,
    )


def _stage(run: Path) -> Stage:
    """The stage that a run folder is of, with the settings that lie there."""
    settings = read_settings(run)
    if not settings:
        raise RunError(
            f"{run} holds no run: there is no config.toml", "give the --out of a training command"
        )
    path = read_inputs(run)["verb"]
    verb = next(verb for verb in VERBS if verb.path == path)
    # The folder may have been moved, and one process replays what several did.
    alone = {"out": run, "nproc": 1, "shard": "none", "offload": False}
    if settings.get("device") == "cuda":
        # Where there is no card, what one did can still be looked at.
        alone["device"] = "auto"
    config = verb.config_class()(**{**settings, **alone})
    assert isinstance(config, TrainConfig)
    return STAGES[path](config)


def _computed(learner: Learner, task: Task, work: Work) -> tuple[list[float], float]:
    """The losses of micro-batches, and the norm of the gradient of their sum."""
    optimizer = learner.optimizer
    losses = optimizer.losses(lambda batch: loss_of(learner, task, batch, work.whole), work.batches)
    norm = optimizer.gradient_norm(0.0)
    optimizer.masters.clear()
    return [float(loss.value) for loss in losses], norm


def _alone(
    learner: Learner, task: Task, work: Work, items: Items, stage: Stage
) -> Iterator[ReplayedItem]:
    size = sum(len(batch.item_M) for batch in work.batches) // work.whole.groups
    firsts = np.cumsum([0, *map(len, items.lengths_by_store)])
    with Progress("items", work.whole.groups) as progress:
        done = 0
        for micro_batch, batch in enumerate(work.batches, 1):
            for part in parts(batch, size):
                (loss,), norm = _computed(learner, task, replace(work, batches=[part]))
                numbers = part.item_M
                store = int(np.searchsorted(firsts, numbers[0], side="right")) - 1
                done += 1
                progress.advance(done)
                yield ReplayedItem(
                    source=str(stage.folders[store]),
                    items=(numbers - firsts[store]).tolist(),
                    micro_batch=micro_batch,
                    tokens=len(part.ids_T),
                    trained_tokens=len(part.target_K),
                    loss=loss,
                    gradient_norm=norm,
                    text=_beginning(part.ids_T, stage.tokenizer),
                )


def parts(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch as one batch for each `size` items one after another."""
    token_M1, trained_M1 = (np.cumsum([0, *one]) for one in (batch.lengths_M, batch.trained_M))
    bounds = range(0, len(batch.lengths_M) + 1, size)
    for first, end in pairwise(bounds):
        tokens = slice(token_M1[first], token_M1[end])
        trained = slice(trained_M1[first], trained_M1[end])
        yield replace(
            batch,
            ids_T=batch.ids_T[tokens],
            position_T=batch.position_T[tokens],
            trained_K=batch.trained_K[trained] - tokens.start,
            target_K=batch.target_K[trained],
            packing=Packing.of(list(batch.lengths_M[first:end])),
            lengths_M=batch.lengths_M[first:end],
            trained_M=batch.trained_M[first:end],
            item_M=batch.item_M[first:end],
            values={
                name: _sliced(value, len(batch.lengths_M), slice(first, end), trained)
                for name, value in batch.values.items()
            },
        )


def _sliced(value: Tensor, items: int, chosen: slice, trained: slice) -> Tensor:
    """A value by trained position, by item, or by group of items."""
    if items % len(value):
        return value[trained]
    each = items // len(value)
    return value[chosen.start // each : chosen.stop // each]


def _beginning(ids_T: Tensor, tokenizer: PreTrainedTokenizerFast) -> str:
    text = " ".join(str(tokenizer.decode(ids_T[:WORDS].tolist(), skip_special_tokens=True)).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
