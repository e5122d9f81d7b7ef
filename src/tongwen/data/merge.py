"""`data merge`: prepared folders made with one tokenizer, joined into one.

The items stand in the order of the folders, each as it was. What the manifests count is added up,
what they list is listed one after another; a setting in which the folders differ becomes the list
of its values. The folders must have drawn their held-out rows in the same way, so that a row held
out in one is not trained on in another.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tongwen
from tongwen.config import DataMergeConfig
from tongwen.data.account import REJECTS, RowsResult
from tongwen.data.manifest import Manifest, load_manifest, save_manifest
from tongwen.data.shards import TokenStore, TokenWriter
from tongwen.data.sink import SPLITS
from tongwen.errors import DataError
from tongwen.files import new_folder, refuse_existing
from tongwen.progress import say

ALIKE = ("seed", "hold_out")
"""Settings that decide which rows are held out."""


@dataclass(frozen=True)
class DataMergeResult(RowsResult):
    """What the folders hold together."""

    folders: int
    items: int
    """Training items."""
    tokens: int
    """Training tokens."""


def data_merge(config: DataMergeConfig) -> DataMergeResult:
    """Join prepared folders that were made with the same tokenizer."""
    manifests = [load_manifest(folder) for folder in config.folders]
    check_one_tokenizer(config.folders, manifests)
    _check(config, manifests)
    manifest = _joined(manifests)
    with new_folder(config.out) as folder:
        for split in SPLITS:
            with TokenWriter(folder / split, manifest.tokenizer.size) as writer:
                for source in config.folders:
                    writer.append(TokenStore.open(source, split))
        with (folder / REJECTS).open("wb") as rejects:
            for source in config.folders:
                with (source / REJECTS).open("rb") as file:
                    shutil.copyfileobj(file, rejects)
        shutil.copytree(config.folders[0] / "tokenizer", folder / "tokenizer")
        save_manifest(manifest, folder)
    train = manifest.splits["train"]
    say(f"{config.out}: {manifest.balance}; {train.items:,} items, {train.tokens:,} tokens")
    return DataMergeResult(
        out=config.out,
        folders=len(manifests),
        **manifest.balance.model_dump(),
        items=train.items,
        tokens=train.tokens,
    )


def check_one_tokenizer(folders: Sequence[Path], manifests: Sequence[Manifest]) -> None:
    """Raise a DataError that names two folders with different tokenizers."""
    for folder, manifest in zip(folders, manifests, strict=True):
        if manifest.tokenizer.hash != manifests[0].tokenizer.hash:
            raise DataError(
                f"{folder} was prepared with another tokenizer than {folders[0]}",
                f"prepare it again with `--tokenizer {folders[0]}`",
            )


def _check(config: DataMergeConfig, manifests: Sequence[Manifest]) -> None:
    refuse_existing(config.out)
    for folder in config.folders:
        if not (folder / REJECTS).is_file():
            raise DataError(
                f"{folder} is not whole: it has no {REJECTS}",
                "copy the folder again, or prepare it again",
            )
    places = [folder.resolve() for folder in config.folders]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise DataError(f"{config.folders[number]} is given twice", "give every folder once")
    for name in ALIKE:
        values = [manifest.settings.get(name) for manifest in manifests]
        for folder, value in zip(config.folders, values, strict=True):
            if value != values[0]:
                raise DataError(
                    f"{config.folders[0]} was prepared with {name} {values[0]}, {folder} with "
                    f"{value}: rows held out in one may be trained on in the other",
                    "prepare them with the same --seed and --hold-out",
                )


def _joined(manifests: Sequence[Manifest]) -> Manifest:
    parts = [manifest.model_dump() for manifest in manifests]
    settings = [part.pop("settings") for part in parts]
    first = parts[0]
    kept = {name: first[name] for name in ("format", "tokenizer")}
    return Manifest.model_validate(
        {
            **_sum([{name: part[name] for name in part if name not in kept} for part in parts]),
            **kept,
            "tongwen": tongwen.__version__,
            "settings": {
                name: _common([part.get(name) for part in settings])
                for name in sorted({name for part in settings for name in part})
            },
        }
    )


def _common(values: list[Any]) -> Any:
    return values[0] if all(value == values[0] for value in values) else values


def _sum(values: list[Any]) -> Any:
    """Numbers added, lists one after another, mappings key by key; of anything else the first."""
    first = values[0]
    if isinstance(first, dict):
        names = dict.fromkeys(name for value in values for name in value)
        return {name: _sum([value[name] for value in values if name in value]) for name in names}
    if isinstance(first, list):
        return [one for value in values for one in value]
    return sum(values) if isinstance(first, int) else first
