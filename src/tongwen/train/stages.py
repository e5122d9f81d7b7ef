"""Pretraining and fine-tuning: which model, which data, and the one loop."""

from __future__ import annotations

import json
import platform
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tongwen
from tongwen.config import (
    DataPrepareConfig,
    FinetuneConfig,
    PretrainConfig,
    TrainConfig,
)
from tongwen.data import KINDS, TokenStore, data_prepare, load_manifest
from tongwen.engine import Sampling
from tongwen.engine.local import LocalEngine
from tongwen.errors import ConfigError, DataError
from tongwen.files import new_folder, sha256_file
from tongwen.models import context_window, load_model, new_model, resolve_model
from tongwen.models.machine import compute_dtype, matrix_peak, prepare_machine
from tongwen.progress import duration, say
from tongwen.tokenizer import load_tokenizer, tokenizer_hash
from tongwen.train.batch import Items, Plan
from tongwen.train.checkpoint import Position, save_model_folder
from tongwen.train.loop import Learner, Task, fit
from tongwen.train.mix import Mixture, by_quota, by_weight
from tongwen.train.objective import language_model_loss
from tongwen.train.optim import MasterAdamW
from tongwen.train.report import write_report
from tongwen.train.run import Inputs, Run, read_metrics, read_settings

PROMPTS = ("", "The", "今天")
SAMPLES = 3
SAMPLE = Sampling(max_new_tokens=80, temperature=0.0)


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    out: Path
    model: Path
    report: Path
    steps: int
    tokens: int
    trained_tokens: int
    seconds: float
    tokens_per_second: float
    mfu: float
    loss: float
    held_out: dict[str, float]

    def __str__(self) -> str:
        lines = [
            f"{self.steps} steps, {self.tokens:,} tokens in {duration(self.seconds)}",
            f"{self.tokens_per_second:,.0f} tokens/s, MFU {self.mfu:.0%}",
            f"loss {self.loss:.3f}",
        ]
        if self.held_out:
            lines.append(
                f"held-out loss {self.held_out['held_out_loss']:.3f}, "
                f"bits per byte {self.held_out['bits_per_byte']:.3f}"
            )
        return "\n".join([*lines, f"model   {self.model}", f"report  {self.report}"])


def pretrain(config: PretrainConfig) -> TrainResult:
    """Train a language model on text, from scratch or from a model folder."""
    if config.tokenizer is not None and config.model is not None:
        raise ConfigError(
            "--tokenizer and --model are given together", "a model brings its own tokenizer"
        )
    folders = _prepared(config, config.model or config.tokenizer, config.context)
    tokenizer = _shared_tokenizer(folders, config.model or config.tokenizer)

    def sample(engine: LocalEngine) -> list[dict[str, str]]:
        return [
            {"prompt": prompt, "sample": "".join(engine.complete(prompt, SAMPLE))}
            for prompt in PROMPTS
        ]

    def build() -> PreTrainedModel:
        if config.model is not None:
            return load_model(config.model, torch.float32)
        return new_model(config.size, len(tokenizer), config.context, config.seed)

    window = config.context if config.model is None else context_window(config.model)
    return _train("pretrain", config, config.model, folders, tokenizer, window, build, sample)


def finetune(config: FinetuneConfig) -> TrainResult:
    """Teach a model from conversations; the loss is on the assistant's words alone."""
    window = context_window(config.model)
    folders = _prepared(config, config.model, window)
    tokenizer = _shared_tokenizer(folders, config.model)
    prompts = _held_out_prompts(folders)

    def sample(engine: LocalEngine) -> list[dict[str, str]]:
        return [
            {"prompt": str(tokenizer.decode(ids)), "sample": "".join(engine.generate(ids, SAMPLE))}
            for ids in prompts
        ]

    def build() -> PreTrainedModel:
        return load_model(config.model, torch.float32)

    return _train("finetune", config, config.model, folders, tokenizer, window, build, sample)


def _train(
    stage: str,
    config: TrainConfig,
    base: Path | None,
    folders: Sequence[Path],
    tokenizer: PreTrainedTokenizerFast,
    window: int,
    build: Callable[[], PreTrainedModel],
    sample: Callable[[LocalEngine], list[dict[str, str]]],
) -> TrainResult:
    """What both stages do around the loop."""
    config, dtype = _resolved(config)
    task = _task(stage, config, folders)
    _check_window(task, folders, window)
    with Run(config.out, config, _inputs(folders, base)) as run:
        if run.finished:
            say(f"{config.out} is finished already")
            return _result(run)
        model = build()
        learner = Learner(model, MasterAdamW(model, config.weight_decay, dtype), tokenizer)
        _announce(model, task, config, dtype)
        engine = LocalEngine(model, tokenizer)
        at = fit(learner, task, config, run, lambda: sample(engine))
        if not run.final.exists():
            with new_folder(run.final) as folder:
                save_model_folder(folder, model, learner.optimizer, tokenizer)
        write_report(run.folder)
        run.finish(_passport(stage, run, config, _inputs(folders, base), at))
        for folder in folders:
            say(f"{folder}: {load_manifest(folder).balance}")
        return _result(run)


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


def _task(stage: str, config: TrainConfig, folders: Sequence[Path]) -> Task:
    items = Items([TokenStore.open(folder, "train") for folder in folders])
    held_out = Items([TokenStore.open(folder, "held_out") for folder in folders])
    _check_kinds(items, stage)
    plan = Plan(
        items.lengths,
        config.batch_tokens,
        config.micro_batch_tokens,
        config.seed,
        _mixture(config, items, folders),
    )
    steps = config.steps or max(1, round(config.epochs * plan.steps_per_epoch))
    return Task(stage, items, held_out if len(held_out) else None, language_model_loss, plan, steps)


def _mixture(config: TrainConfig, items: Items, folders: Sequence[Path]) -> Mixture | None:
    lengths = items.lengths_by_store
    if config.quota is not None:
        sources, tokens = by_quota(lengths, config.quota, config.incomplete)
    elif config.mix is not None:
        sources, tokens = by_weight(lengths, config.mix, config.batch_tokens, config.incomplete)
    else:
        return None
    for source, folder in zip(sources, folders, strict=True):
        if source.steps == 0:
            raise DataError(
                f"{folder} has less than a step takes of it",
                "give `--incomplete fill`, which takes from it again, or ask for less of it",
            )
    return Mixture(sources, tokens, config.exhausted, config.seed)


def _check_kinds(items: Items, stage: str) -> None:
    counts = np.bincount(items.kinds, minlength=len(KINDS))
    judged = {
        name: int(counts[KINDS.index(name)]) for name in ("chosen", "rejected", "good", "bad")
    }
    if any(judged.values()):
        found = ", ".join(f"{count:,} {name}" for name, count in judged.items() if count)
        raise DataError(
            f"the data holds judged answers ({found}), and {stage} would learn them all alike",
            "prepare the preferences apart from the texts and conversations",
        )


def _check_window(task: Task, folders: Sequence[Path], window: int) -> None:
    longest = max(
        int(items.lengths.max()) for items in (task.items, task.held_out) if items is not None
    )
    if longest > window:
        raise DataError(
            f"{', '.join(map(str, folders))} has items of {longest:,} tokens, more than the "
            f"{window:,} that the model can see",
            f"prepare it again with `--max-length {window}`",
        )


def _inputs(folders: Sequence[Path], base: Path | None) -> Inputs:
    """What a run starts from, by content."""
    inputs = {
        f"data {number}": sha256_file(folder / "manifest.json")
        for number, folder in enumerate(folders, 1)
    }
    if base is not None:
        for path in sorted(resolve_model(base).glob("*.safetensors")):
            inputs[f"model {path.name}"] = sha256_file(path)
    return inputs


def _announce(model: PreTrainedModel, task: Task, config: TrainConfig, dtype: torch.dtype) -> None:
    """Every derived quantity, before anything is spent."""
    parameters = sum(p.numel() for p in model.parameters())
    tokens = int(task.items.lengths.sum())
    epochs = task.steps / task.plan.steps_per_epoch
    say(
        f"{task.stage}: {parameters / 1e6:.1f}M parameters, {len(task.items):,} items of "
        f"{tokens:,} tokens, {task.steps:,} steps of about "
        f"{task.plan.step_tokens:,} tokens ({epochs:.2f} epochs), "
        f"{config.precision} on {config.threads} threads, "
        f"matrix peak {matrix_peak(dtype) / 1e9:,.0f} GFLOP/s"
    )


def _prepared(
    config: PretrainConfig | FinetuneConfig, tokenizer: Path | None, max_length: int
) -> list[Path]:
    """The prepared folders that `data` means; what is raw is prepared inside the run folder."""
    folders = [path for path in config.data if (path / "manifest.json").is_file()]
    raw = [path for path in config.data if path not in folders]
    _check_mix(config, raw)
    if raw:
        prepared = config.out / "data"
        if tokenizer is None and folders:
            tokenizer = folders[0]
        data_prepare(
            DataPrepareConfig(
                sources=[*raw],
                out=prepared,
                tokenizer=tokenizer,
                max_length=max_length,
                seed=config.seed,
            )
        )
        folders.append(prepared)
    return folders


def _check_mix(config: PretrainConfig | FinetuneConfig, raw: Sequence[Path]) -> None:
    for name, numbers in (("mix", config.mix), ("quota", config.quota)):
        if numbers is None:
            continue
        if raw:
            raise ConfigError(
                f"--{name} mixes prepared folders, and {raw[0]} is none",
                f"`tongwen data prepare {raw[0]} --out FOLDER` makes one",
            )
        if len(numbers) != len(config.data):
            raise ConfigError(
                f"--{name} has {len(numbers)} numbers for the {len(config.data)} folders of --data",
                "give one number for each, in the same order",
            )


def _shared_tokenizer(folders: Sequence[Path], model: Path | None) -> PreTrainedTokenizerFast:
    """The one tokenizer of the data, which must also be that of the model."""
    first, *others = [*([model] if model else []), *folders]
    tokenizer = load_tokenizer(first)
    expected = tokenizer_hash(tokenizer)
    for other in others:
        if tokenizer_hash(load_tokenizer(other)) != expected:
            raise DataError(
                f"{other} was prepared with another tokenizer than {first}",
                f"prepare it again with `--tokenizer {first}`",
            )
    return tokenizer


def _held_out_prompts(folders: Sequence[Path]) -> list[list[int]]:
    """The first turns of a few held-out conversations, up to where the assistant speaks."""
    prompts = []
    for folder in folders:
        store = TokenStore.open(folder, "held_out")
        for item in range(min(SAMPLES, len(store))):
            end = int(store.mask(item).argmax())
            prompts.append(store.ids(item)[:end].tolist())
    return prompts[:SAMPLES]


def _passport(
    stage: str, run: Run, config: TrainConfig, inputs: Inputs, at: Position
) -> dict[str, Any]:
    """What went in and what came out."""
    metrics = read_metrics(run.folder / "metrics.jsonl")
    steps = [record for record in metrics if "loss" in record]
    held_out: dict[str, float] = next((r for r in reversed(metrics) if "held_out_loss" in r), {})
    tail = steps[-100:]
    flops_per_second = sum(record["flops"] for record in steps) / at.seconds
    # The unit of ru_maxrss is a KiB on Linux and a byte on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "stage": stage,
        "inputs": inputs,
        "result": {
            **asdict(at),
            "tokens_per_second": at.tokens / at.seconds,
            "mfu": flops_per_second / matrix_peak(compute_dtype(config.precision)),
            "loss": sum(record["loss"] for record in tail) / len(tail),
            "held_out": {key: value for key, value in held_out.items() if key != "step"},
        },
        "final_sha256": sha256_file(run.final / "model.safetensors"),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": config.threads,
            "peak_rss_of_process_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        },
        "versions": {
            "tongwen": tongwen.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def _result(run: Run) -> TrainResult:
    result = json.loads(_read(run.folder / "passport.json"))["result"]
    result["steps"] = result.pop("step")
    return TrainResult(out=run.folder, model=run.final, report=run.folder / "report.html", **result)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
