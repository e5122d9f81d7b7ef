"""Add tokens to a tokenizer: all old ids stay, the new tokens follow them.

Two ways to get them:

    pieces    those of another vocabulary that the old one lacks, in its order, as
              Chinese-LLaMA-Alpaca did with LLaMA's 32,000 and 20,000 Chinese ones (49,953 in all)
    text      learned: byte-pair encoding goes on where the old tokenizer ends, on its own tokens

New merges come after all old ones, so a text that uses no new token is cut as before. Tokens that
are learned never hold an ASCII character: English and code are cut exactly as they were.
(Chinese-LLaMA-Alpaca gave its pieces the score 0, before all old merges; then the same pieces get
the same ids, but no tokenizer.json can say which of two of them comes first.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from tongwen.errors import ModelError
from tongwen.messages import encode_texts
from tongwen.tokenizer.bytes import BYTE_PIECE, byte_text, is_byte_level, token_bytes
from tongwen.tokenizer.convert import cuts
from tongwen.tokenizer.pieces import BLANK, Piece, read_pieces, with_pieces
from tongwen.tokenizer.rebuild import described, rebuilt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Merge = tuple[str, str]

FIRST_LETTER: Final = 0x10000
"""Old tokens are written as characters from here on while new ones are learned from them."""
LETTERS: Final = 0x110000 - FIRST_LETTER
BETWEEN: Final = "\n"
GROUP: Final = 256


@dataclass(frozen=True)
class Extension:
    """A tokenizer with more tokens, and how the old one wrote each of them."""

    tokenizer: PreTrainedTokenizerFast
    added: tuple[str, ...]
    """The new tokens; the first has the id `first`."""
    first: int
    spelled: tuple[tuple[int, ...], ...]
    """For each new token the old ids that stood for it."""


def extend_with_pieces(tokenizer: PreTrainedTokenizerFast, pieces: Sequence[str]) -> Extension:
    """Add the pieces that the vocabulary lacks, written as it writes tokens, in this order."""
    description = _bpe(tokenizer)
    vocabulary: dict[str, int] = description["model"]["vocab"]
    added = [text for text in dict.fromkeys(pieces) if text and text not in vocabulary]
    known = {*vocabulary, *added}
    merges = [merge for text in added for merge in cuts(text, known)]
    return _extended(tokenizer, description, added, merges)


def pieces_of(other: PreTrainedTokenizerFast, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The tokens of another vocabulary by id, without control tokens, as this one writes them.

    A byte-level one takes them from its own kind alone: it needs the parts of characters too.
    """
    table = token_bytes(other)
    if is_byte_level(tokenizer):
        if not is_byte_level(other):
            raise ModelError(
                "a byte-level vocabulary cannot be extended with SentencePiece's pieces, which "
                "have no tokens for the parts of a Hanzi",
                "learn the new tokens from text: --text FILE in place of --pieces",
            )
        return [byte_text(data) for data in table if data]
    names = other.convert_ids_to_tokens(list(range(len(table))))
    found = []
    for name, data in zip(names, table, strict=True):
        if not data or BYTE_PIECE.fullmatch(name or ""):
            continue
        try:
            found.append(data.decode("utf-8").replace(" ", BLANK))
        except UnicodeDecodeError:
            continue  # a part of a character is a token only where all tokens are bytes
    return found


def extend_from_text(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], count: int
) -> Extension:
    """Learn `count` tokens from the texts (fewer, if they hold no more) by further merges.

    Only for byte-level tokenizers; the new tokens are made of tokens without ASCII characters.
    """
    if not is_byte_level(tokenizer):
        raise ModelError(
            "new tokens can be learned from text for byte-level tokenizers only",
            "train pieces with `tongwen tokenizer train --kind sentencepiece-unigram`, and give "
            "them as --pieces",
        )
    description = _bpe(tokenizer)
    vocabulary: dict[str, int] = description["model"]["vocab"]
    text_of = {number: text for text, number in vocabulary.items()}
    added: list[str] = []
    merges: list[Merge] = []
    seen = set(vocabulary)
    for left, right in _learned(tokenizer, texts, count):
        pair = _text(left, text_of), _text(right, text_of)
        joined = "".join(pair)
        if joined not in seen:
            if len(added) == count:
                break
            seen.add(joined)
            added.append(joined)
        merges.append(pair)
    return _extended(tokenizer, description, added, merges)


def _learned(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], count: int
) -> list[tuple[str, str]]:
    """Merges of old tokens, each written as a letter of its own, in the order learned."""
    if len(tokenizer) > LETTERS:
        raise ModelError(f"the vocabulary has more than {LETTERS:,} tokens", None)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(BETWEEN), "removed")
    trainer = trainers.BpeTrainer(
        # Two merges may make one token, so more are learned than are wanted.
        vocab_size=len(tokenizer) + 2 * count,
        min_frequency=2,
        show_progress=False,
    )
    backend.train_from_iterator(_words(tokenizer, texts), trainer)
    return [tuple(merge) for merge in json.loads(backend.to_str())["model"]["merges"]]


def _words(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> Iterator[str]:
    """The old tokens of the texts as letters; what may not be joined has a newline between."""
    plain = [any(byte < 0x80 for byte in piece) for piece in token_bytes(tokenizer)]
    backend = tokenizer.backend_tokenizer
    for group in _groups(texts):
        encodings = backend.encode_batch(group, add_special_tokens=False)
        for encoding in encodings:
            letters: list[str] = []
            before: int | None = None
            for number, word in zip(encoding.ids, encoding.word_ids, strict=True):
                if plain[number] or word != before:
                    letters.append(BETWEEN)
                if not plain[number]:
                    letters.append(chr(FIRST_LETTER + number))
                before = word
            yield "".join(letters)


def _groups(texts: Iterable[str]) -> Iterator[list[str]]:
    lines = chain.from_iterable(text.splitlines(keepends=True) for text in texts)
    group: list[str] = []
    for line in lines:
        group.append(line)
        if len(group) == GROUP:
            yield group
            group = []
    if group:
        yield group


def _text(letters: str, text_of: dict[int, str]) -> str:
    return "".join(text_of[ord(letter) - FIRST_LETTER] for letter in letters)


def _bpe(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    description = described(tokenizer)
    if description["model"]["type"] != "BPE":
        raise ModelError(
            "the tokenizer is of the kind unigram, whose scores belong to its own training",
            "only BPE tokenizers can be extended; train a new one on all text instead",
        )
    return description


def _extended(
    tokenizer: PreTrainedTokenizerFast,
    description: dict[str, Any],
    added: list[str],
    merges: list[Merge],
) -> Extension:
    model = description["model"]
    first = max(model["vocab"].values()) + 1
    spelled = tuple(
        tuple(token.id for token in tokenizer.backend_tokenizer.model.tokenize(text))
        for text in added
    )
    model["vocab"] |= {text: first + place for place, text in enumerate(added)}
    model["merges"] = list(dict.fromkeys([*model["merges"], *merges]))
    return Extension(rebuilt(tokenizer, description), tuple(added), first, spelled)


def unreachable(extension: Extension) -> list[str]:
    """New tokens that no text is cut into, because no two tokens join to them."""
    model = extension.tokenizer.backend_tokenizer.model
    return [
        text for text in extension.added if [one.value for one in model.tokenize(text)] != [text]
    ]


def count_tokens(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> int:
    """Tokens of the texts, without control tokens."""
    return sum(len(ids) for group in _groups(texts) for ids in encode_texts(tokenizer, group))


def extended_model(source: Path, added: Sequence[str]) -> bytes:
    """A SentencePiece model with these pieces behind its own, each scored below the one before."""
    lowest = min(piece.score for piece in read_pieces(source).pieces)
    # Neighbouring scores must stay different as 32-bit numbers, of which 24 bits are digits.
    step = max(1.0, 2.0 ** (math.frexp(lowest)[1] - 23))
    pieces = [Piece(text, lowest - step * place) for place, text in enumerate(added, 1)]
    return with_pieces(source.read_bytes(), pieces)
