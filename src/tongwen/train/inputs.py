"""What a run starts from: prepared folders, their tokenizer, and what must be true of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from tongwen.config import DataPrepareConfig, TrainConfig
from tongwen.data import KINDS, data_prepare
from tongwen.errors import ConfigError, DataError
from tongwen.files import sha256_file
from tongwen.models import resolve_model
from tongwen.tokenizer import load_tokenizer, tokenizer_hash
from tongwen.train.batch import Items
from tongwen.train.mix import Mixture, by_quota, by_weight
from tongwen.train.run import Inputs


def prepared(config: TrainConfig, tokenizer: Path | None, max_length: int) -> list[Path]:
    """The prepared folders that `data` means; what is raw is prepared inside the run folder."""
    folders = [path for path in config.data if (path / "manifest.json").is_file()]
    raw = [path for path in config.data if path not in folders]
    _check_mix(config, raw)
    if raw:
        if tokenizer is None and folders:
            tokenizer = folders[0]
        data_prepare(
            DataPrepareConfig(
                sources=[*raw],
                out=config.out / "data",
                tokenizer=tokenizer,
                max_length=max_length,
                seed=config.seed,
            )
        )
        folders.append(config.out / "data")
    return folders


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


def mixture(config: TrainConfig, items: Items, folders: Sequence[Path]) -> Mixture | None:
    """How the folders are mixed, where `--mix` or `--quota` says so."""
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


def check_window(sets: Sequence[Items], folders: Sequence[Path], window: int) -> None:
    """Refuse items that are longer than what the model can see."""
    longest = max(int(items.lengths.max()) for items in sets if len(items))
    if longest > window:
        raise DataError(
            f"{', '.join(map(str, folders))} has items of {longest:,} tokens, more than the "
            f"{window:,} that the model can see",
            f"prepare it again with `--max-length {window}`",
        )


def identities(folders: Sequence[Path], base: Path | None) -> Inputs:
    """What a run starts from, by content."""
    inputs = {
        f"data {number}": sha256_file(folder / "manifest.json")
        for number, folder in enumerate(folders, 1)
    }
    if base is not None:
        for path in sorted(resolve_model(base).glob("*.safetensors")):
            inputs[f"model {path.name}"] = sha256_file(path)
    return inputs


def _check_mix(config: TrainConfig, raw: Sequence[Path]) -> None:
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
