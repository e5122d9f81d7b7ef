"""`data prepare`: from files to a prepared folder.

    sources ─ rows ─ conversations and documents ─ items ─┬─ train/     ids, mask, index
                                                          ├─ held_out/
                        rows that are not used ───────────┴─ rejects.jsonl
                                                             tokenizer/, manifest.json, report.html

The same sources and settings give the same bytes. The folder appears only when it is complete; the
same command over unchanged sources returns at once, and a folder with anything else in it is never
written over. Whether a row is held out follows from its content and the seed, so that equal rows
fall on the same side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

import tongwen
from tongwen.cleaning.statistics import Measures, answers_of
from tongwen.config import DataPrepareConfig
from tongwen.data.account import REJECTS, REPORT, RowsResult
from tongwen.data.encode import SHORTEST, Encoder
from tongwen.data.encode import Item as Encoded
from tongwen.data.manifest import (
    Balance,
    Manifest,
    SourceFile,
    SplitCounts,
    Vocabulary,
    fingerprints,
    load_manifest,
    save_manifest,
)
from tongwen.data.pipeline import Pipeline, check_place, located, settings_of
from tongwen.data.shards import TokenStore
from tongwen.data.sink import SPLITS, TokenSink
from tongwen.data.talk import Talk
from tongwen.data.vocabulary import Sample, tokenizer_of
from tongwen.data.work import Made, Product
from tongwen.errors import ConfigError, DataError
from tongwen.files import is_free, new_folder
from tongwen.messages import Item, texts_of
from tongwen.sources import expand

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class DataPrepareResult(RowsResult):
    """What became of the rows, and what the prepared folder holds."""

    items: int
    """Training items: conversations, documents and pieces of long documents."""
    tokens: int
    """Training tokens."""
    trained_tokens: int
    """Training tokens that carry loss."""
    cut_tokens: int
    """Tokens of rows in use that were left out because of the length."""
    vocab_size: int
    splits: dict[str, SplitCounts]
    rejects: Path
    report: Path
    reused: bool
    """The folder was there already, made from the same sources with the same settings."""


@dataclass(frozen=True)
class Encoding:
    """How items become tokens."""

    tokenizer: PreTrainedTokenizerFast
    config: DataPrepareConfig

    def begin(self) -> Made:
        config = self.config
        encoder = Encoder(
            self.tokenizer,
            config.max_length,
            config.segments,
            config.marks,
            max_source=config.max_source,
            max_target=config.max_target,
        )

        def made(rows: Sequence[Item]) -> list[Product | DataError]:
            encoded = zip(rows, encoder.encode(rows), strict=True)
            return [_product(row, items) for row, items in encoded]

        return made


def _product(row: Item, items: list[Encoded] | DataError) -> Product | DataError:
    if isinstance(items, DataError):
        return items
    characters = sum(map(len, texts_of(row)))
    measures = Measures(characters, answers_of(row), items[0].language)
    notes = tuple(note for item in items for note in item.notes)
    return Product(items, measures, sum(len(item.ids) for item in items), notes)


def data_prepare(config: DataPrepareConfig) -> DataPrepareResult:
    """Prepare sources for training, accounting for every row."""
    if config.max_length < SHORTEST:
        raise ConfigError(
            f"max_length {config.max_length} is too short for a row",
            f"the smallest is {SHORTEST}; the default is 2048",
        )
    config = located(config)
    expanded = expand(config.sources)
    check_place(config.out, config.sources)
    tokenizer = _given_tokenizer(config)
    settings = _settings(config, tokenizer)
    files = fingerprints(expanded)
    talk = Talk()
    if finished := _finished(config.out, settings, files):
        talk.reused(config.out)
        return _result(config.out, finished, reused=True)
    talk.begin(expanded, files, config.out)
    with new_folder(config.out) as folder:
        manifest = _fill(folder, config, settings, tokenizer, files, talk)
    talk.end(manifest, config.out)
    return _result(config.out, manifest, reused=False)


def _given_tokenizer(config: DataPrepareConfig) -> PreTrainedTokenizerFast | None:
    from tongwen.messages import with_template
    from tongwen.tokenizer import load_tokenizer

    if config.tokenizer is None:
        if config.template is not None:
            raise ConfigError(
                "--template is given without --tokenizer",
                "a tokenizer that is trained here has a chat template of its own",
            )
        return None
    tokenizer = load_tokenizer(config.tokenizer)
    return with_template(tokenizer, config.template) if config.template else tokenizer


def _settings(
    config: DataPrepareConfig, tokenizer: PreTrainedTokenizerFast | None
) -> dict[str, JsonValue]:
    from tongwen.tokenizer import tokenizer_hash

    settings = settings_of(config, "tokenizer", "template")
    if tokenizer is None:
        return settings
    return {**settings, "tokenizer": tokenizer_hash(tokenizer), "vocab_size": None}


def _finished(
    out: Path, settings: dict[str, JsonValue], files: list[SourceFile]
) -> Manifest | None:
    """The manifest of a finished folder that is the same; a different one raises DataError."""
    if is_free(out):
        return None
    try:
        manifest = load_manifest(out)
    except DataError as error:
        raise DataError(
            f"{out} exists and is not a folder that this command wrote",
            f"choose another --out, or remove it ({error.message})",
        ) from None
    if manifest.settings != settings:
        names = [
            name
            for name in sorted({*settings, *manifest.settings})
            if manifest.settings.get(name) != settings.get(name)
        ]
        different = f"with other settings: {', '.join(names)}"
    elif _contents(manifest.files) != _contents(files):
        different = "from other sources"
    else:
        for split in SPLITS:
            TokenStore.open(out, split)  # a damaged folder is not up to date
        return manifest
    raise DataError(
        f"{out} holds data that was prepared {different}",
        "choose another --out, or remove the folder first",
    )


def _contents(files: Sequence[SourceFile]) -> list[tuple[str, str]]:
    """What sources are, wherever they lie."""
    return [(Path(file.name).name, file.sha256) for file in files]


def _fill(
    folder: Path,
    config: DataPrepareConfig,
    settings: dict[str, JsonValue],
    tokenizer: PreTrainedTokenizerFast | None,
    files: Sequence[SourceFile],
    talk: Talk,
) -> Manifest:
    from tongwen.tokenizer import save_tokenizer, tokenizer_hash

    with Pipeline(config, files, folder, talk, config.seed, config.hold_out) as pipeline:
        if tokenizer is None:
            sample = Sample(files, pipeline.sifting, config.text_rows)
            tokenizer = tokenizer_of(sample, config.vocab_size, talk)
        save_tokenizer(tokenizer, folder / "tokenizer")
        with TokenSink(folder, len(tokenizer)) as sink:
            for sound in pipeline.sounds(Encoding(tokenizer, config)):
                sink.add(sound.split, sound.product.value)
        manifest = Manifest(
            tongwen=tongwen.__version__,
            settings=settings,
            tokenizer=Vocabulary(size=len(tokenizer), hash=tokenizer_hash(tokenizer)),
            balance=pipeline.account.balance,
            notes=dict(sorted(pipeline.account.notes.items())),
            cut_characters=pipeline.account.cut_characters,
            cut_tokens=sink.cut_tokens,
            benchmarks=pipeline.account.benchmarks(),
            splits=sink.splits(),
            sources=pipeline.account.sources,
        )
        pipeline.account.write_report(folder / REPORT, "Prepared data 数据准备")
    assert manifest.balance.balanced, manifest.balance
    talk.reasons(pipeline.account.reasons)
    if manifest.balance.used == 0:
        raise _nothing(manifest.balance)
    save_manifest(manifest, folder)
    return manifest


def _nothing(balance: Balance) -> DataError:
    if balance.rows_in == 0:
        return DataError("the sources hold no rows", "give files that are not empty")
    if balance.held_out:
        return DataError(
            f"all {balance.held_out} good rows are held out, none is left to train on",
            "lower --hold-out, or give more rows",
        )
    return DataError(
        f"none of the {balance.rows_in:,} rows is left to train on: {balance}",
        "the reasons stand above, each with the file and line where it was met first",
    )


def _result(out: Path, manifest: Manifest, reused: bool) -> DataPrepareResult:
    train = manifest.splits["train"]
    return DataPrepareResult(
        out=out,
        **manifest.balance.model_dump(),
        items=train.items,
        tokens=train.tokens,
        trained_tokens=train.trained_tokens,
        cut_tokens=manifest.cut_tokens,
        vocab_size=manifest.tokenizer.size,
        splits=manifest.splits,
        rejects=out / REJECTS,
        report=out / REPORT,
        reused=reused,
    )
