"""Rows to items: the tokens of conversations and documents, long documents cut into pieces.

A piece begins with the end of the piece before it, as context without loss, so that every token of
the document but the first carries loss exactly once; and no cut goes through a character.
Limit: byte-level tokenizers only, for others the bytes of a token are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import numpy.typing as npt

from tongwen.errors import DataError
from tongwen.messages import (
    Conversation,
    Document,
    encode_texts,
    render,
    render_document,
)
from tongwen.text import language
from tongwen.tokenizer import token_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHORTEST: Final = 16
"""Smallest `max_length`: a piece must hold more than the context it begins with."""
BLOCK: Final = 50_000
"""Characters of a long document that are encoded as one text."""
GROUP_ROWS: Final = 256
GROUP_CHARACTERS: Final = 500_000
"""Limits of what is encoded at once; the library needs about 100 bytes for a character."""

T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """Tokens that are trained on together."""

    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]
    bytes: int
    language: str


class Encoder:
    """Turns rows into items of at most `max_length` tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._boundary = np.array(render_document(Document("x"), tokenizer).ids[:1], dtype=np.int64)
        pieces = token_bytes(tokenizer)
        self._bytes = np.array([len(piece) for piece in pieces], dtype=np.int64)
        self._inside = np.array([_goes_on(piece) for piece in pieces], dtype=np.bool_)

    def encode(self, rows: Sequence[Conversation | Document]) -> list[list[Item] | DataError]:
        """The items of each row, or why it has none; documents are encoded on all cores."""
        blocks = [list(_blocks(row.text)) if isinstance(row, Document) else [] for row in rows]
        encoded = self._encode_texts(block for parts in blocks for block in parts)
        results: list[list[Item] | DataError] = []
        for row, parts in zip(rows, blocks, strict=True):
            if isinstance(row, Document):
                ids = [self._boundary, *islice(encoded, len(parts)), self._boundary]
                results.append(self._document(np.concatenate(ids), language(row.text)))
                continue
            try:
                results.append([self._conversation(row)])
            except DataError as error:
                results.append(error)
        return results

    def _encode_texts(self, texts: Iterable[str]) -> Iterator[npt.NDArray[np.int64]]:
        for group in grouped(texts, len):
            for ids in encode_texts(self._tokenizer, group):
                yield np.array(ids, dtype=np.int64)

    def _conversation(self, conversation: Conversation) -> Item:
        rendered = render(conversation, self._tokenizer)
        length = len(rendered.ids)
        if length > self._max_length:
            raise DataError(
                f"the conversation has {length:,} tokens, the longest accepted is "
                f"{self._max_length:,}",
                "raise --max-length, or split the conversation",
            )
        ids = np.array(rendered.ids, dtype=np.int64)
        mask = np.array(rendered.mask, dtype=np.bool_)
        text = "\n".join(message.content for message in conversation.messages)
        return self._item(ids, mask, language(text))

    def _document(self, ids: npt.NDArray[np.int64], spoken: str) -> list[Item]:
        return [
            self._item(ids[start:end], np.arange(start, end) >= trained, spoken)
            for start, trained, end in self._cuts(ids)
        ]

    def _cuts(self, ids: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
        """Pieces of a document: where each begins, where its loss begins, where it ends."""
        start, trained = 0, 1
        while True:
            end = min(start + self._max_length, len(ids))
            if end < len(ids):
                end = self._character(ids, end)
            yield start, trained, end
            if end == len(ids):
                return
            start, trained = self._character(ids, end - 1), end

    def _character(self, ids: npt.NDArray[np.int64], place: int) -> int:
        """The nearest place, not after this one, at which a character begins."""
        while self._inside[ids[place]]:
            place -= 1
        return place

    def _item(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_], spoken: str) -> Item:
        return Item(ids, mask, int(self._bytes[ids[mask]].sum()), spoken)


def grouped(values: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Groups that are worth encoding together and small enough to hold."""
    group: list[T] = []
    total = 0
    for value in values:
        group.append(value)
        total += size(value)
        if len(group) == GROUP_ROWS or total >= GROUP_CHARACTERS:
            yield group
            group, total = [], 0
    if group:
        yield group


def _goes_on(piece: bytes) -> bool:
    """Whether these bytes begin inside a character."""
    return bool(piece) and 0x80 <= piece[0] < 0xC0


def _blocks(text: str) -> Iterator[str]:
    """Blocks that end behind a newline, where our tokenizers never join tokens."""
    start = 0
    while start < len(text):
        end = text.rfind("\n", start, start + BLOCK) + 1
        if end <= start:
            end = text.find("\n", start + BLOCK) + 1 or len(text)
        if len(text) - start <= BLOCK:
            end = len(text)
        yield text[start:end]
        start = end
