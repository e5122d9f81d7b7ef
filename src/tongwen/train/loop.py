"""The training loop: one for every objective.

    evaluate → sample → step → record → save, until the last step

An objective is a function (model, micro-batch, whole step) → that micro-batch's share of the loss;
a source says what a step trains on. The shares add up to the loss of the whole step, divided by its
trained tokens or pairs, so nothing depends on how it is cut into micro-batches.
"""

from __future__ import annotations

import math
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tongwen.config import TrainConfig
from tongwen.errors import RunError
from tongwen.models import PACKED
from tongwen.models.flops import training_flops
from tongwen.models.machine import matrix_peak, release_memory
from tongwen.progress import Progress, say
from tongwen.train.batch import Items, Source
from tongwen.train.checkpoint import (
    Position,
    load_checkpoint,
    newest_valid,
    prune,
    save_checkpoint,
)
from tongwen.train.folders import Folder
from tongwen.train.heldout import held_out_metrics
from tongwen.train.objective import Objective
from tongwen.train.optim import Optimizer
from tongwen.train.run import Run
from tongwen.train.schedule import decay_start, learning_rate

Sampler = Callable[[], list[dict[str, str]]]

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
    """What is to be learned: from what, by which objective, and in how many steps."""

    stage: str
    source: Source
    held_out: Items | None
    objective: Objective
    steps: int


@dataclass(frozen=True)
class Step:
    """What one optimiser step did."""

    loss: float
    lr: float
    grad_norm: float
    tokens: int
    trained_tokens: int
    flops: float
    figures: dict[str, float]

    def record(self) -> dict[str, float]:
        """A line of the metrics."""
        values = {name: value for name, value in vars(self).items() if name != "figures"}
        return {**values, **self.figures}


def fit(learner: Learner, task: Task, config: TrainConfig, run: Run, sample: Sampler) -> Position:
    """Train from the newest checkpoint of the run, or from the start, to the last step."""
    learner.model.set_attn_implementation(PACKED)
    at = _resume(run, learner)
    assert at.step <= task.steps, "the same settings and data give the same number of steps"
    eval_every = config.eval_every or -(-task.steps // EVALUATIONS)
    sample_every = config.sample_every or eval_every
    before_decay = {decay_start(task.steps, config.decay)} if config.schedule == "wsd" else set()
    meter = _Meter(learner.model, at)
    saved_at = time.monotonic()

    def save() -> None:
        run.flush()
        save_checkpoint(run.checkpoints, at, learner.optimizer, learner.form)
        prune(run.checkpoints, config.keep, before_decay)
        release_memory()

    with Progress(task.stage, task.steps, at.step) as progress, _signals() as signals:
        while True:
            last = at.step == task.steps
            if last or at.step % eval_every == 0:
                _evaluate(learner, task, config, at.step, run, progress)
            if last or (at.step and at.step % sample_every == 0):
                _sample(sample, at.step, run, progress)
            if signals:
                save()
                progress.talk(f"stopped at step {at.step}; the same command goes on from here")
                _leave(signals[0])
            if last:
                break

            meter.start()
            step = train_step(learner, task, config, at.step)
            at = meter.advance(step)
            run.record(step=at.step, **step.record(), **meter.rates())
            progress.advance(at.step, **meter.shown(step))

            due = (
                at.step % config.save_every == 0
                if config.save_every
                else time.monotonic() - saved_at > SAVE_SECONDS
            )
            if due or at.step in before_decay:
                save()
                saved_at = time.monotonic()
    run.flush()
    return at


def train_step(learner: Learner, task: Task, config: TrainConfig, step: int) -> Step:
    """One optimiser step; a loss that is not finite never reaches the weights."""
    work = task.source.step(step)
    losses = learner.optimizer.losses(
        lambda batch: task.objective(learner.model, batch, work.whole), work.batches
    )
    loss = math.fsum(float(one.value) for one in losses)
    norm = learner.optimizer.gradient_norm(config.clip)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise RunError(
            f"the loss of step {step + 1} is {loss:.4g} with a gradient norm of {norm:.4g}; the "
            "weights were left as they are",
            "start again from the last checkpoint, in another --out, with a lower --lr",
        )
    factor = learning_rate(step, task.steps, config.schedule, config.warmup, config.decay)
    lr = config.lr * factor
    learner.optimizer.step(lr)
    return Step(
        loss=loss,
        lr=lr,
        grad_norm=norm,
        tokens=sum(len(batch.ids_T) for batch in work.batches),
        trained_tokens=work.whole.trained,
        flops=sum(
            training_flops(learner.model, batch.lengths_M, len(batch.target_K))
            for batch in work.batches
        ),
        figures={
            name: math.fsum(one.figures[name] for one in losses) for name in losses[0].figures
        },
    )


class _Meter:
    """Counts and speed of the training itself, without evaluating, sampling and saving."""

    def __init__(self, model: PreTrainedModel, at: Position) -> None:
        self._peak = matrix_peak(model.dtype)
        self._at = at
        self._marks: deque[tuple[float, int, float]] = deque(maxlen=RATE_STEPS)
        self._began = 0.0

    def start(self) -> None:
        """A step begins."""
        self._began = time.monotonic()

    def advance(self, step: Step) -> Position:
        """Count the step in."""
        spent = time.monotonic() - self._began
        self._marks.append((spent, step.tokens, step.flops))
        self._at = Position(
            step=self._at.step + 1,
            tokens=self._at.tokens + step.tokens,
            trained_tokens=self._at.trained_tokens + step.trained_tokens,
            seconds=self._at.seconds + spent,
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
            "loss": f"{step.loss:.3f}",
            "tok/s": f"{rates['tokens_per_second']:,.0f}",
            "MFU": f"{rates['mfu']:.0%}",
        }


def _resume(run: Run, learner: Learner) -> Position:
    place, damaged = newest_valid(run.checkpoints)
    for bad in damaged:
        say(f"{bad} is damaged; it is removed and passed over")
        shutil.rmtree(bad)
    at = Position() if place is None else load_checkpoint(place, learner.optimizer, learner.form)
    run.rewind_metrics(at.step)
    if at.step:
        say(f"continuing from step {at.step}")
    return at


def _evaluate(
    learner: Learner,
    task: Task,
    config: TrainConfig,
    step: int,
    run: Run,
    progress: Progress,
) -> None:
    if task.held_out is None:
        return
    release_memory()
    whole = step in (0, task.steps)
    metrics = held_out_metrics(
        learner.model,
        task.held_out,
        learner.tokenizer.all_special_ids,
        config.micro_batch_tokens,
        max_tokens=EVAL_TOKENS_AT_ENDS if whole else EVAL_TOKENS_BETWEEN,
    )
    run.record(step=step, **metrics)
    by_language = "  ".join(
        f"{key.removeprefix('bits_per_byte_')} {value:.3f}"
        for key, value in metrics.items()
        if key.startswith("bits_per_byte_")
    )
    progress.talk(
        f"step {step}: held-out loss {metrics['held_out_loss']:.3f}, "
        f"bits per byte {metrics['bits_per_byte']:.3f}  ({by_language})"
    )


def _sample(sample: Sampler, step: int, run: Run, progress: Progress) -> None:
    samples = sample()
    for one in samples:
        run.record(step=step, **one)
    for one in samples[:1]:
        prompt, answer = (" ".join(one[key].split()) for key in ("prompt", "sample"))
        progress.talk(f"step {step}: {prompt[-SHOWN:]} → {answer[:SHOWN]}")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGTERM and SIGINT as a list: the loop finishes its step and saves; a second one stops."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # only the main thread may handle signals
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def catch(number: int, _: FrameType | None) -> None:
        caught.append(number)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in numbers:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
