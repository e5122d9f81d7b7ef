"""Render conversations, prompts and documents as token ids, with the mask of what is trained.

The ids are those of transformers' `apply_chat_template`, except in one case: characters inside a
content that spell a control token, such as `<|im_end|>`, are encoded as the plain text they are.
Control tokens come from the template alone, so no content can end its own turn.

Trained are the content of every assistant message and the token that ends it; for a document, all
but the boundary in front of it.

Limits: only our own template is rendered, with a tokenizer that never joins the newline after a
role with what follows; with any other the rendering could silently differ, so it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tongwen.errors import DataError, ModelError
from tongwen.messages.conversation import (
    ROLES,
    Conversation,
    Document,
    Message,
    Role,
    check,
    check_encodable,
    check_role,
)
from tongwen.messages.template import BOUNDARY, CHAT_TEMPLATE, TURN_END, TURN_START

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

# First characters of a content that some tokenizers join with the newline before them.
JOINABLE = ("\n", "\n\n", " ", "  x", "\t", "\r\n", "x", "中", "1", ".", "🙂")


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids, and for each whether it carries loss."""

    ids: list[int]
    mask: list[bool]

    @property
    def trained(self) -> int:
        """How many tokens carry loss."""
        return sum(self.mask)


def encode_text(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Plain text as ids; what spells a control token is text as well."""
    return _encoder(tokenizer).encode(check_encodable("the text", text))


def encode_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Many plain texts as ids, encoded together on all cores."""
    sound = [check_encodable(f"text {number}", text) for number, text in enumerate(texts, 1)]
    encodings = _encoder(tokenizer).plain.encode_batch_fast(sound, add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def render(conversation: Conversation, tokenizer: PreTrainedTokenizerFast) -> Rendered:
    """A whole conversation for training; one with nothing to train on is a DataError."""
    check(conversation)
    encoder = _template_encoder(tokenizer)
    ids: list[int] = []
    mask: list[bool] = []
    for message in conversation.messages:
        header = encoder.headers[message.role]
        body = [*encoder.encode(message.content), encoder.turn_end]
        ids += [*header, *body, *encoder.newline]
        mask += [False] * len(header)
        mask += [message.role == "assistant"] * len(body)
        mask += [False] * len(encoder.newline)
    assert any(mask), "a checked conversation has an assistant message"
    return Rendered(ids, mask)


def render_prompt(messages: Sequence[Message], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The messages and the header of the answer, ready to generate."""
    if not messages:
        raise DataError("the prompt has no messages", hint="give at least a user message")
    encoder = _template_encoder(tokenizer)
    ids: list[int] = []
    for number, message in enumerate(messages, 1):
        check_role(message.role, number)
        content = check_encodable(f"message {number} ({message.role})", message.content)
        ids += encoder.headers[message.role]
        ids += encoder.encode(content)
        ids += [encoder.turn_end, *encoder.newline]
    return ids + encoder.headers["assistant"]


def render_document(document: Document, tokenizer: PreTrainedTokenizerFast) -> Rendered:
    """A text between two boundaries, of which the first is given and the second is learned."""
    check(document)
    encoder = _encoder(tokenizer)
    ids = [encoder.boundary, *encoder.encode(document.text), encoder.boundary]
    return Rendered(ids, [False] + [True] * (len(ids) - 1))


class _Encoder:
    """One tokenizer's backend, copied so that its settings never change those of its owner."""

    def __init__(self, backend: Tokenizer) -> None:
        from tokenizers import Tokenizer

        self.plain = Tokenizer.from_str(backend.to_str())
        self.plain.encode_special_tokens = True
        self.plain.no_truncation()
        self.plain.no_padding()
        self.vocab_size = backend.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self.plain.encode(text, add_special_tokens=False).ids

    @cached_property
    def boundary(self) -> int:
        return self._control(BOUNDARY)

    @cached_property
    def turn_end(self) -> int:
        return self._control(TURN_END)

    @cached_property
    def newline(self) -> list[int]:
        return self.encode("\n")

    @cached_property
    def headers(self) -> dict[Role, list[int]]:
        """What stands before the content, by role."""
        start = self._control(TURN_START)
        for role in ROLES:
            alone = self.encode(f"{role}\n")
            for content in JOINABLE:
                if self.encode(f"{role}\n{content}") != alone + self.encode(content):
                    raise ModelError(
                        "the tokenizer joins the newline after a role with what follows, "
                        f"for example {content!r}",
                        hint="our template needs a tokenizer of our own: `tongwen tokenizer train`",
                    )
        return {role: [start, *self.encode(f"{role}\n")] for role in ROLES}

    def _control(self, token: str) -> int:
        number = self.plain.token_to_id(token)
        added = self.plain.get_added_tokens_decoder()
        if number is None or number not in added or not added[number].special:
            raise ModelError(
                f"the tokenizer has no control token {token}",
                hint="use a tokenizer made by `tongwen tokenizer train`",
            )
        return number


_encoders: WeakKeyDictionary[PreTrainedTokenizerFast, _Encoder] = WeakKeyDictionary()


def _encoder(tokenizer: PreTrainedTokenizerFast) -> _Encoder:
    """The encoder of this tokenizer, made once and again when tokens were added to it."""
    backend = tokenizer.backend_tokenizer
    encoder = _encoders.get(tokenizer)
    if encoder is None or encoder.vocab_size != backend.get_vocab_size():
        encoder = _encoders[tokenizer] = _Encoder(backend)
    return encoder


def _template_encoder(tokenizer: PreTrainedTokenizerFast) -> _Encoder:
    if tokenizer.chat_template != CHAT_TEMPLATE:
        what = "no chat template" if tokenizer.chat_template is None else "a foreign chat template"
        raise ModelError(
            f"the tokenizer has {what}, and only our own can be rendered with a loss mask",
            hint="use a tokenizer made by `tongwen tokenizer train`, or a model trained with one",
        )
    return _encoder(tokenizer)
