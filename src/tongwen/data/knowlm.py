"""`data import-knowlm` and `data export-knowlm`: KnowLM's token files from and to prepared folders.

KnowLM learns every token of a sample but the first, which nothing predicts, and so do the folders
that are made from its files. A category of theirs is a folder of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

import tongwen
from tongwen.config import DataExportKnowlmConfig, DataImportKnowlmConfig
from tongwen.data.account import REJECTS
from tongwen.data.encode import Item
from tongwen.data.knowlm_files import (
    ENDINGS,
    LONGEST,
    VOCABULARY,
    Samples,
    file_of,
    read_samples,
    write_samples,
)
from tongwen.data.manifest import (
    Balance,
    Manifest,
    SourceCounts,
    Vocabulary,
    fingerprint,
    load_manifest,
    save_manifest,
)
from tongwen.data.merge import check_one_tokenizer
from tongwen.data.shards import KINDS, Split, TokenStore
from tongwen.data.sink import TokenSink
from tongwen.data.split import split_of
from tongwen.errors import DataError
from tongwen.files import new_folder, refuse_existing
from tongwen.messages import Document
from tongwen.progress import say
from tongwen.text import language

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DECODED: Final = 256
"""Samples that are decoded at once."""


@dataclass(frozen=True)
class DataImportKnowlmResult:
    """What was read."""

    out: Path
    folders: list[Path]
    """One prepared folder for each category."""
    rows_in: int
    used: int
    held_out: int
    tokens: int
    """Training tokens."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.folders))


@dataclass(frozen=True)
class DataExportKnowlmResult:
    """What was written."""

    out: Path
    categories: list[int]
    """Samples of each category."""
    tokens: int
    newly_learned: int
    """Tokens that carry no loss in the folders, and will carry it in KnowLM."""

    def __str__(self) -> str:
        return "\n".join(str(file_of(self.out, ending)) for ending in ENDINGS)


def data_import_knowlm(config: DataImportKnowlmConfig) -> DataImportKnowlmResult:
    """Turn KnowLM's .bin, .idx and .dis into prepared folders, one for each category."""
    from tongwen.tokenizer import load_tokenizer

    refuse_existing(config.out)
    samples = read_samples(config.prefix)
    tokenizer = load_tokenizer(config.tokenizer)
    if (largest := int(samples.ids.max())) >= len(tokenizer):
        raise DataError(
            f"{file_of(config.prefix, '.bin')} has the id {largest}, and {config.tokenizer} "
            f"only {len(tokenizer):,} tokens",
            "give the tokenizer that made the ids",
        )
    names = [f"category-{number}" for number in range(1, len(samples.categories) + 1)]
    several = len(names) > 1
    with new_folder(config.out) as folder:
        places = [folder / name if several else folder for name in names]
        manifests = []
        first = 0
        for number, place in enumerate(places):
            last = first + samples.categories[number]
            note = f"category {number + 1} of {len(names)}" if several else None
            manifests.append(_fill(place, config, tokenizer, samples, range(first, last), note))
            first = last
    balance = sum((manifest.balance for manifest in manifests), Balance())
    tokens = sum(manifest.splits["train"].tokens for manifest in manifests)
    folders = [config.out / name if several else config.out for name in names]
    for place, manifest in zip(folders, manifests, strict=True):
        say(f"{place}: {manifest.balance}")
    return DataImportKnowlmResult(
        config.out, folders, balance.rows_in, balance.used, balance.held_out, tokens
    )


def data_export_knowlm(config: DataExportKnowlmConfig) -> DataExportKnowlmResult:
    """Write prepared folders as KnowLM's .bin, .idx and .dis, each folder one category."""
    split: Split = "held_out" if config.held_out else "train"
    manifests = [load_manifest(folder) for folder in config.folders]
    check_one_tokenizer(config.folders, manifests)
    stores = [TokenStore.open(folder, split) for folder in config.folders]
    for folder, manifest, store in zip(config.folders, manifests, stores, strict=True):
        _check_writable(folder, manifest, store)
    learned = write_samples(config.out, stores)
    lengths = np.concatenate([store.lengths for store in stores])
    categories = [len(store) for store in stores]
    tokens = int(lengths.sum())
    newly = tokens - learned - len(lengths)
    say(f"{config.out}: {len(lengths):,} samples, {tokens:,} tokens, categories {categories}")
    if newly:
        say(f"{newly:,} tokens that are context in the folders will carry loss in KnowLM")
    return DataExportKnowlmResult(config.out, categories, tokens, newly)


def _fill(
    folder: Path,
    config: DataImportKnowlmConfig,
    tokenizer: PreTrainedTokenizerFast,
    samples: Samples,
    numbers: range,
    note: str | None,
) -> Manifest:
    from tongwen.tokenizer import save_tokenizer, tokenizer_hash

    save_tokenizer(tokenizer, folder / "tokenizer")
    (folder / REJECTS).touch()
    longest = 0
    with TokenSink(folder, len(tokenizer)) as sink:
        for item, text in _items(tokenizer, samples, numbers):
            longest = max(longest, len(item.ids))
            sink.add(split_of(Document(text), config.seed, config.hold_out), [item])
    splits = sink.splits()
    used, held_out = splits["train"].rows, splits["held_out"].rows
    if used == 0:
        raise DataError(
            f"all {held_out} samples are held out, none is left to train on", "lower --hold-out"
        )
    balance = Balance(rows_in=len(numbers), used=used, held_out=held_out)
    manifest = Manifest(
        tongwen=tongwen.__version__,
        settings={
            "tokenizer": tokenizer_hash(tokenizer),
            "max_length": longest,
            "hold_out": config.hold_out,
            "seed": config.seed,
        },
        tokenizer=Vocabulary(size=len(tokenizer), hash=tokenizer_hash(tokenizer)),
        balance=balance,
        notes={},
        cut_tokens=0,
        benchmarks=[],
        splits=splits,
        sources=_sources(config.prefix, balance, note),
    )
    assert balance.balanced, balance
    save_manifest(manifest, folder)
    return manifest


def _sources(prefix: Path, balance: Balance, note: str | None) -> list[SourceCounts]:
    """The three files; the samples count as rows of the first."""
    return [
        SourceCounts(
            **fingerprint(file_of(prefix, ending)).model_dump(),
            **(balance if ending == ".bin" else Balance()).model_dump(),
            form="knowlm",
            encoding=None,
            note=note,
            layouts={"text": balance.rows_in} if ending == ".bin" else {},
        )
        for ending in ENDINGS
    ]


def _items(
    tokenizer: PreTrainedTokenizerFast, samples: Samples, numbers: range
) -> Iterator[tuple[Item, str]]:
    """The samples as items, each with its text."""
    decode = tokenizer.backend_tokenizer.decode_batch
    special = set(tokenizer.all_special_ids)
    for start in range(numbers.start, numbers.stop, DECODED):
        group = range(start, min(start + DECODED, numbers.stop))
        ids = [_sample(samples, number) for number in group]
        texts = decode([one.tolist() for one in ids], skip_special_tokens=True)
        # The first token carries no loss, so its text does not count.
        rests = decode([one[1:].tolist() for one in ids], skip_special_tokens=True)
        for one, text, rest in zip(ids, texts, rests, strict=True):
            mask = np.arange(len(one)) > 0
            learned = text if int(one[0]) in special else rest
            yield Item(one, mask, len(learned.encode("utf-8")), language(text)), text


def _sample(samples: Samples, number: int) -> npt.NDArray[np.int64]:
    start = int(samples.ends[number - 1]) if number else 0
    return samples.ids[start : int(samples.ends[number])].astype(np.int64)


def _check_writable(folder: Path, manifest: Manifest, store: TokenStore) -> None:
    size = manifest.tokenizer.size
    if size > VOCABULARY:
        raise DataError(
            f"{folder}: its tokenizer has {size:,} tokens, KnowLM's files hold ids of up to 65,535",
            "KnowLM cannot train on it; take a tokenizer of up to 65,536 tokens",
        )
    if len(store) == 0:
        raise DataError(f"{folder} has no rows to write", "KnowLM's files cannot be empty")
    longest = int(store.lengths.argmax())
    if store.lengths[longest] > LONGEST:
        raise DataError(
            f"{folder}: item {longest + 1} has {store.lengths[longest]:,} tokens, KnowLM's files "
            "hold samples of up to 65,535",
            "prepare it again with a smaller --max-length",
        )
    others = sorted({KINDS[kind] for kind in np.unique(store.kinds)} - {"text"})
    if others:
        raise DataError(
            f"{folder} holds items of the kind {', '.join(others)}, of which KnowLM would learn "
            "every word, the questions too",
            "export folders of texts alone",
        )
