"""Items as a person reads them: tokens apart, and what is trained marked.

Tokens that only together make a character are one piece. A bar stands between pieces and ↵ for a
newline; trained pieces are green, or stand in ⟦ ⟧ where there is no colour. The middle of a long
stretch is left out and counted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.text import Text

from tongwen.tokenizer import token_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HEAD: Final = 160
TAIL: Final = 60

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
class Shown:
    """One item to show."""

    place: str
    ids: npt.NDArray[Any]
    mask: npt.NDArray[np.bool_]
    language: str


@dataclass(frozen=True)
class Piece:
    """One token, or several that make one character; none for what is left out."""

    text: str
    trained: bool
    ids: tuple[int, ...] = ()
    control: bool = False

    @property
    def style(self) -> str:
        return TRAINED if self.trained else CONTROL if self.control else ""


class Pieces:
    """Cuts items into pieces, with one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        named = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
        added = tokenizer.added_tokens_decoder.items()
        self._names = {**dict(named), **{i: one.content for i, one in added if one.special}}
        self._bytes = token_bytes(tokenizer)

    def of(self, item: Shown) -> list[Piece]:
        """The pieces of an item."""
        return list(self._cut(item.ids.tolist(), item.mask.tolist()))

    def count(self, item: Shown) -> InspectedItem:
        """The counts of an item."""
        ids = item.ids.tolist()
        characters = len(b"".join(self._bytes[number] for number in ids).decode("utf-8", "ignore"))
        return InspectedItem(
            place=item.place,
            tokens=len(ids),
            trained_tokens=int(item.mask.sum()),
            characters=characters,
            characters_per_token=round(characters / len(ids), 2),
            language=item.language,
        )

    def _cut(self, ids: Sequence[int], mask: Sequence[bool]) -> Iterator[Piece]:
        held: list[int] = []
        trained = False
        for number, carries in zip(ids, mask, strict=True):
            if number in self._names:
                if held:
                    yield self._piece(held, trained)
                    held, trained = [], False
                yield Piece(self._names[number], carries, (number,), control=True)
                continue
            held, trained = [*held, number], trained or carries
            if _complete(self._data(held)):
                yield self._piece(held, trained)
                held, trained = [], False
        if held:
            yield self._piece(held, trained)

    def _data(self, ids: Sequence[int]) -> bytes:
        return b"".join(self._bytes[number] for number in ids)

    def _piece(self, ids: Sequence[int], trained: bool) -> Piece:
        text = self._data(ids).decode("utf-8", "backslashreplace").replace("\n", "↵\n")
        return Piece(text, trained, tuple(ids))


class View:
    """Writes items to stdout."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.colour = self._console.color_system is not None and not self._console.no_color

    def show(self, item: Shown) -> InspectedItem:
        """Write one item and count it."""
        counted = self._pieces.count(item)
        self._console.print(f"── {title(counted)}", style="bold", markup=False)
        self._console.print(self.text(item))
        self._console.print()
        return counted

    def text(self, item: Shown) -> Text:
        """The item with its tokens apart and what is trained marked."""
        text = Text()
        for trained, run in groupby(self._pieces.of(item), key=lambda piece: piece.trained):
            if trained and not self.colour:
                text.append("⟦")
            for i, piece in enumerate(shortened(list(run), HEAD, TAIL)):
                if i and not text.plain.endswith("\n"):
                    text.append("│", style="bright_black" if self.colour else "")
                text.append(piece.text, style=piece.style if self.colour else "")
            if trained and not self.colour:
                text.append("⟧")
        return text


def title(counted: InspectedItem) -> str:
    """An item's place and counts in one line."""
    return (
        f"{counted.place} · {counted.language} · {counted.tokens:,} tokens, "
        f"{counted.trained_tokens:,} trained · {counted.characters:,} characters, "
        f"{counted.characters_per_token} per token"
    )


def shortened(run: list[Piece], head: int, tail: int) -> list[Piece]:
    """A stretch without its middle, if that is long."""
    left_out = len(run) - head - tail
    if left_out < tail:
        return run
    gap = Piece(f"⋯ {left_out:,} tokens ⋯", run[0].trained)
    return [*run[:head], gap, *run[-tail:]]


def _complete(data: bytes) -> bool:
    """Whether these bytes are whole characters, or can never become any."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason != "unexpected end of data"
    return True
