"""Generated ids to streamed text: whole characters only, and no control tokens.

The tokens of a byte-level vocabulary are bytes, which are decoded as they come; what is streamed,
joined, is the decoding of the whole. Any other tokenizer is asked to decode the last few tokens
with and without the new one, and the difference is the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from tongwen.text import Utf8Stream
from tongwen.tokenizer import is_byte_level, token_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Tokens of the prompt that decide how the first generated token is written, for example whether a
# blank stands before it.
BEFORE = 6


class TextStream(Protocol):
    """The text of one answer as its tokens come."""

    def feed(self, number: int) -> str:
        """The text that this token completes; often one word, sometimes nothing."""

    def close(self) -> str:
        """What is left at the end."""


def text_streams(tokenizer: PreTrainedTokenizerFast) -> Callable[[Sequence[int]], TextStream]:
    """A function that opens a stream of text behind the ids of a prompt."""
    if not is_byte_level(tokenizer):
        return lambda prompt: DifferenceStream(tokenizer, prompt)
    table = token_bytes(tokenizer)
    return lambda _: ByteStream(table)


class ByteStream:
    """Text of a byte-level vocabulary."""

    def __init__(self, table: Sequence[bytes]) -> None:
        self._table = table
        self._utf8 = Utf8Stream()

    def feed(self, number: int) -> str:
        # Models often have more rows than the tokenizer has tokens; those stand for no text.
        return self._utf8.feed(self._table[number]) if number < len(self._table) else ""

    def close(self) -> str:
        return self._utf8.close()


class DifferenceStream:
    """Text of any other tokenizer, such as SentencePiece with byte fallback."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(prompt[-BEFORE:])
        self._told = len(self._ids)

    def feed(self, number: int) -> str:
        self._ids.append(number)
        text = self._new()
        if not text or text.endswith("�"):
            return ""
        self._ids, self._told = self._ids[self._told :], len(self._ids) - self._told
        return text

    def close(self) -> str:
        return self._new()

    def _new(self) -> str:
        return self._decode(self._ids)[len(self._decode(self._ids[: self._told])) :]

    def _decode(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str), "one sequence is decoded to one text"
        return text
