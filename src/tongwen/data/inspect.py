"""`data inspect`: what will be trained on, token by token, on the terminal and as a page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from tongwen.config import DataInspectConfig
from tongwen.data.encode import Encoder, Item
from tongwen.data.manifest import MANIFEST, load_manifest
from tongwen.data.page import write_page
from tongwen.data.shards import LANGUAGES, TokenStore
from tongwen.data.view import InspectedItem, Pieces, Shown, View
from tongwen.errors import ConfigError, DataError
from tongwen.messages import parse, with_template
from tongwen.sources import Reject, Row, iter_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

REJECTS_SHOWN: Final = 10
UNLIMITED: Final = 1 << 40


@dataclass(frozen=True)
class DataInspectResult:
    """What was shown."""

    source: Path
    items: list[InspectedItem]
    html: Path | None = None
    """The page, if one was asked for."""

    def __str__(self) -> str:
        # The items are on stdout already.
        return "" if self.html is None else f"written to {self.html}"


def data_inspect(config: DataInspectConfig) -> DataInspectResult:
    """Show rows as the model will see them."""
    tokenizer = _tokenizer(config)
    pieces = Pieces(tokenizer)
    view = View(pieces)
    marked = "are green" if view.colour else "stand in ⟦ ⟧"
    print(f"trained tokens {marked}; │ parts tokens, ↵ is a newline", file=sys.stderr)
    shown = list(_prepared(config) if _is_prepared(config) else _raw(config, tokenizer))
    items = [view.show(item) for item in shown]
    if config.html is not None:
        write_page(config.html, str(config.source), shown, pieces)
    return DataInspectResult(config.source, items, config.html)


def _is_prepared(config: DataInspectConfig) -> bool:
    return (config.source / MANIFEST).is_file() or config.source.is_dir()


def _tokenizer(config: DataInspectConfig) -> PreTrainedTokenizerFast:
    """The tokenizer, and the chat template, that the rows are shown with."""
    from tongwen.tokenizer import load_tokenizer

    given = config.model or config.tokenizer
    if config.model and config.tokenizer:
        raise ConfigError("--model and --tokenizer say the same", "give one of them")
    if _is_prepared(config):
        load_manifest(config.source)
        if given or config.template:
            raise ConfigError(
                f"{config.source} is prepared: its tokens are those of its own tokenizer",
                "leave --model, --tokenizer and --template away, or give the file it was made of",
            )
        return load_tokenizer(config.source)
    if given is None:
        raise ConfigError(
            f"{config.source} is a file, and no tokenizer is given to read it with",
            "add --model FOLDER, or give a prepared folder",
        )
    tokenizer = load_tokenizer(given)
    return with_template(tokenizer, config.template) if config.template else tokenizer


def _prepared(config: DataInspectConfig) -> Iterator[Shown]:
    """Items spread evenly over the split."""
    split: Literal["train", "held_out"] = "held_out" if config.held_out else "train"
    store = TokenStore.open(config.source, split)
    if len(store) == 0:
        raise DataError(f"{config.source} has no {split} rows", "prepare it with more rows")
    samples = min(config.samples, len(store))
    for number in range(samples):
        i = number * len(store) // samples
        yield Shown(
            f"{split} {i + 1:,} of {len(store):,}",
            store.ids(i),
            store.mask(i),
            LANGUAGES[store.languages[i]],
        )


def _raw(config: DataInspectConfig, tokenizer: PreTrainedTokenizerFast) -> Iterator[Shown]:
    """The first rows of a file that can be used; those that cannot are named on stderr."""
    if config.held_out:
        raise ConfigError(
            f"{config.source} is a file, it has no held-out rows",
            "leave --held-out away, or give a prepared folder",
        )
    encoder = Encoder(tokenizer, UNLIMITED)
    rejects = 0

    def usable() -> Iterator[Shown]:
        nonlocal rejects
        for row in iter_rows([config.source]):
            encoded = _encoded(row, encoder)
            if isinstance(encoded, Reject):
                rejects += 1
                if rejects <= REJECTS_SHOWN:
                    print(f"{encoded.file}:{encoded.line}: {encoded.reason}", file=sys.stderr)
                continue
            for item in encoded:
                place = f"{config.source.name} line {row.line:,}"
                yield Shown(place, item.ids, item.mask, item.language)

    yield from islice(usable(), config.samples)
    if rejects > REJECTS_SHOWN:
        print(f"… and {rejects - REJECTS_SHOWN:,} more rejected rows", file=sys.stderr)


def _encoded(row: Row | Reject, encoder: Encoder) -> list[Item] | Reject:
    if isinstance(row, Reject):
        return row
    try:
        [encoded] = encoder.encode([parse(row.record)])
    except DataError as error:
        return row.reject(error)
    return row.reject(encoded) if isinstance(encoded, DataError) else encoded
