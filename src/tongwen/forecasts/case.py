"""A training, as far as a forecast needs it: from settings to model, machine, data and recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tongwen.config import ForecastConfig, Size
from tongwen.data import load_manifest
from tongwen.data.manifest import MANIFEST
from tongwen.errors import ConfigError
from tongwen.forecasts.machines import Machine, machine
from tongwen.forecasts.work import Work, work_of
from tongwen.models.anatomy import Anatomy, anatomy_of, read_anatomy
from tongwen.models.cost import Speed, Step, step_seconds
from tongwen.models.memory import Memory, training_memory
from tongwen.models.recipe import Recipe, recipe_of
from tongwen.models.room import MARGIN, Verdict, verdict_of
from tongwen.models.sizes import shape_config
from tongwen.settings import file_or_preset, nearest, read_toml, settings
from tongwen.verbs import VERBS

SETTINGS_FILE = "config.toml"
CONTEXT = 512
"""Tokens that a new model sees, as `tongwen pretrain` makes it."""
NOT_COUNTED = ("mix", "batch_ramp", "decay_data", "reference", "rope", "guard")
"""Settings that change a little of what is forecast, and are passed over."""
VOCABULARY: dict[Size, int] = {
    "1m": 4096, "5m": 8192, "25m": 32000, "135m": 65024, "350m": 65024, "1b": 65024,
}  # fmt: skip
"""Tokens that a new model of nominal size is thought with."""


@dataclass(frozen=True)
class Case:
    """A training, as far as a forecast needs it."""

    config: ForecastConfig
    anatomy: Anatomy
    machine: Machine
    precision: str
    work: Work

    @property
    def recipe(self) -> Recipe:
        """How the model is trained."""
        return recipe_of(
            self.config,
            self.precision,
            way=self.config.way,
            card=self.machine.card,
            compiled=self.machine.compiled,
        )

    @property
    def share(self) -> int:
        """Tokens of a step of one process."""
        return max(1, self.batch_tokens // self.config.nproc)

    @property
    def batch_tokens(self) -> int:
        """Tokens of a step, as they were asked for or as so many items have."""
        rows = self.config.batch_rows
        return self.config.batch_tokens if rows is None else round(rows * self.work.mean)

    @property
    def memory(self) -> Memory:
        """Bytes of one process."""
        load = self.work.load(self.share, self.config.micro_batch_tokens, self.steps)
        return training_memory(self.anatomy, self.recipe, load)

    @property
    def available(self) -> float:
        """Bytes that one process can have: a card of its own, or its share of the memory."""
        return self.machine.memory / (1 if self.machine.card else self.config.nproc)

    @property
    def margin(self) -> float:
        """Share of the peak by which the forecast may be wrong."""
        return MARGIN["card" if self.machine.card else "processor"]

    @property
    def verdict(self) -> Verdict:
        """Whether it fits."""
        return verdict_of(self.memory.peak, self.margin, self.available)

    @property
    def step(self) -> Step:
        """What a step computes."""
        tokens = float(max(self.batch_tokens, self.work.mean))
        return Step(tokens, tokens * self.work.trained_share, self.work.square_length)

    @property
    def speed(self) -> Speed:
        """How fast one process computes."""
        return self.machine.speed(self.precision)

    @property
    def seconds_per_step(self) -> float:
        """Seconds of an optimiser step."""
        return step_seconds(self.anatomy, self.recipe, self.step, self.speed)

    @property
    def steps(self) -> int | None:
        """Optimiser steps of the run, where they follow from anything."""
        if self.config.steps is not None or not self.work.tokens:
            return self.config.steps
        return max(1, round(self.config.epochs * self.work.tokens / self.step.tokens))


def with_run(config: ForecastConfig) -> ForecastConfig:
    """The settings, and where they are silent those of the run or settings file that is given."""
    if config.run is None:
        return config
    path, told = _told(config.run)
    known = _training_keys()
    for key in told:
        if key not in known:
            meant = nearest(key, known)
            hint = f"did you mean `{meant}`?" if meant else None
            raise ConfigError(f"unknown key `{key}` in {path}", hint)
    stage = {"stage": "align"} if "objective" in told else {}
    given = {key: getattr(config, key) for key in config.model_fields_set - {"run"}}
    kept = {key: value for key, value in told.items() if key in ForecastConfig.model_fields}
    merged = {**stage, **kept, **given}
    # A run has a size even where it goes on from a model; what is given here wins.
    merged.pop("model" if "size" in given else "size" if "model" in merged else "", None)
    if not merged.keys() & {"model", "size"}:
        raise ConfigError(f"{path} names no model", "give --model or --size beside it")
    if "quota" in told:
        merged.setdefault("batch_rows", sum(told["quota"]))
    return settings(ForecastConfig, merged)


def not_counted(config: ForecastConfig) -> list[str]:
    """The settings that were given, in a settings file or beside it, and are passed over."""
    told = {} if config.run is None else _told(config.run)[1]
    given = told | {key: getattr(config, key) for key in config.model_fields_set}
    return [name for name in NOT_COUNTED if given.get(name)]


def _told(run: Path) -> tuple[Path, dict[str, Any]]:
    """The settings file that is meant, and what it says."""
    path = run / SETTINGS_FILE if run.is_dir() else file_or_preset(run)
    return path, read_toml(path, "key = value")


def case_of(config: ForecastConfig) -> Case:
    """Everything that the settings stand for."""
    if config.objective == "grpo":
        raise ConfigError(
            "grpo generates answers, and that is not forecast",
            "forecast fine-tuning with the same settings; answers need room beside it",
        )
    where = machine(config.machine, config.threads, config.precision, config.device)
    anatomy, window = _anatomy(config)
    work = work_of(config, config.context or window)
    return Case(config, anatomy, where, where.precision(config.precision), work)


def _anatomy(config: ForecastConfig) -> tuple[Anatomy, int]:
    """The model, and the length of its items where no data says it."""
    if config.model is not None:
        anatomy = read_anatomy(config.model)
        return anatomy, anatomy.window
    assert config.size is not None
    context = config.context or CONTEXT
    vocabulary = config.vocab_size or _vocabulary(config) or VOCABULARY[config.size]
    return anatomy_of(shape_config(config.size, vocabulary, context)), context


def _vocabulary(config: ForecastConfig) -> int | None:
    first = next((path for path in config.data or () if (path / MANIFEST).is_file()), None)
    return None if first is None else load_manifest(first).tokenizer.size


def _training_keys() -> set[str]:
    """Every key that the settings file of a training can have."""
    stages = ("pretrain", "finetune", "align")
    fields = [set(verb.config_class().model_fields) for verb in VERBS if verb.path in stages]
    return set().union(*fields)
