"""Texts to tokens, and where in the text each token stands.

A text is encoded once and whole, so that the ids are those of the text and of nothing else. The
tokenizers that `tongwen tokenizer train` makes never join or split anything across the end of a
line; with these, and with no others, a long text is encoded line block by line block.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import numpy.typing as npt

from tongwen.errors import ModelError
from tongwen.messages.encoding import encoder_of
from tongwen.tokenizer import token_bytes
from tongwen.tokenizer.bytes import byte_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T")

BLOCK: Final = 50_000
"""Characters of a long text that are encoded as one, where that changes nothing."""
GROUP_ROWS: Final = 256
GROUP_CHARACTERS: Final = 500_000
"""Limits of what is encoded at once; the library needs about 100 bytes for a character."""


class Tokens:
    """The tokens of one text; where they stand in it is found out when it is asked for."""

    def __init__(self, text: str, ids: Ints, encoder: TextEncoder) -> None:
        self.text = text
        self.ids = ids
        self._encoder = encoder

    @cached_property
    def utf8(self) -> bytes:
        """The text as bytes."""
        return self.text.encode("utf-8")

    @property
    def ends(self) -> Ints:
        """UTF-8 bytes of the text that are read with the end of each token; they never fall."""
        return self._places[0]

    @property
    def whole(self) -> Bools:
        """Whether a cut before each token leaves every character whole."""
        return self._places[1]

    @property
    def characters(self) -> Ints:
        """Characters of the text that are read with the end of each token."""
        begins = (np.frombuffer(self.utf8, dtype=np.uint8) & 0xC0) != 0x80
        counts: Ints = np.concatenate(([0], np.cumsum(begins)))[self.ends]
        return counts

    @cached_property
    def _places(self) -> tuple[Ints, Bools]:
        return self._by_bytes() or self._by_offsets()

    def _by_bytes(self) -> tuple[Ints, Bools] | None:
        """From the bytes of the tokens, if these are the text; then nothing is left to doubt."""
        added = 0 if self._encoder.ours else self._added()
        if added is None:
            return None
        ends = np.maximum(np.cumsum(self._encoder.sizes[self.ids]) - added, 0)
        starts = np.minimum(np.concatenate(([0], ends[:-1])), len(self.utf8) - 1)
        first = np.frombuffer(self.utf8, dtype=np.uint8)[starts]
        return ends, (first & 0xC0) != 0x80

    def _added(self) -> int | None:
        """Bytes in front of the text among those of the tokens; None if these are another text."""
        table = self._encoder.table
        if table is None:
            return None
        read = b"".join(map(table.__getitem__, self.ids.tolist()))
        # SentencePiece puts a blank in front that is not in the text.
        added = len(read) - len(self.utf8)
        return added if added in (0, 1) and read == b" " * added + self.utf8 else None

    def _by_offsets(self) -> tuple[Ints, Bools]:
        """From what the tokenizer says of its tokens; of one character's tokens the first has it.

        Blanks that the tokenizer passes over go with the token behind them, or with the last one.
        """
        spans = np.array(self._encoder.offsets(self.text), dtype=np.int64).reshape(-1, 2)
        assert len(spans) == len(self.ids), "the same text has the same tokens"
        read = np.maximum.accumulate(spans[:, 1])
        whole = spans[:, 0] >= np.concatenate(([0], read[:-1]))
        codes = np.frombuffer(self.text.encode("utf-32-le"), dtype="<u4")
        sizes = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)
        ends = np.concatenate(([0], np.cumsum(sizes)))[read]
        ends[-1:] = len(self.utf8)
        return ends, whole


class TextEncoder:
    """Encodes plain texts with one tokenizer; what spells a control token is text as well."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._encoder = encoder_of(tokenizer)
        self.ours = _ours(self._encoder.plain)
        """Whether the tokenizer splits as ours do, and its tokens are the bytes of the text."""
        try:
            self.table: list[bytes] | None = token_bytes(tokenizer)
        except ModelError:
            self.table = None
        """The bytes of each token, where they are known."""
        self.sizes: Ints = np.array([len(piece) for piece in self.table or ()], dtype=np.int64)
        """How many these are."""

    def encode(self, texts: Sequence[str]) -> Iterator[Tokens]:
        """The tokens of each text, encoded on all cores."""
        blocks = [list(_blocks(text)) if self.ours else [text] for text in texts]
        encoded = self._encode_blocks(block for parts in blocks for block in parts)
        for text, parts in zip(texts, blocks, strict=True):
            ids = list(islice(encoded, len(parts)))
            yield Tokens(text, ids[0] if len(ids) == 1 else np.concatenate(ids), self)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """The characters of a text that each of its tokens stands for."""
        return self._encoder.plain.encode(text, add_special_tokens=False).offsets

    def _encode_blocks(self, blocks: Iterable[str]) -> Iterator[Ints]:
        for group in grouped(blocks, len):
            for ids in self._encoder.bulk.encode(group):
                yield ids.astype(np.int64)


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


def _ours(backend: Tokenizer) -> bool:
    """Whether this tokenizer changes nothing in a text and splits it as ours do.

    Every newline stands alone then: our pattern looks at what follows, but never beyond a newline,
    and at nothing that came before. Other patterns may do either, so other tokenizers get texts
    whole.
    """
    from tongwen.tokenizer.train import PIECES

    described = json.loads(backend.to_str())
    alphabet = {byte_text(bytes([byte])) for byte in range(256)}
    splits = (described["pre_tokenizer"] or {}).get("pretokenizers", [{}])
    return (
        described["normalizer"] is None
        and all(token["special"] for token in described["added_tokens"])
        and splits[0].get("pattern") == {"Regex": PIECES}
        and [split["type"] for split in splits] == ["Split", "ByteLevel"]
        and not splits[1]["add_prefix_space"]
        and not splits[1]["use_regex"]
        and described["model"]["type"] == "BPE"
        and alphabet <= described["model"]["vocab"].keys()
    )


def _blocks(text: str) -> Iterator[str]:
    """Blocks that end behind a newline; a long line is a long block."""
    start = 0
    while start < len(text):
        end = text.rfind("\n", start, start + BLOCK) + 1
        if end <= start:
            end = text.find("\n", start + BLOCK) + 1 or len(text)
        if len(text) - start <= BLOCK:
            end = len(text)
        yield text[start:end]
        start = end
