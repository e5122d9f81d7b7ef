"""`data prepare`: from files to a prepared folder.

    sources ─ rows ─ conversations and documents ─ items ─┬─ train/     ids, mask, index
                                                          ├─ held_out/
                        rows that cannot be used ─────────┴─ rejects.jsonl
                                                             tokenizer/, manifest.json

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

import tongwen
from tongwen.config import DataPrepareConfig
from tongwen.data.account import REJECTS, Account
from tongwen.data.encode import SHORTEST, Encoder, grouped
from tongwen.data.manifest import (
    Manifest,
    Settings,
    SourceFile,
    SplitCounts,
    Vocabulary,
    fingerprint,
    load_manifest,
    save_manifest,
)
from tongwen.data.split import split_of
from tongwen.data.talk import Talk
from tongwen.data.vocabulary import Sample, tokenizer_of
from tongwen.errors import ConfigError, DataError
from tongwen.files import new_folder
from tongwen.messages import Conversation, Document, layout_of, parse
from tongwen.sources import Reject, Row, expand, open_source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class DataPrepareResult:
    """What became of the rows; `rows_in` = `used` + `held_out` + `rejected`."""

    out: Path
    rows_in: int
    used: int
    held_out: int
    rejected: int
    items: int
    """Training items: conversations, documents and pieces of long documents."""
    tokens: int
    """Training tokens."""
    trained_tokens: int
    """Training tokens that carry loss."""
    vocab_size: int
    splits: dict[str, SplitCounts]
    rejects: Path
    reused: bool
    """The folder was there already, made from the same sources with the same settings."""

    def __str__(self) -> str:
        return str(self.out)


def data_prepare(config: DataPrepareConfig) -> DataPrepareResult:
    """Prepare sources for training, accounting for every row."""
    if config.max_length < SHORTEST:
        raise ConfigError(
            f"max_length {config.max_length} is too short for a row",
            f"the smallest is {SHORTEST}; the default is 2048",
        )
    expanded = expand(config.sources)
    _check_place(config)
    tokenizer, settings = _settings(config)
    files = [fingerprint(path) for path in expanded.files]
    talk = Talk()
    if finished := _finished(config.out, settings, files):
        talk.reused(config.out)
        return _result(config.out, finished, reused=True)
    talk.begin(expanded, files, config.out)
    with new_folder(config.out) as folder:
        if tokenizer is None:
            sample = Sample(files, config.hold_out, config.seed)
            tokenizer = tokenizer_of(sample, config.vocab_size, talk)
        manifest = _fill(folder, config, settings, tokenizer, files, talk)
    talk.end(manifest, config.out)
    return _result(config.out, manifest, reused=False)


def _check_place(config: DataPrepareConfig) -> None:
    for source in config.sources:
        if config.out.resolve().is_relative_to(source.resolve()):
            raise DataError(
                f"--out {config.out} lies inside the source {source} and would be read as data",
                "choose a folder outside of the sources",
            )


def _settings(config: DataPrepareConfig) -> tuple[PreTrainedTokenizerFast | None, Settings]:
    from tongwen.tokenizer import load_tokenizer, tokenizer_hash

    tokenizer = load_tokenizer(config.tokenizer) if config.tokenizer else None
    settings = Settings(
        tokenizer=tokenizer_hash(tokenizer) if tokenizer else None,
        vocab_size=None if tokenizer else config.vocab_size,
        max_length=config.max_length,
        hold_out=config.hold_out,
        seed=config.seed,
    )
    return tokenizer, settings


def _finished(out: Path, settings: Settings, files: list[SourceFile]) -> Manifest | None:
    """The manifest of a finished folder that is the same; a different one raises DataError."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        manifest = load_manifest(out)
    except DataError as error:
        raise DataError(
            f"{out} exists and is not a folder that this command wrote",
            f"choose another --out, or remove it ({error.message})",
        ) from None
    if manifest.settings != settings:
        old, new = manifest.settings.model_dump(), settings.model_dump()
        names = [name for name in new if old[name] != new[name]]
        different = f"with other settings: {', '.join(names)}"
    elif _contents(manifest.files) != _contents(files):
        different = "from other sources"
    else:
        return manifest
    raise DataError(
        f"{out} holds data that was prepared {different}",
        "choose another --out, or remove the folder first",
    )


@dataclass(frozen=True)
class _Parsed:
    row: Row
    item: Conversation | Document


def _parsed(row: Row | Reject) -> _Parsed | Reject:
    if isinstance(row, Reject):
        return row
    try:
        return _Parsed(row, parse(row.record))
    except DataError as error:
        return row.reject(error)


def _contents(files: Sequence[SourceFile]) -> list[tuple[str, str]]:
    """What sources are, wherever they lie."""
    return [(Path(file.path).name, file.sha256) for file in files]


def _characters(row: _Parsed | Reject) -> int:
    if isinstance(row, Reject):
        return 0
    if isinstance(row.item, Document):
        return len(row.item.text)
    return sum(len(message.content) for message in row.item.messages)


def _fill(
    folder: Path,
    config: DataPrepareConfig,
    settings: Settings,
    tokenizer: PreTrainedTokenizerFast,
    files: Sequence[SourceFile],
    talk: Talk,
) -> Manifest:
    from tongwen.tokenizer import save_tokenizer, tokenizer_hash

    save_tokenizer(tokenizer, folder / "tokenizer")
    encoder = Encoder(tokenizer, config.max_length)
    with Account(folder, len(tokenizer)) as account:
        for file in files:
            with talk.waiting(file.path):
                _read(file, config, encoder, account)
            talk.source(account.sources[-1])
    splits = account.splits()
    rejected = sum(source.rejected for source in account.sources)
    manifest = Manifest(
        tongwen=tongwen.__version__,
        settings=settings,
        tokenizer=Vocabulary(size=len(tokenizer), hash=tokenizer_hash(tokenizer)),
        rows_in=sum(source.rows for source in account.sources),
        used=splits["train"].rows,
        held_out=splits["held_out"].rows,
        rejected=rejected,
        splits=splits,
        sources=account.sources,
    )
    assert manifest.rows_in == manifest.used + manifest.held_out + manifest.rejected, manifest
    talk.reasons(account.reasons)
    if manifest.used == 0:
        raise _nothing(manifest)
    save_manifest(manifest, folder)
    return manifest


def _nothing(manifest: Manifest) -> DataError:
    if manifest.rows_in == 0:
        return DataError("the sources hold no rows", "give files that are not empty")
    if manifest.held_out:
        return DataError(
            f"all {manifest.held_out} good rows are held out, none is left to train on",
            "lower --hold-out, or give more rows",
        )
    return DataError(
        f"all {manifest.rows_in:,} rows are rejected, nothing is left to train on",
        "the reasons stand above, each with the file and line where it was met first",
    )


def _read(file: SourceFile, config: DataPrepareConfig, encoder: Encoder, account: Account) -> None:
    source = open_source(Path(file.path))
    for group in grouped(map(_parsed, source.rows()), _characters):
        items = [row.item for row in group if isinstance(row, _Parsed)]
        encoded = iter(encoder.encode(items))
        for row in group:
            if isinstance(row, Reject):
                account.reject(row)
                continue
            result = next(encoded)
            if isinstance(result, DataError):
                account.reject(row.row.reject(result))
                continue
            split = split_of(row.item, config.seed, config.hold_out)
            account.accept(split, layout_of(row.row.record), result)
    account.close_source(file, source)


def _result(out: Path, manifest: Manifest, reused: bool) -> DataPrepareResult:
    train = manifest.splits["train"]
    return DataPrepareResult(
        out=out,
        rows_in=manifest.rows_in,
        used=manifest.used,
        held_out=manifest.held_out,
        rejected=manifest.rejected,
        items=train.items,
        tokens=train.tokens,
        trained_tokens=train.trained_tokens,
        vocab_size=manifest.tokenizer.size,
        splits=manifest.splits,
        rejects=out / REJECTS,
        reused=reused,
    )
