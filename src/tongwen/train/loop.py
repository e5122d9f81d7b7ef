"""The training loop: one for every objective.

    evaluate → sample → step → record → save, until the last step

An objective is a function (model, micro-batch, whole step) → that micro-batch's share of the loss;
a source says what a step trains on. The shares add up to the loss of the whole step, divided by its
trained tokens or pairs, so nothing depends on how it is cut into micro-batches.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tongwen.config import TrainConfig
from tongwen.models import PACKED
from tongwen.models.device import device_of, reproducible, synchronize
from tongwen.models.flops import training_flops
from tongwen.models.machine import matrix_peak, release_memory
from tongwen.progress import Progress, say
from tongwen.train.batch import Batch, Source, Whole, Work
from tongwen.train.checkpoint import (
    Position,
    load_checkpoint,
    newest_valid,
    prune,
    save_checkpoint,
    set_aside,
)
from tongwen.train.finite import NotFinite
from tongwen.train.folders import Folder
from tongwen.train.heldout import told
from tongwen.train.objective import Loss, Objective
from tongwen.train.optim import Optimizer
from tongwen.train.processes import exchange, leaders, leads, world
from tongwen.train.recompute import recomputing
from tongwen.train.run import Run
from tongwen.train.schedule import decay_start, learning_rate
from tongwen.train.signals import Break, Signals

Sampler = Callable[[], list[dict[str, str]]]
Exam = Callable[[PreTrainedModel, int], dict[str, float]]
"""Held-out figures of a model, from at most so many tokens; the first is what is told of a run."""

SAVE_SECONDS = 60.0
EVALUATIONS = 10
RATE_STEPS = 20
# Held-out tokens that are looked at: enough for two digits in between, for three at the ends.
EVAL_TOKENS_BETWEEN, EVAL_TOKENS_AT_ENDS = 40_000, 400_000
# Characters of a prompt and of its sample in the talk; metrics and report have all of it.
SHOWN = 70


@dataclass(frozen=True)
class Learner:
    """What learns: a model with its tokenizer, its optimiser, and the folder that it becomes."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    optimizer: Optimizer
    form: Folder


@dataclass(frozen=True)
class Task:
    """What is to be learned: from what, by which objective, in how many steps, and its exam."""

    stage: str
    source: Source
    objective: Objective
    exam: Exam | None
    steps: int
    first: int = 0
    """Steps of the schedule that were made before this task."""


@dataclass(frozen=True)
class Step:
    """What one optimiser step did."""

    loss: float
    lr: float
    grad_norm: float | None
    """None where the gradient was out of the range of fp16 and the weights stayed as they were."""
    tokens: int
    trained_tokens: int
    flops: float
    figures: dict[str, float]

    def record(self) -> dict[str, float]:
        """A line of the metrics."""
        values = {name: value for name, value in vars(self).items() if name != "figures"}
        if self.grad_norm is None:
            del values["grad_norm"]
        return {**values, **self.figures}


def fit(learner: Learner, task: Task, config: TrainConfig, run: Run, sample: Sampler) -> Position:
    """Train from the newest checkpoint of the run, or from the start, to the last step."""
    learner.model.set_attn_implementation(PACKED)
    at = _resume(run, learner)
    assert at.step <= task.steps, "the same settings and data give the same number of steps"
    eval_every = config.eval_every or -(-task.steps // EVALUATIONS)
    sample_every = config.sample_every or eval_every
    before_decay = {decay_start(task.steps, config.decay)} if config.schedule == "wsd" else set()
    meter = _Meter(learner.model, at, device_of(config.device))
    saved_at = time.monotonic()

    def save() -> None:
        run.flush()
        save_checkpoint(run.checkpoints, at, learner.optimizer, learner.form)
        prune(run.checkpoints, config.keep, before_decay)
        release_memory()

    with Progress(task.stage, task.steps, at.step) as progress, Signals() as signals:

        def look() -> None:
            last = at.step == task.steps
            if last or at.step == task.first or at.step % eval_every == 0:
                _evaluate(learner, task, at.step, run, progress, signals)
            if last or (at.step and at.step % sample_every == 0):
                samples = learner.optimizer.masters.look(lambda: signals.breakable(sample))
                _tell_samples(samples, at.step, run, progress)

        while True:
            with suppress(Break):
                look()
            signals.agree()
            if signals.caught is not None:
                # Before the first step there is nothing to save.
                if at.step:
                    save()
                progress.talk(f"stopped at step {at.step}; the same command goes on from here")
                signals.leave()
            if at.step == task.steps:
                break

            meter.start()
            try:
                step = train_step(learner, task, config, at.step)
            except NotFinite as error:
                if at.step:
                    save()
                error.write()
                raise
            at = meter.advance(step)
            run.record(step=at.step, **step.record(), **meter.rates())
            _show(progress, at.step, step, meter)

            due = (
                at.step % config.save_every == 0
                if config.save_every
                else leaders(time.monotonic() - saved_at > SAVE_SECONDS)
            )
            # Behind the last step the run has only to be looked at, which may fail.
            if due or at.step in before_decay or at.step == task.steps:
                save()
                saved_at = time.monotonic()
    run.flush()
    return at


def train_step(learner: Learner, task: Task, config: TrainConfig, step: int) -> Step:
    """One optimiser step; a loss that is not finite never reaches the weights."""
    work = task.source.step(step)
    with recomputing(learner.model), reproducible(device_of(config.device)):
        losses = learner.optimizer.losses(
            lambda batch: loss_of(learner, task, batch, work.whole), work.batches
        )
    loss, figures, tokens, flops = _totals(learner.model, work, losses)
    norm = learner.optimizer.gradient_norm(config.clip)
    lr = config.lr * learning_rate(step, task.steps, config)
    taken = math.isfinite(loss) and math.isfinite(norm)
    if taken:
        learner.optimizer.step(lr)
    elif not (math.isfinite(loss) and learner.optimizer.skip()):
        raise NotFinite(config.out, work, losses, norm)
    return Step(
        loss=loss,
        lr=lr,
        grad_norm=norm if taken else None,
        tokens=tokens,
        trained_tokens=work.whole.trained,
        flops=flops,
        figures=figures | learner.optimizer.figures(),
    )


def loss_of(learner: Learner, task: Task, batch: Batch, whole: Whole) -> Loss:
    """A micro-batch's share of the loss of a whole step."""
    masters, model = learner.optimizer.masters, learner.model
    loss = masters.forward(lambda: task.objective(model, batch.to(model.device), whole))
    return Loss(loss.value * 0.0, dict.fromkeys(loss.figures, 0.0)) if batch.idle else loss


def _totals(
    model: PreTrainedModel, work: Work, losses: Sequence[Loss]
) -> tuple[float, dict[str, float], int, float]:
    """Loss, figures, tokens and flops of the whole step.

    Sums are exact, so they do not depend on how the step is divided.
    """
    mine = [
        [
            float(loss.value),
            loss.figures,
            len(batch.ids_T),
            training_flops(model, batch.lengths_M, len(batch.target_K)),
        ]
        for batch, loss in zip(work.batches, losses, strict=True)
        if not batch.idle
    ]
    everyone = [part for parts in exchange(mine) for part in parts]
    values, figures, tokens, flops = zip(*everyone, strict=True)
    sums = {name: math.fsum(one[name] for one in figures) for name in figures[0]}
    return math.fsum(values), sums, sum(tokens), sum(flops)


class _Meter:
    """Counts and speed of the training itself, without evaluating, sampling and saving."""

    def __init__(self, model: PreTrainedModel, at: Position, device: torch.device) -> None:
        self._peak = matrix_peak(model.dtype, device) * world()
        self._device = device
        self._at = at
        self._marks: deque[tuple[float, int, float]] = deque(maxlen=RATE_STEPS)
        self._began = 0.0

    def start(self) -> None:
        """A step begins."""
        self._began = time.monotonic()

    def advance(self, step: Step) -> Position:
        """Count the step in, once the device has done all of it."""
        synchronize(self._device)
        spent = time.monotonic() - self._began
        self._marks.append((spent, step.tokens, step.flops))
        self._at = Position(
            step=self._at.step + 1,
            tokens=self._at.tokens + step.tokens,
            trained_tokens=self._at.trained_tokens + step.trained_tokens,
            seconds=self._at.seconds + spent,
            flops=self._at.flops + step.flops,
        )
        return self._at

    def rates(self) -> dict[str, float]:
        """Tokens per second, and the share of the machine's matrix peak."""
        seconds, tokens, flops = (sum(column) for column in zip(*self._marks, strict=True))
        return {
            "seconds": round(self._at.seconds, 3),
            "tokens_per_second": round(tokens / seconds, 1),
            "mfu": round(flops / seconds / self._peak, 4),
        }

    def shown(self, step: Step) -> dict[str, str]:
        """What the progress line says."""
        rates = self.rates()
        return {
            "loss": f"{step.loss:z.3f}",
            "tok/s": f"{rates['tokens_per_second']:,.0f}",
            "MFU": f"{rates['mfu']:.0%}",
        }


def _show(progress: Progress, number: int, step: Step, meter: _Meter) -> None:
    progress.advance(number, **meter.shown(step))
    if step.grad_norm is None:
        progress.talk(
            f"step {number}: its gradient is out of the range of fp16; the weights stay as they "
            f"are, and the loss is multiplied by {step.figures['loss_scale']:,.0f} from now on"
        )


def _resume(run: Run, learner: Learner) -> Position:
    name = leaders(_newest_valid(run) if leads() else None)
    at = Position()
    if name is not None:
        at = load_checkpoint(run.checkpoints / name, learner.optimizer, learner.form)
    run.rewind_metrics(at.step)
    if at.step:
        say(f"continuing from step {at.step}")
    return at


def _newest_valid(run: Run) -> str | None:
    place, damaged = newest_valid(run.checkpoints)
    for bad in damaged:
        say(f"{bad} is damaged; it is set aside as {set_aside(bad).name} and passed over")
    return None if place is None else place.name


def _evaluate(
    learner: Learner, task: Task, step: int, run: Run, progress: Progress, signals: Signals
) -> None:
    if task.exam is None:
        return
    release_memory()
    whole = step in (task.first, task.steps)
    most = EVAL_TOKENS_AT_ENDS if whole else EVAL_TOKENS_BETWEEN
    exam = task.exam

    def look() -> dict[str, float]:
        return learner.optimizer.masters.look(
            lambda: signals.breakable(lambda: exam(learner.model, most))
        )

    metrics = look()
    unaveraged = {}
    if learner.optimizer.averages:
        # The figures of a run are those of what it would end with.
        unaveraged = {f"unaveraged_{name}": value for name, value in metrics.items()}
        with learner.optimizer.averaged():
            metrics = look()
    run.record(step=step, **metrics, **unaveraged)
    progress.talk(f"step {step}: {told(metrics)}")


def _tell_samples(samples: list[dict[str, str]], step: int, run: Run, progress: Progress) -> None:
    for one in samples:
        run.record(step=step, **one)
    for one in samples[:1]:
        prompt, answer = (" ".join(one[key].split()) for key in ("prompt", "sample"))
        progress.talk(f"step {step}: {f'{prompt[-SHOWN:]} → {answer[:SHOWN]}'.strip()}")
