"""Pretraining and fine-tuning: which model, which data, and the one loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tongwen.config import FinetuneConfig, PretrainConfig, TrainConfig
from tongwen.data import TokenStore, load_manifest
from tongwen.engine import Sampling
from tongwen.engine.local import LocalEngine
from tongwen.errors import ConfigError
from tongwen.files import new_folder
from tongwen.models import context_window, load_model, new_model
from tongwen.models.machine import compute_dtype, matrix_peak, prepare_machine
from tongwen.progress import say
from tongwen.train.batch import Items, Rows
from tongwen.train.folders import ModelFolder
from tongwen.train.inputs import (
    check_texts,
    check_window,
    identities,
    mixture,
    prepared,
    shared_tokenizer,
)
from tongwen.train.loop import Learner, Task, fit
from tongwen.train.objective import language_model
from tongwen.train.optim import new_optimizer
from tongwen.train.plan import Plan
from tongwen.train.report import write_report
from tongwen.train.result import TrainResult, passport, result_of
from tongwen.train.run import Run, read_settings

PROMPTS = ("", "The", "今天")
SAMPLES = 3
SAMPLE = Sampling(max_new_tokens=80, temperature=0.0)


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


def pretrain(config: PretrainConfig) -> TrainResult:
    """Train a language model on text, from scratch or from a model folder."""
    if config.tokenizer is not None and config.model is not None:
        raise ConfigError(
            "--tokenizer and --model are given together", "a model brings its own tokenizer"
        )
    folders = prepared(config, config.model or config.tokenizer, config.context)
    tokenizer = shared_tokenizer(folders, config.model or config.tokenizer)

    def build() -> PreTrainedModel:
        if config.model is not None:
            return load_model(config.model, torch.float32)
        return new_model(config.size, len(tokenizer), config.context, config.seed)

    def sample(engine: LocalEngine) -> list[dict[str, str]]:
        return [
            {"prompt": prompt, "sample": "".join(engine.complete(prompt, SAMPLE))}
            for prompt in PROMPTS
        ]

    window = config.context if config.model is None else context_window(config.model)
    return _train(
        Stage("pretrain", config, config.model, folders, tokenizer, window, build, sample)
    )


def finetune(config: FinetuneConfig) -> TrainResult:
    """Teach a model from conversations; the loss is on the assistant's words alone."""
    window = context_window(config.model)
    folders = prepared(config, config.model, window)
    tokenizer = shared_tokenizer(folders, config.model)
    prompts = _held_out_prompts(folders)

    def build() -> PreTrainedModel:
        return load_model(config.model, torch.float32)

    def sample(engine: LocalEngine) -> list[dict[str, str]]:
        return [
            {"prompt": str(tokenizer.decode(ids)), "sample": "".join(engine.generate(ids, SAMPLE))}
            for ids in prompts
        ]

    return _train(
        Stage("finetune", config, config.model, folders, tokenizer, window, build, sample)
    )


def _train(stage: Stage) -> TrainResult:
    """What every stage does around the loop."""
    config, dtype = _resolved(stage.config)
    items, held_out = (
        Items([TokenStore.open(folder, split) for folder in stage.folders])
        for split in ("train", "held_out")
    )
    check_texts(items, stage.name)
    check_window((items, held_out), stage.folders, stage.window)
    plan = Plan(
        items.lengths,
        config.batch_tokens,
        config.micro_batch_tokens,
        config.seed,
        mixture(config, items, stage.folders),
    )
    task = Task(
        stage=stage.name,
        source=Rows(items, plan),
        held_out=held_out if len(held_out) else None,
        objective=language_model,
        steps=config.steps or max(1, round(config.epochs * plan.steps_per_epoch)),
    )
    inputs = identities(stage.folders, stage.base)
    with Run(config.out, config, inputs) as run:
        if run.finished:
            say(f"{config.out} is finished already")
            return result_of(run)
        model = stage.build()
        optimizer = new_optimizer(model, config.weight_decay, dtype)
        learner = Learner(model, stage.tokenizer, optimizer, ModelFolder(model, stage.tokenizer))
        _announce(model, task, items, config, dtype)
        engine = LocalEngine(model, stage.tokenizer)
        at = fit(learner, task, config, run, lambda: stage.sample(engine))
        if not run.final.exists():
            with new_folder(run.final) as folder:
                learner.form.write(folder, optimizer.masters.weights())
        write_report(run.folder)
        run.finish(passport(stage.name, run, config, inputs, at))
        for folder in stage.folders:
            say(f"{folder}: {load_manifest(folder).balance}")
        return result_of(run)


def _resolved(config: TrainConfig) -> tuple[TrainConfig, torch.dtype]:
    """The settings with threads and precision as they are; a run goes on with what it began with.

    What was left to the machine is measured once: measured again, when it is busy, it could differ.
    """
    before = read_settings(config.out)
    threads = prepare_machine(config.threads or before.get("threads", 0))
    precision = config.precision
    if precision == "auto" and before:
        precision = before["precision"]
    dtype = compute_dtype(precision)
    precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    return config.model_copy(update={"threads": threads, "precision": precision}), dtype


def _announce(
    model: PreTrainedModel, task: Task, items: Items, config: TrainConfig, dtype: torch.dtype
) -> None:
    """Every derived quantity, before anything is spent."""
    parameters = sum(p.numel() for p in model.parameters())
    epochs = task.steps / task.source.steps_per_epoch
    say(
        f"{task.stage}: {parameters / 1e6:.1f}M parameters, {len(items):,} items of "
        f"{int(items.lengths.sum()):,} tokens, {task.steps:,} steps of about "
        f"{task.source.step_tokens:,} tokens ({epochs:.2f} epochs), "
        f"{config.precision} on {config.threads} threads, "
        f"matrix peak {matrix_peak(dtype) / 1e9:,.0f} GFLOP/s"
    )


def _held_out_prompts(folders: Sequence[Path]) -> list[list[int]]:
    """The first turns of a few held-out conversations, up to where the assistant speaks."""
    prompts = []
    for folder in folders:
        store = TokenStore.open(folder, "held_out")
        for item in range(min(SAMPLES, len(store))):
            end = int(store.mask(item).argmax())
            prompts.append(store.ids(item)[:end].tolist())
    return prompts[:SAMPLES]
