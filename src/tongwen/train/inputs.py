"""What a run starts from: prepared folders, their tokenizer, and what must be true of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from tongwen.config import DataPrepareConfig, TrainConfig
from tongwen.data import KINDS, data_prepare
from tongwen.errors import ConfigError, DataError
from tongwen.files import sha256_file
from tongwen.models import context_window, resolve_model
from tongwen.tokenizer import load_tokenizer, tokenizer_hash
from tongwen.train import processes
from tongwen.train.batch import Items
from tongwen.train.mix import Ints, Mixture, by_quota, by_weight
from tongwen.train.plan import Groups, Phases, Plan, Ramp, Scheduled
from tongwen.train.run import Inputs
from tongwen.train.schedule import check_schedule, decay_start


def prepared(config: TrainConfig, tokenizer: Path | None, max_length: int) -> list[Path]:
    """The prepared folders that `data` means, and then those of `decay_data`.

    What is raw is prepared inside the run folder.
    """
    folders = [path for path in config.data if (path / "manifest.json").is_file()]
    raw = [path for path in config.data if path not in folders]
    decay = config.decay_data or []
    _check_mix(config, raw)
    _check_prepared(decay, "decay-data")
    if raw:
        if tokenizer is None and (folders or decay):
            tokenizer = [*folders, *decay][0]
        settings = DataPrepareConfig(
            sources=[*raw],
            out=config.out / "data",
            tokenizer=tokenizer,
            max_length=max_length,
            seed=config.seed,
        )
        processes.leader_first(lambda: data_prepare(settings))
        folders.append(config.out / "data")
    return [*folders, *decay]


def shared_tokenizer(folders: Sequence[Path], model: Path | None) -> PreTrainedTokenizerFast:
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


def planned(
    config: TrainConfig,
    lengths: Sequence[Ints],
    folders: Sequence[Path],
    least: int = 0,
    done: int = 0,
    updates: int = 1,
) -> tuple[Groups, int]:
    """Which groups of the folders every step trains on, and how many steps there are.

    `lengths` are the tokens of the groups of each folder. The last folders are those of the decay,
    where the settings name some. Without `--steps` there are `least` steps, or more if the epochs
    take more. `done` steps of the schedule were made with other data; the groups are those of the
    steps behind them. The same groups are learned from in `updates` steps, one after another.
    """
    first = len(folders) - len(config.decay_data or ())
    # What is planned are draws of groups, each of which makes `updates` steps.
    drawn, ramp = done // updates, Ramp()
    if config.batch_ramp is not None:
        ramp = Ramp(-(-config.batch_ramp // updates), config.batch_ramp_parts, drawn)
    plan = _plan(config, lengths[:first], folders[:first], ramp)
    steps = config.steps or max(least, plan.steps(config.epochs) * updates)
    check_schedule(steps, config)
    if config.decay_data is None:
        return Scheduled(plan, updates, done), steps
    decay = config.model_copy(update={"mix": config.decay_mix, "quota": None})
    second = _plan(decay, lengths[first:], folders[first:], Ramp())
    at = max(0, -(-decay_start(steps, config.decay) // updates) - drawn)
    phases = Phases(plan, second, at, sum(map(len, lengths[:first])))
    return Scheduled(phases, updates, done), steps


def _plan(
    config: TrainConfig, lengths: Sequence[Ints], folders: Sequence[Path], ramp: Ramp
) -> Plan:
    tokens = max(1, config.batch_tokens // ramp.parts)
    return Plan(
        np.concatenate(lengths),
        tokens,
        config.micro_batch_tokens,
        config.seed,
        _mixture(config, lengths, tokens, folders),
        ramp,
        processes.world(),
    )


def _mixture(
    config: TrainConfig, lengths: Sequence[Ints], batch_tokens: int, folders: Sequence[Path]
) -> Mixture | None:
    """How the folders are mixed, where `--mix`, `--quota` or `--batch-rows` says so."""
    if config.batch_rows is not None:
        lengths = [np.concatenate(lengths)]
        sources, tokens = by_quota(lengths, [config.batch_rows], config.incomplete)
    elif config.quota is not None:
        sources, tokens = by_quota(lengths, config.quota, config.incomplete)
    elif config.mix is not None:
        sources, tokens = by_weight(lengths, config.mix, batch_tokens, config.incomplete)
    else:
        return None
    names = folders if len(sources) == len(folders) else [", ".join(map(str, folders))]
    for source, folder in zip(sources, names, strict=True):
        if source.steps == 0:
            raise DataError(
                f"{folder} has less than a step takes of it",
                "give `--incomplete fill`, which takes from it again, or ask for less of it",
            )
    return Mixture(sources, tokens, config.exhausted, config.seed)


def check_texts(items: Items, stage: str) -> None:
    """Refuse judged answers: all would be learned alike, the bad ones too."""
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


def window_of(config: TrainConfig, model: Path) -> int:
    """Tokens that the model in a folder can be trained on, its positions extended as asked for.

    Positions that change with the length at hand would make a row depend on its neighbours, so with
    `--rope dynamic` training keeps to the window that the model has.
    """
    if config.rope in (None, "dynamic") or config.context is None:
        return context_window(model)
    return config.context


def check_window(sets: Sequence[Items], folders: Sequence[Path], window: int) -> None:
    """Refuse items that are longer than what the model can see."""
    longest = max(int(items.lengths.max()) for items in sets if len(items))
    if longest > window:
        raise DataError(
            f"{', '.join(map(str, folders))} has items of {longest:,} tokens, more than the "
            f"{window:,} that the model can see",
            f"prepare it again with `--max-length {window}`",
        )


def identities(folders: Sequence[Path], models: Mapping[str, Path | None]) -> Inputs:
    """What a run starts from, by content: its data, and the models by what they are to it."""
    inputs = {
        f"data {number}": sha256_file(folder / "manifest.json")
        for number, folder in enumerate(folders, 1)
    }
    for name, model in models.items():
        if model is not None:
            for path in sorted(resolve_model(model).glob("*.safetensors")):
                inputs[f"{name} {path.name}"] = sha256_file(path)
    return inputs


def _check_mix(config: TrainConfig, raw: Sequence[Path]) -> None:
    for name, numbers in (("mix", config.mix), ("quota", config.quota)):
        if numbers is None:
            continue
        _check_prepared(raw, name)
        if len(numbers) != len(config.data):
            raise ConfigError(
                f"--{name} has {len(numbers)} numbers for the {len(config.data)} folders of --data",
                "give one number for each, in the same order",
            )


def _check_prepared(folders: Sequence[Path], name: str) -> None:
    for folder in folders:
        if not (folder / "manifest.json").is_file():
            raise ConfigError(
                f"--{name} takes prepared folders, and {folder} is none",
                f"`tongwen data prepare {folder} --out FOLDER` makes one",
            )
