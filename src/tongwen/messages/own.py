"""Our own template without Jinja: faster, and no content can spell a control token.

The text of a message is encoded by itself, between the ids of the template. The ids are those of
`apply_chat_template` where no content spells a control token; characters that do are encoded as
the plain text they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from tongwen.errors import DataError
from tongwen.messages.conversation import ROLES, Conversation, Message, Role
from tongwen.messages.encoding import Encoder, encoder_of
from tongwen.messages.rendered import Rendered
from tongwen.messages.template import TURN_END, TURN_START

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# First characters of a content that some tokenizers join with the newline before them.
JOINABLE: Final = ("\n", "\n\n", " ", "  x", "\t", "\r\n", "x", "中", "1", ".", "🙂", "<")


class OwnTemplate:
    """The ids that our template puts around the texts of messages."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        start = encoder.control(TURN_START)
        self._heads = {role: [start, *encoder.encode(f"{role}\n")] for role in ROLES}
        self._end = encoder.control(TURN_END)
        self._newline = encoder.encode("\n")

    def render(self, conversations: Sequence[Conversation]) -> list[Rendered | DataError]:
        """Conversations that have passed `check`, encoded together."""
        said = [list(texts(one.messages, one.tools)) for one in conversations]
        encoded = iter(
            self.encoder.bulk.encode([text for messages in said for _, text in messages])
        )
        return [
            self._rendered(conversation, [(role, next(encoded).tolist()) for role, _ in messages])
            for conversation, messages in zip(conversations, said, strict=True)
        ]

    def _rendered(
        self, conversation: Conversation, said: Sequence[tuple[Role, list[int]]]
    ) -> Rendered:
        ids: list[int] = []
        mask: list[bool] = []
        trained = iter(m.trained for m in conversation.messages if m.role == "assistant")
        for role, text in said:
            head, body = self._heads[role], [*text, self._end]
            ids += [*head, *body, *self._newline]
            mask += [False] * len(head)
            mask += [role == "assistant" and next(trained)] * len(body)
            mask += [False] * len(self._newline)
        question = last_question(conversation.messages)
        left_out = tuple(
            f"the thought of message {place + 1}"
            for place, message in enumerate(conversation.messages[: max(question, 0)])
            if message.thinking
        )
        return Rendered(ids, mask, left_out)

    def prompt(self, messages: Sequence[Message], tools: Sequence[str]) -> list[int]:
        """The messages and the head of the answer."""
        ids: list[int] = []
        for role, text in texts(messages, tools):
            ids += [*self._heads[role], *self.encoder.encode(text), self._end, *self._newline]
        return ids + self._heads["assistant"]


def _joins(encoder: Encoder) -> bool:
    """Whether the tokenizer joins the newline behind a role with what follows."""
    return any(
        encoder.encode(f"{role}\n{text}") != encoder.encode(f"{role}\n") + encoder.encode(text)
        for role in ROLES
        for text in JOINABLE
    )


def texts(messages: Sequence[Message], tools: Sequence[str]) -> Iterator[tuple[Role, str]]:
    """Who says what, between the head and the end of each message."""
    if tools and messages[0].role != "system":
        yield "system", _manual(tools)
    question = last_question(messages)
    for place, message in enumerate(messages):
        text = message.content
        if message.thinking and place > question:
            text = f"<think>\n{message.thinking}\n</think>\n\n{text}"
        for number, call in enumerate(message.calls):
            text += "\n" if message.content or number else ""
            name = json.dumps(call.name, ensure_ascii=False)
            arguments = compact(call.arguments)
            text += f'<tool_call>\n{{"name": {name}, "arguments": {arguments}}}\n</tool_call>'
        if tools and place == 0 and message.role == "system":
            text += f"\n\n{_manual(tools)}"
        yield message.role, text


def last_question(messages: Sequence[Message]) -> int:
    """The place of the last user message; -1 if there is none."""
    places = range(len(messages) - 1, -1, -1)
    return next((place for place in places if messages[place].role == "user"), -1)


def _manual(tools: Sequence[str]) -> str:
    described = "".join(f"{compact(tool)}\n" for tool in tools)
    return (
        f"Tools:\n<tools>\n{described}</tools>\nTo call a tool, write:\n"
        '<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>'
    )


def compact(text: str) -> str:
    return json.dumps(json.loads(text), ensure_ascii=False)


_templates: WeakKeyDictionary[PreTrainedTokenizerFast, tuple[Encoder, OwnTemplate | None]] = (
    WeakKeyDictionary()
)


def own_template(tokenizer: PreTrainedTokenizerFast) -> OwnTemplate | None:
    """Our template with this tokenizer; none where texts cannot be encoded by themselves.

    So it is with tokenizers that are not ours and join the newline behind a role with what follows.
    """
    encoder = encoder_of(tokenizer)
    known = _templates.get(tokenizer)
    if known is None or known[0] is not encoder:
        template = OwnTemplate(encoder)
        known = encoder, None if _joins(encoder) else template
        _templates[tokenizer] = known
    return known[1]
