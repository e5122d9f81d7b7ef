"""`data inspect`: what will be trained on, token by token.

A bar stands between tokens and ↵ for a newline; trained tokens are green, or stand in ⟦ ⟧ where
there is no colour. The tokens of one character, if it has several, are shown as one. The middle of
a long stretch is left out and counted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.text import Text

from tongwen.config import DataInspectConfig
from tongwen.data.encode import Encoder, Item
from tongwen.data.manifest import MANIFEST, load_manifest
from tongwen.data.shards import LANGUAGES, TokenStore
from tongwen.errors import ConfigError, DataError
from tongwen.messages import parse
from tongwen.sources import Reject, Row, iter_rows
from tongwen.tokenizer import token_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HEAD: Final = 160
TAIL: Final = 60
REJECTS_SHOWN: Final = 10
UNLIMITED: Final = 1 << 40

TRAINED: Final = "bold green"
CONTROL: Final = "cyan"


@dataclass(frozen=True)
class InspectedItem:
    """The counts of one item that was shown."""

    place: str
    tokens: int
    trained_tokens: int
    characters: int
    characters_per_token: float
    language: str


@dataclass(frozen=True)
class DataInspectResult:
    """What was shown."""

    source: Path
    items: list[InspectedItem]

    def __str__(self) -> str:
        # The items are on stdout already.
        return ""


@dataclass(frozen=True)
class Shown:
    """One item to show."""

    place: str
    ids: npt.NDArray[Any]
    mask: npt.NDArray[np.bool_]
    language: str


@dataclass(frozen=True)
class _Piece:
    """One token, or several that make one character."""

    text: str
    trained: bool
    control: bool = False

    @property
    def style(self) -> str:
        return TRAINED if self.trained else CONTROL if self.control else ""


def data_inspect(config: DataInspectConfig) -> DataInspectResult:
    """Show rows as the model will see them."""
    from tongwen.tokenizer import load_tokenizer

    if (config.source / MANIFEST).is_file() or config.source.is_dir():
        load_manifest(config.source)
        tokenizer = load_tokenizer(config.source)
        shown = _prepared(config)
    else:
        if config.tokenizer is None:
            raise ConfigError(
                f"{config.source} is a file, and no tokenizer is given to read it with",
                "add --tokenizer FOLDER, or give a prepared folder",
            )
        tokenizer = load_tokenizer(config.tokenizer)
        shown = _raw(config, tokenizer)
    view = View(tokenizer)
    marked = "are green" if view.colour else "stand in ⟦ ⟧"
    print(f"trained tokens {marked}; │ parts tokens, ↵ is a newline", file=sys.stderr)
    return DataInspectResult(config.source, [view.show(item) for item in shown])


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
            whole = _encoded(row, encoder)
            if isinstance(whole, Reject):
                rejects += 1
                if rejects <= REJECTS_SHOWN:
                    print(f"{whole.file}:{whole.line}: {whole.reason}", file=sys.stderr)
                continue
            yield Shown(
                f"{config.source.name} line {row.line:,}", whole.ids, whole.mask, whole.language
            )

    yield from islice(usable(), config.samples)
    if rejects > REJECTS_SHOWN:
        print(f"… and {rejects - REJECTS_SHOWN:,} more rejected rows", file=sys.stderr)


def _encoded(row: Row | Reject, encoder: Encoder) -> Item | Reject:
    if isinstance(row, Reject):
        return row
    try:
        [encoded] = encoder.encode([parse(row.record)])
    except DataError as error:
        return row.reject(error)
    if isinstance(encoded, DataError):
        return row.reject(encoded)
    [whole] = encoded
    return whole


class View:
    """Writes items to stdout."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._names = {
            i: str(tokenizer.convert_ids_to_tokens(i)) for i in tokenizer.all_special_ids
        }
        self._bytes = token_bytes(tokenizer)
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.colour = self._console.color_system is not None and not self._console.no_color

    def show(self, item: Shown) -> InspectedItem:
        """Write one item and count it."""
        ids = item.ids.tolist()
        characters = len(b"".join(self._bytes[number] for number in ids).decode("utf-8", "ignore"))
        counted = InspectedItem(
            place=item.place,
            tokens=len(ids),
            trained_tokens=int(item.mask.sum()),
            characters=characters,
            characters_per_token=round(characters / len(ids), 2),
            language=item.language,
        )
        title = (
            f"── {counted.place} · {counted.language} · {counted.tokens:,} tokens, "
            f"{counted.trained_tokens:,} trained · {counted.characters:,} characters, "
            f"{counted.characters_per_token} per token"
        )
        self._console.print(title, style="bold", markup=False)
        self._console.print(self.text(item))
        self._console.print()
        return counted

    def _pieces(self, ids: Sequence[int], mask: Sequence[bool]) -> Iterator[_Piece]:
        held, trained = b"", False
        for number, carries in zip(ids, mask, strict=True):
            if number in self._names:
                if held:
                    yield _text_piece(held, trained)
                    held, trained = b"", False
                yield _Piece(self._names[number], carries, control=True)
                continue
            held, trained = held + self._bytes[number], trained or carries
            if _complete(held):
                yield _text_piece(held, trained)
                held, trained = b"", False
        if held:
            yield _text_piece(held, trained)

    def text(self, item: Shown) -> Text:
        """The item with its tokens apart and what is trained marked."""
        pieces = self._pieces(item.ids.tolist(), item.mask.tolist())
        text = Text()
        for trained, run in groupby(pieces, key=lambda piece: piece.trained):
            if trained and not self.colour:
                text.append("⟦")
            for i, piece in enumerate(_shortened(list(run))):
                if i and not text.plain.endswith("\n"):
                    text.append("│", style="bright_black" if self.colour else "")
                text.append(piece.text, style=piece.style if self.colour else "")
            if trained and not self.colour:
                text.append("⟧")
        return text


def _text_piece(data: bytes, trained: bool) -> _Piece:
    text = data.decode("utf-8", "backslashreplace").replace("\n", "↵\n")
    return _Piece(text, trained)


def _complete(data: bytes) -> bool:
    """Whether these bytes are whole characters, or can never become any."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason != "unexpected end of data"
    return True


def _shortened(run: list[_Piece]) -> list[_Piece]:
    left_out = len(run) - HEAD - TAIL
    if left_out < TAIL:
        return run
    gap = _Piece(f"⋯ {left_out:,} tokens ⋯", run[0].trained)
    return [*run[:HEAD], gap, *run[-TAIL:]]
