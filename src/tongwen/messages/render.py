"""Render conversations, prompts, preferences and documents as token ids with a loss mask.

The ids are those of transformers' `apply_chat_template` with the tokenizer's own chat template.
Trained are the words of every assistant message that is to be learned and the token that ends it;
for a document, all but its first token. Where that cannot be proved, nothing is rendered.

Control tokens come from the template alone, so no content can end its own turn: with our own
template, characters that spell one are encoded as the plain text they are; with any other, such a
row is refused in training, and in a prompt encoded as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

from tongwen.errors import DataError
from tongwen.messages.conversation import (
    Conversation,
    Document,
    Message,
    Preference,
    check,
    check_encodable,
    check_role,
    json_object,
)
from tongwen.messages.encoding import document_marks, encode_text
from tongwen.messages.own import OwnTemplate, own_template
from tongwen.messages.rendered import Rendered
from tongwen.messages.stock import stock_template
from tongwen.messages.template import CHAT_TEMPLATE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def render(conversation: Conversation, tokenizer: PreTrainedTokenizerFast) -> Rendered:
    """A whole conversation for training.

    One that cannot be trained on is a DataError, a template that cannot be used a ModelError.
    """
    [rendered] = render_many([conversation], tokenizer)
    if isinstance(rendered, DataError):
        raise rendered
    return rendered


def render_many(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerFast,
    *,
    checked: bool = False,
) -> list[Rendered | DataError]:
    """Conversations for training, encoded together; in place of a bad one, what is wrong.

    Those that `parse` made are `checked` already.
    """
    results = conversations if checked else [_checked(one) for one in conversations]
    sound = [one for one in results if isinstance(one, Conversation)]
    rendered = iter((_own(tokenizer) or stock_template(tokenizer)).render(sound))
    return [one if isinstance(one, DataError) else next(rendered) for one in results]


def render_prompt(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerFast, tools: Sequence[str] = ()
) -> list[int]:
    """The messages and the head of the answer, ready to generate."""
    if not messages:
        raise DataError("the prompt has no messages", hint="give at least a user message")
    for number, message in enumerate(messages, 1):
        check_role(message.role, number)
        check_encodable(f"message {number} ({message.role})", message.content)
        check_encodable(f"the thought of message {number}", message.thinking)
        for call in message.calls:
            json_object(f"the argument list of '{call.name}' in message {number}", call.arguments)
    for number, tool in enumerate(tools, 1):
        json_object(f"tool {number}", tool)
    if own := _own(tokenizer):
        return own.prompt(messages, tools)
    return stock_template(tokenizer).prompt(messages, tools, tokenizer)


def render_preference(
    preference: Preference, tokenizer: PreTrainedTokenizerFast
) -> tuple[Rendered, Rendered]:
    """The chosen and the rejected answer behind one prompt.

    Only that in which they differ carries loss: the prompt, and messages with which both begin, are
    context.
    """
    check(preference)
    both = zip(preference.chosen, preference.rejected, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))
    chosen, rejected = (
        render(_answered(preference, answer, shared), tokenizer)
        for answer in (preference.chosen, preference.rejected)
    )
    return chosen, rejected


def render_document(document: Document, tokenizer: PreTrainedTokenizerFast) -> Rendered:
    """A text between the marks of `document_marks`; its first token is given."""
    check(document)
    begin, end = document_marks(tokenizer)
    ids = [*begin, *encode_text(tokenizer, document.text), *end]
    return Rendered(ids, [False] + [True] * (len(ids) - 1))


def _own(tokenizer: PreTrainedTokenizerFast) -> OwnTemplate | None:
    return own_template(tokenizer) if tokenizer.chat_template == CHAT_TEMPLATE else None


def _checked(conversation: Conversation) -> Conversation | DataError:
    try:
        check(conversation)
    except DataError as error:
        return error
    return conversation


def _answered(preference: Preference, answer: Sequence[Message], shared: int) -> Conversation:
    """The prompt and an answer, of which the first messages are shared."""
    context = [replace(one, trained=False) for one in (*preference.prompt, *answer[:shared])]
    return Conversation((*context, *answer[shared:]), preference.tools)
