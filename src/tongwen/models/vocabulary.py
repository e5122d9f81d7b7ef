"""`tokenizer extend` and `tokenizer prune`: a vocabulary, and the model that uses it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tongwen.config import EmbeddingInit, TokenizerExtendConfig, TokenizerPruneConfig
from tongwen.errors import ConfigError, DataError, ModelError
from tongwen.files import new_folder, refuse_existing, write_whole
from tongwen.messages import encode_text
from tongwen.models.embeddings import grow, rows, shrink
from tongwen.models.folder import resolve_model
from tongwen.models.loading import load_model
from tongwen.text import is_han
from tongwen.tokenizer import load_tokenizer, save_tokenizer, tokenizer_hash
from tongwen.tokenizer.extend import (
    Extension,
    count_tokens,
    extend_from_text,
    extend_with_pieces,
    extended_model,
    pieces_of,
    unreachable,
)
from tongwen.tokenizer.pieces import looks_like_pieces
from tongwen.tokenizer.prune import prune, usage
from tongwen.tokenizer.samples import OWN, texts_in

MAPPING: Final = "old-ids.json"
"""In the folder of a pruned tokenizer: for each new id the old one."""
WINDOW: Final = 256
WINDOWS: Final = 64
"""Characters of a window, and windows, that a loss is measured on."""
IDS: Final = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Start:
    """Where a model begins with new rows filled in one way, or, for `before`, without them."""

    init: EmbeddingInit | str
    nats_per_token: float
    bits_per_byte: float
    """Comparable between vocabularies."""


@dataclass(frozen=True)
class TokenizerExtendResult:
    """The extended tokenizer, and what it brings on the text."""

    out: Path
    hash: str
    vocab_size_before: int
    vocab_size: int
    unreachable: int
    """New tokens that no text is cut into."""
    characters: int
    tokens_before: int
    tokens: int
    chinese_tokens_before: int
    """Tokens of the runs of Hanzi in the text alone."""
    chinese_tokens: int
    embedding_rows: int | None
    init: EmbeddingInit | None
    starts: tuple[Start, ...]
    """Lowest loss first, without the old model."""

    def __str__(self) -> str:
        return str(self.out)


@dataclass(frozen=True)
class TokenizerPruneResult:
    """The pruned tokenizer."""

    out: Path
    hash: str
    vocab_size_before: int
    vocab_size: int
    texts: int
    texts_cut_otherwise: int
    tokens_before: int
    tokens: int
    embedding_rows: int | None
    mapping: Path

    def __str__(self) -> str:
        return str(self.out)


def tokenizer_extend(config: TokenizerExtendConfig) -> TokenizerExtendResult:
    """Add Chinese tokens to a tokenizer, keeping all old ids, and to the model that uses it."""
    refuse_existing(config.out)
    if config.compare and config.model is None:
        raise ConfigError("--compare measures a model, and there is none", "add --model FOLDER")
    before = load_tokenizer(config.tokenizer)
    _check_own(config.model, before, config.tokenizer)
    texts = list(texts_in(config.text))
    extension = _extension(config, before, texts)
    if not extension.added:
        raise DataError(
            f"there are no tokens to add that {config.tokenizer} does not have",
            "give another --pieces, or more --text",
        )
    measured = texts or [sample.text for sample in OWN]
    after = extension.tokenizer
    starts: tuple[Start, ...] = ()
    model = None if config.model is None else _load(config.model)
    if config.compare and config.model is not None:
        starts = _compare(config, before, extension, measured)
    if model is not None:
        grow(model, extension.first, extension.spelled, config.init, config.seed, config.pad_to)
    with new_folder(config.out) as folder:
        save_tokenizer(after, folder)
        if _is_model_file(config.tokenizer):
            data = extended_model(config.tokenizer, extension.added)
            (folder / "tokenizer.model").write_bytes(data)
        if model is not None:
            model.save_pretrained(folder)
    chinese = ["".join(char if is_han(char) else "\n" for char in text) for text in measured]
    result = TokenizerExtendResult(
        out=config.out,
        hash=tokenizer_hash(after),
        vocab_size_before=len(before),
        vocab_size=len(after),
        unreachable=len(unreachable(extension)),
        characters=sum(map(len, measured)),
        tokens_before=count_tokens(before, measured),
        tokens=count_tokens(after, measured),
        chinese_tokens_before=_words_count(before, chinese),
        chinese_tokens=_words_count(after, chinese),
        embedding_rows=None if model is None else rows(model),
        init=None if model is None else config.init,
        starts=starts,
    )
    _show_extension(result, chinese)
    return result


def tokenizer_prune(config: TokenizerPruneConfig) -> TokenizerPruneResult:
    """Take tokens out of a tokenizer that a text does not use, and their rows out of a model."""
    refuse_existing(config.out)
    if not config.text and config.keep is None:
        raise ConfigError("nothing says which tokens stay", "add --text FILE or --keep FILE")
    before = load_tokenizer(config.tokenizer)
    _check_own(config.model, before, config.tokenizer)
    lines = [line for text in texts_in(config.text) for line in text.splitlines(keepends=True)]
    counts = usage(before, lines)
    used = [number for number, count in counts.most_common() if count >= config.min_count]
    staying = [*_listed(config.keep, before), *used]
    if not staying:
        raise DataError("nothing says which tokens stay: the text uses none", "give a longer text")
    pruned = prune(before, staying, config.size or None)
    after = pruned.tokenizer
    changed = sum(
        [pruned.kept[number] for number in encode_text(after, line)] != encode_text(before, line)
        for line in lines
    )
    model = None if config.model is None else _load(config.model)
    with new_folder(config.out) as folder:
        save_tokenizer(after, folder)
        write_whole(folder / MAPPING, json.dumps(pruned.kept) + "\n")
        if model is not None:
            shrink(model, pruned.kept)
            _renumber(model, {old: new for new, old in enumerate(pruned.kept)})
            model.save_pretrained(folder)
    result = TokenizerPruneResult(
        out=config.out,
        hash=tokenizer_hash(after),
        vocab_size_before=len(before),
        vocab_size=len(after),
        texts=len(lines),
        texts_cut_otherwise=changed,
        tokens_before=sum(counts.values()),
        tokens=count_tokens(after, lines),
        embedding_rows=None if model is None else rows(model),
        mapping=config.out / MAPPING,
    )
    _say(
        f"{result.vocab_size_before:,} tokens → {result.vocab_size:,}; of {result.texts:,} lines "
        f"{changed:,} are cut otherwise ({result.tokens_before:,} tokens → {result.tokens:,})"
    )
    return result


def _extension(
    config: TokenizerExtendConfig, before: PreTrainedTokenizerFast, texts: Sequence[str]
) -> Extension:
    if config.pieces is not None:
        return extend_with_pieces(before, pieces_of(load_tokenizer(config.pieces), before))
    if not texts:
        raise ConfigError(
            "there is nothing to take new tokens from", "add --pieces FILE or --text FILE"
        )
    return extend_from_text(before, texts, config.add)


def _check_own(model: Path | None, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Refuse a model that has a tokenizer of its own with another vocabulary."""
    if model is None or not (own := resolve_model(model) / "tokenizer.json").is_file():
        return
    if load_tokenizer(own).get_vocab() != tokenizer.get_vocab():
        raise ModelError(
            f"the vocabulary of {path} is not that of the tokenizer in {model}",
            f"give `--tokenizer {model}`",
        )


def _is_model_file(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return looks_like_pieces(file.read(4096))


def _listed(path: Path | None, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The ids of the tokens in a file."""
    if path is None:
        return []
    vocabulary = tokenizer.get_vocab()
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text", "save the file as UTF-8") from None
    tokens = [line for line in text.splitlines() if line]
    for number, token in enumerate(tokens, 1):
        if token not in vocabulary:
            raise DataError(
                f"{path}:{number}: the vocabulary has no token {token!r}",
                "write tokens as tokenizer.json does: blanks as Ġ or ▁",
            )
    return [vocabulary[token] for token in tokens]


def _load(folder: Path) -> PreTrainedModel:
    """A model in the precision in which it is stored."""
    stated: Mapping[str, Any] = json.loads(
        (resolve_model(folder) / "config.json").read_text(encoding="utf-8")
    )
    name = stated.get("dtype") or stated.get("torch_dtype") or "float32"
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise ModelError(f"{folder} is stored as {name}, which is no type of numbers", None)
    return load_model(folder, dtype)


def _renumber(model: PreTrainedModel, new: Mapping[int, int]) -> None:
    """Give the ids in config.json and generation_config.json their new numbers."""
    for settings in (model.config.get_text_config(), model.generation_config):
        for key in IDS:
            value = getattr(settings, key, None)
            if isinstance(value, list):
                setattr(settings, key, [new[one] for one in value if one in new])
            elif value is not None:
                setattr(settings, key, new.get(value))


def _compare(
    config: TokenizerExtendConfig,
    before: PreTrainedTokenizerFast,
    extension: Extension,
    texts: Sequence[str],
) -> tuple[Start, ...]:
    """The loss of the old model, and of the new one for each way to fill its new rows."""
    assert config.model is not None, "checked before"
    old = _start("before", _load(config.model), before, texts)
    starts = []
    for init in get_args(EmbeddingInit):
        model = _load(config.model)
        grow(model, extension.first, extension.spelled, init, config.seed, config.pad_to)
        starts.append(_start(init, model, extension.tokenizer, texts))
    starts.sort(key=lambda start: start.bits_per_byte)
    table = Table(title="loss on the text, before any training", title_justify="left")
    for heading in ("new rows", "nats per token", "bits per byte"):
        table.add_column(heading, justify="left" if heading == "new rows" else "right")
    for start in (*starts, old):
        table.add_row(start.init, f"{start.nats_per_token:.3f}", f"{start.bits_per_byte:.3f}")
    Console(stderr=True, highlight=False).print(table)
    return (*starts, old)


def _start(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> Start:
    """Negative log likelihood of windows from all over the texts, each read from its beginning."""
    nats, tokens, size = 0.0, 0, 0
    for part, window in _windows(tokenizer, texts):
        ids_1T = torch.tensor([window])
        with torch.inference_mode():
            logits_TV = model(input_ids=ids_1T).logits[0, :-1].float()
        nats += float(torch.nn.functional.cross_entropy(logits_TV, ids_1T[0, 1:], reduction="sum"))
        tokens += len(window) - 1
        size += len(part.encode())
    if tokens == 0:
        raise DataError("the text is too short to measure a loss on", "give a longer --text")
    return Start(name, nats / tokens, nats / math.log(2) / size)


def _windows(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> list[tuple[str, list[int]]]:
    """Windows of the same text, whatever the tokenizer, and their ids.

    Before each stands the token that begins a text, so that all of it is predicted; a vocabulary
    without one has the first token for nothing.
    """
    parts = [
        text[place : place + WINDOW] for text in texts for place in range(0, len(text), WINDOW)
    ]
    spread = parts[:: max(1, len(parts) // WINDOWS)][:WINDOWS]
    front = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    windows = [(part, front + encode_text(tokenizer, part)) for part in spread]
    return [(part, window) for part, window in windows if len(window) > 1]


def _words_count(tokenizer: PreTrainedTokenizerFast, chinese: Sequence[str]) -> int:
    runs = [run for text in chinese for run in text.split("\n") if run]
    return count_tokens(tokenizer, runs)


def _show_extension(result: TokenizerExtendResult, chinese: Sequence[str]) -> None:
    hanzi = sum(len(text) - text.count("\n") for text in chinese)
    _say(
        f"{result.vocab_size_before:,} tokens → {result.vocab_size:,}"
        + (f", {result.unreachable:,} of which no text is cut into" if result.unreachable else "")
    )
    _say(
        f"text of {result.characters:,} characters: {result.tokens_before:,} tokens → "
        f"{result.tokens:,}; its {hanzi:,} Hanzi alone: {result.chinese_tokens_before:,} → "
        f"{result.chinese_tokens:,}"
    )


def _say(line: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)
