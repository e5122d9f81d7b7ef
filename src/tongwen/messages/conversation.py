"""Conversations and documents: what a row of data is once its layout has been read.

A conversation to train on is an optional system message first, then user and assistant in turn,
ending with the assistant. A document is plain text. `check` refuses everything else and says which
message is wrong and what to do; messages are counted from 1, the system message included.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from tongwen.errors import DataError

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """An assistant's call of a tool."""

    name: str
    arguments: str
    """A JSON object, as text."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one participant says; the content is kept as it is, blanks and newlines included."""

    role: Role
    content: str
    thinking: str = ""
    """What an assistant thought before it spoke."""
    calls: tuple[ToolCall, ...] = ()
    """Tools that an assistant calls after it spoke; the content may then be empty."""
    trained: bool = True
    """Whether an assistant's words are to be learned; false for those that are only context."""

    def to_record(self) -> dict[str, object]:
        """A JSON value, as OpenAI writes messages; what is at its default is left out."""
        record: dict[str, object] = {"role": self.role, "content": self.content}
        if self.thinking:
            record["reasoning_content"] = self.thinking
        if self.calls:
            record["tool_calls"] = [
                {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.calls
            ]
        if not self.trained:
            record["loss"] = False
        return record


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in the order in which they were said."""

    messages: tuple[Message, ...]
    tools: tuple[str, ...] = ()
    """The tools at hand, each the JSON text of its description."""

    def to_record(self) -> dict[str, object]:
        """A JSON value in the `messages` layout, which `parse` reads back."""
        return _with_tools({"messages": _records(self.messages)}, self.tools)


@dataclass(frozen=True, slots=True)
class Document:
    """Plain text, all of it to be learned."""

    text: str

    def to_record(self) -> dict[str, object]:
        """A JSON value in the `text` layout, which `parse` reads back."""
        return {"text": self.text}


@dataclass(frozen=True, slots=True)
class Preference:
    """Two ways to go on from one prompt, of which one is better."""

    prompt: tuple[Message, ...]
    """Ends with what is to be answered."""
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    tools: tuple[str, ...] = ()

    def to_record(self) -> dict[str, object]:
        """A JSON value in the `preference` layout, which `parse` reads back."""
        record: dict[str, object] = {
            "prompt": _records(self.prompt),
            "chosen": _records(self.chosen),
            "rejected": _records(self.rejected),
        }
        return _with_tools(record, self.tools)


@dataclass(frozen=True, slots=True)
class Judged:
    """A conversation whose last answer was found good or bad (KTO)."""

    conversation: Conversation
    good: bool

    def to_record(self) -> dict[str, object]:
        """A JSON value in the `judged` layout, which `parse` reads back."""
        return {**self.conversation.to_record(), "label": self.good}


Item = Conversation | Document | Preference | Judged
"""What one row of data is."""


def _records(messages: tuple[Message, ...]) -> list[dict[str, object]]:
    return [message.to_record() for message in messages]


def _with_tools(record: dict[str, object], tools: tuple[str, ...]) -> dict[str, object]:
    return {**record, "tools": [json.loads(tool) for tool in tools]} if tools else record


def check(item: Conversation | Document) -> None:
    """Raise a DataError for whatever a model cannot be trained on."""
    if isinstance(item, Document):
        _check_text("the text", item.text)
        return
    if not item.messages:
        raise DataError(
            "the conversation has no messages", hint="write one user and one assistant message"
        )
    for number, message in enumerate(item.messages, 1):
        check_role(message.role, number)
        _check_text(f"message {number} ({message.role})", message.content)
    _check_system(item.messages)
    _check_order(item.messages)


def check_role(role: object, number: int) -> None:
    """Raise a DataError for a role that the template does not have."""
    if role not in ROLES:
        raise DataError(
            f"message {number} has the unknown role {role!r}",
            hint=f"the roles are {', '.join(ROLES)}",
        )


def check_encodable(where: str, text: object) -> str:
    """The text itself; raise a DataError for what is no text or has no UTF-8 form."""
    if not isinstance(text, str):
        raise DataError(f"{where} is of type {type(text).__name__}, not text", hint="give a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where} holds half a surrogate pair (\\u{ord(text[error.start]):04x}) "
            f"at character {error.start + 1}",
            hint="an emoji or a rare character was cut in two; export the row again, or remove it",
        ) from None
    return text


def _check_text(where: str, text: object) -> None:
    sound = check_encodable(where, text)
    if not sound or sound.isspace():
        raise DataError(f"{where} is empty", hint="fill it in, or remove the row")
    if (place := sound.find("\0")) >= 0:
        raise DataError(
            f"{where} holds a NUL at character {place + 1}",
            hint="the source is damaged or not text; remove the NUL, or remove the row",
        )


def _check_system(messages: tuple[Message, ...]) -> None:
    places = [number for number, message in enumerate(messages, 1) if message.role == "system"]
    if len(places) > 1:
        listed = ", ".join(map(str, places))
        raise DataError(
            f"{len(places)} system messages (messages {listed}), at most one is possible",
            hint="join them into one at the start",
        )
    if places and places[0] != 1:
        raise DataError(
            f"the system message is message {places[0]}, not the first",
            hint="move it to the start of the conversation",
        )


def _check_order(messages: tuple[Message, ...]) -> None:
    turns = [(n, message.role) for n, message in enumerate(messages, 1) if message.role != "system"]
    if all(role != "assistant" for _, role in turns):
        raise DataError(
            "no assistant message, so there is nothing to learn",
            hint="add the answer, or remove the row",
        )
    if turns[0][1] == "assistant":
        raise DataError(
            f"message {turns[0][0]} is the assistant's, before any user message",
            hint="begin with the user; a greeting can move into the system message",
        )
    for (first, role), (second, next_role) in pairwise(turns):
        if role == next_role:
            raise DataError(
                f"messages {first} and {second} are both the {role}'s",
                hint="join them into one message, or add the one that is missing between them",
            )
    if turns[-1][1] != "assistant":
        raise DataError(
            f"the last message ({turns[-1][0]}) is the user's and has no answer",
            hint="add the answer, or remove that message",
        )
