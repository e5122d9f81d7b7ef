"""Conversations, documents and preferences: what a row of data is once its layout has been read.

A conversation to train on is an optional system message first, then user and assistant in turn,
ending with the assistant; after an assistant's calls come the tools' results and the assistant
again. A document is plain text. A preference is a prompt that ends with what is to be answered, and
two answers that differ. `check` refuses everything else and says which message is wrong and what
to do; messages are counted from 1, the system message included.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, assert_never, get_args

from tongwen.errors import DataError

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = get_args(Role)
THINK = "<think>"
"""Mark at the start of an answer that begins with a thought."""


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
        # An empty thought says that a mark in the content is meant literally.
        marked = self.role == "assistant" and self.content.lstrip().startswith(THINK)
        if self.thinking or marked:
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


def check(item: Item) -> None:
    """Raise a DataError for whatever a model cannot be trained on."""
    match item:
        case Document():
            _check_text("the text", item.text)
        case Conversation():
            _check_conversation(item)
        case Judged():
            _check_conversation(item.conversation)
        case Preference():
            _check_preference(item)
        case _:
            assert_never(item)


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


def json_object(where: str, text: str) -> dict[str, object]:
    """The JSON object that a text is; raise a DataError if it is none, or none that can be written.

    JSON has no NaN and no numbers without end, and escapes can spell what has no UTF-8 form.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DataError(f"{where} is not a JSON object", hint='write it as {"name": value, …}')
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise DataError(
            f"{where} holds NaN or Infinity, which JSON does not have",
            hint="write null or a number, or remove the row",
        ) from None
    check_encodable(where, written)
    return value


def _check_conversation(conversation: Conversation) -> None:
    messages = conversation.messages
    if not messages:
        raise DataError(
            "the conversation has no messages", hint="write one user and one assistant message"
        )
    _check_tools(conversation.tools)
    _check_messages(messages)
    if not any(message.trained for message in messages if message.role == "assistant"):
        raise DataError(
            "every assistant message is marked as not to be learned",
            hint="mark at least one to be learned, or remove the row",
        )


def _check_preference(pair: Preference) -> None:
    last = pair.prompt[-1].role if pair.prompt else None
    if last not in ("user", "tool"):
        what = "is empty" if last is None else f"ends with the {last}, not with a question"
        raise DataError(f"the prompt {what}", hint="end it with what is to be answered")
    _check_tools(pair.tools)
    for name, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not answer or answer[0].role != "assistant":
            what = "does not begin with the assistant" if answer else "is empty"
            raise DataError(f"the {name} answer {what}", hint="fill it in, or remove the row")
        try:
            _check_messages((*pair.prompt, *answer))
        except DataError as error:
            raise DataError(f"with the {name} answer, {error.message}", error.hint) from None
    if pair.chosen == pair.rejected:
        raise DataError(
            "the chosen and the rejected answer are the same",
            hint="a pair without a difference teaches nothing; remove the row",
        )


def _check_messages(messages: tuple[Message, ...]) -> None:
    for number, message in enumerate(messages, 1):
        check_role(message.role, number)
        _check_message(f"message {number} ({message.role})", message)
    _check_system(messages)
    _check_order(messages)


def _check_message(where: str, message: Message) -> None:
    silent = message.role == "tool" or (message.role == "assistant" and bool(message.calls))
    _check_text(where, message.content, empty=silent)
    if message.role != "assistant" and (message.thinking or message.calls):
        what = "calls a tool" if message.calls else "thinks"
        raise DataError(f"{where} {what}", hint="only the assistant can; mend the role")
    _check_text(f"the thought of {where}", message.thinking, empty=True)
    for call in message.calls:
        _check_text(f"the tool's name in {where}", call.name)
        json_object(f"the argument list of '{call.name}' in {where}", call.arguments)


def _check_tools(tools: tuple[str, ...]) -> None:
    for number, tool in enumerate(tools, 1):
        _check_text(f"tool {number}", tool)
        json_object(f"tool {number}", tool)


def _check_text(where: str, text: object, *, empty: bool = False) -> None:
    sound = check_encodable(where, text)
    if not empty and (not sound or sound.isspace()):
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
    turns = [(n, message) for n, message in enumerate(messages, 1) if message.role != "system"]
    if all(message.role != "assistant" for _, message in turns):
        raise DataError(
            "no assistant message, so there is nothing to learn",
            hint="add the answer, or remove the row",
        )
    if turns[0][1].role == "assistant":
        raise DataError(
            f"message {turns[0][0]} is the assistant's, before any user message",
            hint="begin with the user; a greeting can move into the system message",
        )
    _check_tool_result(None, *turns[0])
    for (first, message), (second, following) in pairwise(turns):
        if message.role == following.role != "tool":
            raise DataError(
                f"messages {first} and {second} are both the {message.role}'s",
                hint="join them into one message, or add the one that is missing between them",
            )
        _check_tool_result(message, second, following)
        if following.role == "user" and (message.role == "tool" or message.calls):
            what = "is a tool's result" if message.role == "tool" else "calls a tool"
            raise DataError(
                f"message {first} {what}, and nothing answers it before the user speaks again",
                hint="add what is missing between them, or remove the row",
            )
    number, last = turns[-1]
    if last.role != "assistant":
        whose = {"user": "the user's", "tool": "a tool's result"}[last.role]
        raise DataError(
            f"the last message ({number}) is {whose} and has no answer",
            hint="add the answer, or remove that message",
        )


def _check_tool_result(before: Message | None, number: int, message: Message) -> None:
    called = before is not None and (before.role == "tool" or before.calls)
    if message.role == "tool" and not called:
        raise DataError(
            f"message {number} is a tool's result, but nothing called a tool before it",
            hint="write the call as the assistant's, or remove the row",
        )
