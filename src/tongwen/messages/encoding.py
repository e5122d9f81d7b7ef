"""Plain text as ids, and the two ways in which a tokenizer reads its own control tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tongwen.errors import ModelError
from tongwen.messages.bulk import BulkEncoder
from tongwen.messages.conversation import check_encodable
from tongwen.messages.places import PlacingEncoder
from tongwen.messages.template import BOUNDARY

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast


class Encoder:
    """One tokenizer's backend, copied so that its settings never change those of its owner."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._owner = tokenizer.backend_tokenizer.to_str()
        self.vocab_size = tokenizer.backend_tokenizer.get_vocab_size()
        self.plain = self._copy(plain=True)
        added = self.plain.get_added_tokens_decoder()
        self.special = {token.content: number for number, token in added.items() if token.special}
        self.added = tuple(token.content for token in added.values())

    def _copy(self, *, plain: bool) -> Tokenizer:
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(self._owner)
        backend.encode_special_tokens = plain
        backend.no_truncation()
        backend.no_padding()
        return backend

    @cached_property
    def marked(self) -> PlacingEncoder:
        """Reads control tokens as what they are."""
        return PlacingEncoder(self._copy(plain=False))

    @cached_property
    def spelled(self) -> re.Pattern[str]:
        """Finds control tokens that a text spells."""
        return _any_of(self.special)

    @cached_property
    def controls(self) -> re.Pattern[str]:
        """Finds the tokens that were added to the vocabulary, as templates use them."""
        return _any_of(token for token in self.added if not token.isspace())

    @cached_property
    def bulk(self) -> BulkEncoder:
        """The same for many texts, and faster."""
        return BulkEncoder(self.plain)

    def encode(self, text: str) -> list[int]:
        """Plain text as ids."""
        return self.plain.encode(text, add_special_tokens=False).ids

    def control(self, token: str) -> int:
        """The id of a control token of our own."""
        if token not in self.special:
            raise ModelError(
                f"the tokenizer has no control token {token}",
                hint="use a tokenizer made by `tongwen tokenizer train`",
            )
        return self.special[token]


_encoders: WeakKeyDictionary[PreTrainedTokenizerFast, Encoder] = WeakKeyDictionary()


def encoder_of(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    """The encoder of this tokenizer, made once and again when tokens were added to it."""
    encoder = _encoders.get(tokenizer)
    size = tokenizer.backend_tokenizer.get_vocab_size()
    if encoder is None or encoder.vocab_size != size:
        encoder = _encoders[tokenizer] = Encoder(tokenizer)
    return encoder


def encode_text(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Plain text as ids; what spells a control token is text as well."""
    return encoder_of(tokenizer).encode(check_encodable("the text", text))


def encode_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Many plain texts as ids, encoded together on all cores."""
    sound = [check_encodable(f"text {number}", text) for number, text in enumerate(texts, 1)]
    return [ids.tolist() for ids in encoder_of(tokenizer).bulk.encode(sound)]


def document_marks(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """The ids in front of a document and behind it.

    `<|endoftext|>` where the tokenizer has it, else its eos token, ends a document. In front stands
    the bos token, if there is one; of our own tokenizers that is `<|endoftext|>` too.
    """
    special = encoder_of(tokenizer).special
    end = next((t for t in (BOUNDARY, tokenizer.eos_token) if t in special), None)
    if end is None:
        raise ModelError(
            "the tokenizer has no token that ends a document",
            hint="set eos_token in its tokenizer_config.json to the one the model was trained with",
        )
    begin = tokenizer.bos_token
    return [special[begin]] if begin in special else [], [special[end]]


def _any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
