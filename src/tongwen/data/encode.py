"""Rows to items: the tokens of conversations, preferences and documents, with what carries loss.

A document is encoded once and whole, then cut where it is longer than an item may be (see
`segment`). The first token of an item never carries loss, since nothing stands before it that
could predict it.

Marks are the tokens that say where a text begins and ends (see `document_marks`). They stand around
each `document`, around each `piece`, or nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from tongwen.data.segment import (
    SHORTEST_KNOWLM,
    Bools,
    Ints,
    Piece,
    Segments,
    knowlm_pieces,
    pack,
    sentence_pieces,
    token_borders,
)
from tongwen.data.shards import Kind
from tongwen.data.tokens import TextEncoder, Tokens
from tongwen.errors import DataError
from tongwen.messages import (
    Conversation,
    Document,
    Fitted,
    Judged,
    Limits,
    Preference,
    document_marks,
    fit_many,
    fit_preference,
    texts_of,
)
from tongwen.messages import Item as Row
from tongwen.text import language
from tongwen.text.sentences import sentence_spans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Marks = Literal["document", "piece", "none"]

SHORTEST: Final = 16
"""Smallest `max_length`: a piece must hold more than its marks and the context it begins with."""

FOLLOWING: Final = 64
"""Bytes behind a place that are looked at to tell whether a sentence ends there."""


@dataclass(frozen=True)
class Item:
    """Tokens that are trained on together."""

    ids: Ints
    mask: Bools
    bytes: int
    """UTF-8 bytes of its text that carries loss."""
    language: str
    kind: Kind = "text"
    dropped: int = 0
    """Tokens of the same row that are in none of its items, each counted at one of them."""
    notes: tuple[str, ...] = ()
    """What the template left out of the row, or what had to be added to it."""


class Encoder:
    """Turns rows into items of at most `max_length` tokens."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        segments: Segments = "pack",
        marks: Marks = "document",
        *,
        max_source: int = 0,
        max_target: int = 0,
    ) -> None:
        self._tokenizer = tokenizer
        self._limits = Limits(max_length, max_source, max_target)
        self._segments = segments
        self._marks = marks
        begin, end = ((), ()) if marks == "none" else document_marks(tokenizer)
        self._begin, self._end = np.array(begin, dtype=np.int64), np.array(end, dtype=np.int64)
        self._texts = TextEncoder(tokenizer)

    def encode(self, rows: Sequence[Row]) -> list[list[Item] | DataError]:
        """The items of each row that `parse` made, or why it has none.

        Of a preference the chosen answer comes first, then the rejected one.
        """
        texts = self._texts.encode([row.text for row in rows if isinstance(row, Document)])
        fitted = iter(self._fitted(rows))
        results: list[list[Item] | DataError] = []
        for row in rows:
            try:
                match row:
                    case Document():
                        results.append(self._document(next(texts)))
                    case Preference():
                        results.append(self._preference(row))
                    case _:
                        results.append(self._said(row, next(fitted)))
            except DataError as error:
                results.append(error)
        return results

    def _fitted(self, rows: Sequence[Row]) -> list[list[Fitted] | DataError]:
        conversations = [
            _judged(row) if isinstance(row, Judged) else row
            for row in rows
            if isinstance(row, (Conversation, Judged))
        ]
        if not conversations:
            return []  # so that a tokenizer without a chat template is good enough for texts
        return fit_many(conversations, self._tokenizer, self._limits, checked=True)

    def _said(self, row: Conversation | Judged, fitted: list[Fitted] | DataError) -> list[Item]:
        if isinstance(fitted, DataError):
            raise fitted
        kind: Kind = "conversation"
        if isinstance(row, Judged):
            kind = "good" if row.good else "bad"
        spoken = language("\n".join(texts_of(row)))
        return [self._fit(one, spoken, kind) for one in fitted]

    def _preference(self, row: Preference) -> list[Item]:
        chosen, rejected = fit_preference(row, self._tokenizer, self._limits)
        spoken = language("\n".join(texts_of(row)))
        return [self._fit(chosen, spoken, "chosen"), self._fit(rejected, spoken, "rejected")]

    def _fit(self, fitted: Fitted, spoken: str, kind: Kind) -> Item:
        ids = np.array(fitted.rendered.ids, dtype=np.int64)
        mask = np.array(fitted.rendered.mask, dtype=np.bool_)
        dropped = fitted.cut_tokens + fitted.cut_answer
        notes = tuple(_notes(fitted))
        return Item(ids, mask, self._bytes(ids[mask]), spoken, kind, dropped, notes)

    def _bytes(self, ids: Ints) -> int:
        """UTF-8 bytes of what these tokens say."""
        if self._texts.table is not None:
            return int(self._texts.sizes[ids].sum())
        return len(str(self._tokenizer.decode(ids, skip_special_tokens=True)).encode("utf-8"))

    def _document(self, tokens: Tokens) -> list[Item]:
        spoken = language(tokens.text)
        if len(tokens.ids) == 0:
            raise DataError(
                "the tokenizer has no tokens for this text",
                "give another tokenizer, or remove the row",
            )
        length = len(tokens.ids) + len(self._begin) + len(self._end)
        if self._segments == "greedy-overlap" and length <= SHORTEST_KNOWLM:
            raise _all_short(length)
        if length > self._limits.max_length:
            marked = _Marked(tokens, self._begin, self._end, self._marks)
            return marked.items(self._limits.max_length, self._segments, spoken)
        mask = np.ones(length, dtype=np.bool_)
        mask[0] = False
        read = len(tokens.text.encode("utf-8")) - (0 if len(self._begin) else int(tokens.ends[0]))
        return [Item(np.concatenate((self._begin, tokens.ids, self._end)), mask, read, spoken)]


class _Marked:
    """A document's tokens with its marks; places are counted in both together.

    Around pieces, marks are put only once the pieces are known.
    """

    def __init__(self, tokens: Tokens, begin: Ints, end: Ints, marks: Marks) -> None:
        self._tokens = tokens
        self._around_piece = (begin, end) if marks == "piece" else (begin[:0], end[:0])
        self._begin, self._end = (begin[:0], end[:0]) if marks == "piece" else (begin, end)
        self._ids = np.concatenate((self._begin, tokens.ids, self._end))

    def items(self, max_length: int, segments: Segments, spoken: str) -> list[Item]:
        """The items of a document that is too long for one."""
        room = max_length - sum(map(len, self._around_piece))
        pieces = self._pieces(room, segments, spoken)
        if not pieces:
            raise _all_short(len(self._ids))
        items = [self._item(piece, spoken) for piece in pieces]
        if dropped := self._dropped(pieces):
            items[0] = replace(items[0], dropped=dropped)
        return items

    def _pieces(self, room: int, segments: Segments, spoken: str) -> list[Piece]:
        whole = self._around(self._tokens.whole, True, True)
        if segments == "pack":
            context = len(self._around_piece[0]) == 0
            return pack(whole, room, self._last_sentence, context=context)
        if segments == "greedy":
            return sentence_pieces(whole, self._borders(), room)
        read = self._tokens.characters
        chinese = spoken in ("zh", "mixed")
        characters = self._around(read, 0, int(read[-1])) if chinese else None
        return knowlm_pieces(whole, self._borders(), room, characters)

    def _last_sentence(self, low: int, high: int) -> int:
        """The last place above `low`, up to `high`, where a sentence ends; `high` if none does."""
        tokens, shift = self._tokens, len(self._begin)
        first, last = self._read(low), self._read(high)
        while first < last and 0x80 <= tokens.utf8[first] < 0xC0:
            first += 1
        # What follows tells whether a sentence really ends.
        text = tokens.utf8[first : last + FOLLOWING].decode("utf-8", errors="ignore")
        ends = first + np.cumsum(_sizes(text))
        ends = ends[ends <= last]
        if len(ends) == 0:
            return high
        here = slice(max(low - shift, 0), high - shift)
        borders = token_borders(tokens.ends[here], tokens.whole[here], ends[-1:])
        return here.start + int(borders[1]) + shift

    def _borders(self) -> Ints:
        """Where sentences end; the marks belong to the first and the last."""
        tokens = self._tokens
        borders = token_borders(tokens.ends, tokens.whole, np.cumsum(_sizes(tokens.text)))
        borders[1:] += len(self._begin)
        borders[-1] = len(self._ids)
        return borders

    def _item(self, piece: Piece, spoken: str) -> Item:
        begin, end = self._around_piece
        first = piece.learned if len(begin) else max(piece.learned, piece.start + 1)
        ids = np.concatenate((begin, self._ids[piece.start : piece.end], end))
        mask = np.arange(len(ids)) >= first - piece.start + len(begin)
        read = self._read(piece.end) - self._read(first)
        return Item(ids, mask, read, spoken)

    def _read(self, place: int) -> int:
        """UTF-8 bytes of the text before a place."""
        last = place - len(self._begin)
        if last <= 0:
            return 0
        if last >= len(self._tokens.ids):
            return len(self._tokens.utf8)
        return int(self._tokens.ends[last - 1])

    def _dropped(self, pieces: Sequence[Piece]) -> int:
        """Tokens that no piece covers."""
        covered = np.zeros(len(self._ids), dtype=np.bool_)
        for piece in pieces:
            covered[piece.start : piece.end] = True
        return len(covered) - int(covered.sum())

    def _around(self, values: np.ndarray, before: int, after: int) -> np.ndarray:
        """Values of the text's tokens, with others for the marks."""
        return np.concatenate(
            (
                np.full(len(self._begin), before, values.dtype),
                values,
                np.full(len(self._end), after, values.dtype),
            )
        )


def _notes(fitted: Fitted) -> Iterator[str]:
    for what in fitted.rendered.left_out:
        yield f"the template leaves out {what}"
    if fitted.rendered.joined:
        yield "a token joins the head of an answer with its first word, and is not trained"
    if fitted.added_end:
        yield "the template has no end behind the last answer, so one was added"
    if fitted.cut_tokens or fitted.cut_answer:
        yield "cut in the middle or at the end to fit the length"


def _sizes(text: str) -> list[int]:
    """UTF-8 bytes of each sentence."""
    return [len(text[start:end].encode("utf-8")) for start, end in sentence_spans(text)]


def _all_short(length: int) -> DataError:
    return DataError(
        f"the document has {length} tokens, all in pieces of up to {SHORTEST_KNOWLM}, which "
        "greedy-overlap leaves out",
        "take `--segments greedy`, which leaves out nothing, or remove the row",
    )


def _judged(row: Judged) -> Conversation:
    """The conversation of which only what was judged, the last answer, is to be learned."""
    messages = row.conversation.messages
    asked = max(n for n, message in enumerate(messages) if message.role == "user")
    context = (replace(message, trained=False) for message in messages[: asked + 1])
    return replace(row.conversation, messages=(*context, *messages[asked + 1 :]))
