"""Pretraining and fine-tuning: which model, which data, and the one loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tongwen.config import FinetuneConfig, PretrainConfig, TrainConfig
from tongwen.data import TokenStore, load_manifest
from tongwen.engine import Sampling
from tongwen.engine.local import LocalEngine
from tongwen.errors import ConfigError
from tongwen.files import new_folder
from tongwen.models import load_base, new_model
from tongwen.models.context import extend_context
from tongwen.models.device import card_name, device_of
from tongwen.models.machine import compute_dtype, matrix_peak, precision_of, prepare_machine
from tongwen.progress import counted, say
from tongwen.train.adapters import check_method, drawn, made_ready
from tongwen.train.batch import Items, Rows, Source
from tongwen.train.checkpoint import all_checkpoints, step_of
from tongwen.train.folders import ModelFolder
from tongwen.train.foresight import Foresight, Outlook, foreseen
from tongwen.train.guard import forgotten, guarded
from tongwen.train.heldout import held_out_metrics
from tongwen.train.inputs import (
    check_texts,
    check_window,
    identities,
    planned,
    prepared,
    shared_tokenizer,
    window_of,
)
from tongwen.train.launch import in_processes
from tongwen.train.loop import Exam, Learner, Task, fit
from tongwen.train.mix import Ints
from tongwen.train.objective import Objective, language_model
from tongwen.train.optim import new_optimizer, whole_weights
from tongwen.train.plan import Groups
from tongwen.train.processes import (
    exchange,
    leaders,
    leads,
    processes_here,
    started_as_one_of_several,
    world,
)
from tongwen.train.recompute import keep_no_activations
from tongwen.train.report import write_report
from tongwen.train.result import TrainResult, passport, result_of
from tongwen.train.run import Bystander, Run, read_settings
from tongwen.train.schedule import learning_rate
from tongwen.train.start import Start, begin, check_start, start_of, told_start
from tongwen.train.track import Trackers

PROMPTS = ("", "The", "今天")
SAMPLES = 3
SAMPLE = Sampling(max_new_tokens=80, temperature=0.0)


@dataclass(frozen=True)
class Material:
    """The data of a run, and the order in which its groups are learned."""

    items: Items
    held_out: Items
    plan: Groups


@dataclass(frozen=True)
class Lesson:
    """What the steps train on, what a batch costs, and what is asked of held-out data."""

    source: Source
    objective: Objective
    exam: Exam | None


def language_lesson(learner: Learner, material: Material, run: Run) -> Lesson:
    """Every item by itself, for the probability of its trained tokens."""
    held_out, control = material.held_out, learner.tokenizer.all_special_ids
    tokens = run.config.micro_batch_tokens

    def exam(model: PreTrainedModel, most: int) -> dict[str, float]:
        return held_out_metrics(model, held_out, control, tokens, most)

    rows = Rows(material.items, material.plan)
    return Lesson(rows, language_model, exam if len(held_out) else None)


@dataclass(frozen=True)
class Stage:
    """What distinguishes one way of training from another, around the one loop."""

    name: str
    config: TrainConfig
    base: Path | None
    """The model folder that it starts from."""
    folders: Sequence[Path]
    tokenizer: PreTrainedTokenizerFast
    window: int
    """Tokens that the model can see."""
    build: Callable[[], PreTrainedModel]
    sample: Callable[[LocalEngine], list[dict[str, str]]]
    check: Callable[[Items, str], None] = check_texts
    """Refuses items that the stage cannot learn from."""
    costs: Callable[[Ints], Ints] = lambda lengths: lengths
    """Tokens of each group of items that are learned from together, from those of the items."""
    lesson: Callable[[Learner, Material, Run], Lesson] = language_lesson
    beside: Path | None = None
    """A model that it learns from beside the one it starts from."""
    updates: int = 1
    """Steps that learn from the same groups, one after another."""


@in_processes
def pretrain(config: PretrainConfig) -> TrainResult:
    """Train a language model on text, from scratch or from a model folder."""
    return train(pretrain_stage(config))


def pretrain_stage(config: PretrainConfig) -> Stage:
    """Text, and a new model or one that learned before."""
    if config.tokenizer is not None and config.model is not None:
        raise ConfigError(
            "--tokenizer and --model are given together", "a model brings its own tokenizer"
        )
    check_method(config, config.model)
    window = config.context if config.model is None else window_of(config, config.model)
    folders = prepared(config, config.model or config.tokenizer, min(config.context, window))
    tokenizer = shared_tokenizer(folders, config.model or config.tokenizer)

    def build() -> PreTrainedModel:
        if config.model is not None:
            return load_base(config.model, config)
        return new_model(config.size, len(tokenizer), config.context, config.seed)

    def sample(engine: LocalEngine) -> list[dict[str, str]]:
        return [
            {"prompt": prompt, "sample": "".join(engine.complete(prompt, SAMPLE))}
            for prompt in PROMPTS
        ]

    return Stage("pretrain", config, config.model, folders, tokenizer, window, build, sample)


@in_processes
def finetune(config: FinetuneConfig) -> TrainResult:
    """Teach a model from conversations; the loss is on the assistant's words alone."""
    return train(finetune_stage(config))


def finetune_stage(config: FinetuneConfig) -> Stage:
    """Conversations, and the model that they teach."""
    check_method(config, config.model)
    window = window_of(config, config.model)
    folders = prepared(config, config.model, min(config.context or window, window))
    tokenizer = shared_tokenizer(folders, config.model)
    prompts = _held_out_prompts(folders)

    def build() -> PreTrainedModel:
        return load_base(config.model, config)

    def sample(engine: LocalEngine) -> list[dict[str, str]]:
        return [
            {"prompt": str(tokenizer.decode(ids)), "sample": "".join(engine.generate(ids, SAMPLE))}
            for ids in prompts
        ]

    return Stage("finetune", config, config.model, folders, tokenizer, window, build, sample)


def train(stage: Stage) -> TrainResult:
    """What every stage does around the loop."""
    config = resolved(stage.config)
    items, held_out = opened(stage)
    schedule = scheduled(stage, items)
    models = {"model": stage.base, "reference": stage.beside, "warm start": config.warm_start}
    inputs = identities(stage.folders, models) if leads() else {}
    with (Run if leads() else Bystander)(config.out, config, inputs) as run:
        if leaders(run.finished):
            say(f"{config.out} is finished already")
            return result_of(run)
        learner, task = assembled(stage, schedule, items, held_out, run)
        form = learner.form
        engine = LocalEngine(learner.model, stage.tokenizer)
        with Trackers(config, run) if leads() else nullcontext():
            at = fit(learner, task, config, run, lambda: stage.sample(engine))
        weights = whole_weights(learner.optimizer, with_frozen=isinstance(form, ModelFolder))
        if leads():
            if not run.final.exists():
                with new_folder(run.final) as folder:
                    form.write(folder, weights)
            told = passport(stage.name, run, config, inputs, at, form.weights_file)
            write_report(run.folder, told)
            run.finish(told)
            if config.guard is not None:
                say(forgotten(run))
        for folder in stage.folders:
            say(f"{folder}: {load_manifest(folder).balance}")
        exchange(None)
        return result_of(run)


def opened(stage: Stage) -> tuple[Items, Items]:
    """What is trained on and what is held out, fit for the stage and the model."""
    items = Items([TokenStore.open(folder, "train") for folder in stage.folders])
    # A folder that is named for the decay again is learned from again, but examined once.
    examined = dict.fromkeys(stage.folders)
    held_out = Items([TokenStore.open(folder, "held_out") for folder in examined])
    stage.check(items, stage.name)
    check_window((items, held_out), stage.folders, stage.window)
    return items, held_out


@dataclass(frozen=True)
class Schedule:
    """Where a run starts, what each of its steps learns from, and how many there are."""

    start: Start
    plan: Groups
    steps: int


def scheduled(stage: Stage, items: Items) -> Schedule:
    """The schedule of a stage; what cannot be is refused before anything is written."""
    start = start_of(stage.config)
    lengths = [stage.costs(sizes) for sizes in items.lengths_by_store]
    plan, steps = planned(
        stage.config, lengths, stage.folders, start.least, start.first, stage.updates
    )
    check_start(start, steps, stage.config)
    return Schedule(start, plan, steps)


def assembled(
    stage: Stage, schedule: Schedule, items: Items, held_out: Items, run: Run
) -> tuple[Learner, Task]:
    """What learns and what is learned, as it is before the first step of a run."""
    config = run.config
    dtype = compute_dtype(config.precision, device_of(config.device))
    plan, steps = schedule.plan, schedule.steps
    foresight = _foreseen(stage, schedule, items, held_out, config)
    model = stage.build()
    if config.rope is not None and config.context is not None:
        extend_context(model, config.context, config.rope, config.rope_theta)
    if config.checkpointing:
        keep_no_activations(model)
    draws, form = made_ready(model, config, stage.base, stage.tokenizer)
    optimizer = new_optimizer(model, config, dtype, steps)
    learner = Learner(model, stage.tokenizer, optimizer, form)
    begin(schedule.start, steps, config, run, learner, foresight)
    _announce(stage.name, model, schedule, items, run, foresight)
    lesson = stage.lesson(learner, Material(items, held_out, plan), run)
    exam = lesson.exam
    if config.guard is not None:
        exam = guarded(exam, config.guard, stage.tokenizer, config.micro_batch_tokens)
    objective = drawn(lesson.objective, draws)
    return learner, Task(stage.name, lesson.source, objective, exam, steps, schedule.start.first)


def resolved(config: TrainConfig) -> TrainConfig:
    """The settings with threads, device and precision as they are; a run goes on as it began.

    What was left to the machine is measured once: measured again, when it is busy, it could differ.
    """
    before = read_settings(config.out)
    nproc = processes_here()
    divided = before.get("nproc") == nproc
    threads = prepare_machine(config.threads or (before["threads"] if divided else 0))
    precision = config.precision
    if precision == "auto" and before:
        precision = before["precision"]
    device = device_of(config.device)
    precision = leaders(precision_of(compute_dtype(precision, device)))
    if precision == "fp16" and device.type == "cpu":
        _say_how_slow()
    # A run in shards may be looked at by one process, which has nobody to share with.
    shard = config.shard if started_as_one_of_several() else "none"
    told = {
        "threads": threads, "device": device.type, "precision": precision, "nproc": nproc,
        "shard": shard,
    }  # fmt: skip
    return config.model_copy(update=told)


def _say_how_slow() -> None:
    """fp16 is made for accelerators; most processors only emulate it."""
    share = matrix_peak(torch.float16) / matrix_peak(torch.float32)
    if share < 1:
        say(f"fp16 products are {1 / share:.0f} times slower here than those of `--precision fp32`")


def _foreseen(
    stage: Stage, schedule: Schedule, items: Items, held_out: Items, config: TrainConfig
) -> Foresight | None:
    """What the run will take; said at once where the machine has not the memory for it."""
    lengths = np.concatenate([stage.costs(sizes) for sizes in items.lengths_by_store])
    steps = range(schedule.start.first, schedule.steps)
    work = Outlook(schedule.plan, steps, lengths, items, held_out, stage.folders)
    foresight = foreseen(config, stage.base, len(stage.tokenizer), work)
    if foresight is not None and foresight.verdict == "does not fit":
        say(foresight.warning(config.out))
    return foresight


def _announce(
    stage: str,
    model: PreTrainedModel,
    schedule: Schedule,
    items: Items,
    run: Run,
    foresight: Foresight | None,
) -> None:
    """Every derived quantity, before anything is spent."""
    config, plan, steps = run.config, schedule.plan, schedule.steps
    device = device_of(config.device)
    peak = matrix_peak(compute_dtype(config.precision, device), device)
    several = f"{world()} processes of " if world() > 1 else ""
    one = counted(config.threads, "thread") if device.type == "cpu" else card_name(device)
    parameters = sum(p.numel() for p in model.parameters())
    say(
        f"{stage}: {parameters / 1e6:.1f}M parameters, {len(items):,} items of "
        f"{int(items.lengths.sum()):,} tokens, {steps:,} steps of about "
        f"{plan.step_tokens:,} tokens ({plan.epochs(steps):.2f} epochs), "
        f"{config.precision} on {several}{one}, "
        f"matrix peak {peak / 1e9:,.0f} GFLOP/s"
    )
    at = max(map(step_of, all_checkpoints(run.checkpoints)), default=0)
    say(
        f"{told_start(schedule.start, at, config)}, learning rate "
        f"{config.lr * learning_rate(min(at, steps - 1), steps, config):.3g}"
    )
    if foresight is not None:
        say(foresight.told(steps - at))


def _held_out_prompts(folders: Sequence[Path]) -> list[list[int]]:
    """The first turns of a few held-out conversations, up to where the assistant speaks."""
    prompts = []
    for folder in folders:
        store = TokenStore.open(folder, "held_out")
        for item in range(min(SAMPLES, len(store))):
            end = int(store.mask(item).argmax())
            prompts.append(store.ids(item)[:end].tolist())
    return prompts[:SAMPLES]
