"""Which stretch of a text each of its tokens stands for.

The library knows that as offsets, which take it longer than the ids. The tokens of a byte-level
vocabulary are the bytes of the text, so their lengths say the same; that is used where it adds up.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Positions = npt.NDArray[np.int64]
NORMAL_FORM: Final = "NFC"
"""The normalisation of byte-level vocabularies that have one; most texts have that form already."""


@dataclass(frozen=True, slots=True)
class Placed:
    """The ids of a text, and where each token begins and ends in it, in characters or bytes."""

    text: str
    ids: list[int]
    starts: Positions
    ends: Positions
    in_bytes: bool

    def position(self, characters: int) -> int:
        """So many characters, as `starts` and `ends` count them."""
        if not self.in_bytes or self.text.isascii():
            return characters
        return len(self.text[:characters].encode())


class PlacingEncoder:
    """Encodes with one tokenizer, whose settings it may change."""

    def __init__(self, backend: Tokenizer) -> None:
        # All it would do without special tokens is to take blanks out of the offsets.
        backend.post_processor = None
        self._backend = backend
        self._lengths = _byte_lengths(backend)
        self._composes = backend.normalizer is not None

    def ids(self, text: str) -> list[int]:
        """The ids alone."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode(self, texts: Sequence[str]) -> list[Placed]:
        """The ids of each text, and where its tokens are."""
        if self._lengths is None:
            encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
            return [_by_offsets(*pair) for pair in zip(texts, encodings, strict=True)]
        fast = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self._by_bytes(text, one.ids) for text, one in zip(texts, fast, strict=True)]

    def _by_bytes(self, text: str, ids: list[int]) -> Placed:
        assert self._lengths is not None, "only asked for byte-level vocabularies"
        lengths = self._lengths[ids]
        ends = lengths.cumsum()
        whole = not self._composes or unicodedata.is_normalized(NORMAL_FORM, text)
        if whole and (ends[-1] if ids else 0) == len(text.encode()):
            return Placed(text, ids, ends - lengths, ends, in_bytes=True)
        return _by_offsets(text, self._backend.encode(text, add_special_tokens=False))


def _by_offsets(text: str, encoding: Encoding) -> Placed:
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    starts, ends = offsets[:, 0], offsets[:, 1]
    # A blank that was put in front of a text may claim less than what is before it.
    return Placed(
        text, encoding.ids, np.maximum.accumulate(starts), np.maximum.accumulate(ends), False
    )


def _byte_lengths(backend: Tokenizer) -> Positions | None:
    """How many bytes each token stands for, by id; None if the vocabulary is not byte-level."""
    description: dict[str, Any] = json.loads(backend.to_str())
    decoder, normal = description["decoder"] or {}, description["normalizer"]
    composes = normal is None or normal == {"type": NORMAL_FORM}
    if decoder.get("type") != "ByteLevel" or not composes:
        return None
    added = {token["id"]: token["content"] for token in description["added_tokens"]}
    vocabulary = backend.get_vocab(with_added_tokens=True)
    lengths = np.zeros(max(vocabulary.values(), default=-1) + 1, dtype=np.int64)
    for token, number in vocabulary.items():
        # A byte is written as one letter, in GPT-2's stand-ins for bytes.
        lengths[number] = len(added[number].encode()) if number in added else len(token)
    return lengths
