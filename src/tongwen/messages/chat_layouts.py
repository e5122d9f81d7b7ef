"""Layouts that list messages: ShareGPT, OpenAI messages, Firefly, Index, Vicuna's turns.

A message is an object with a role and a content, under the names of ShareGPT or of OpenAI. What an
answer holds besides its words becomes a part of the message: a thought at its start
(`<think>…</think>`, or a key of its own), calls of tools, and whether it is to be learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tongwen.errors import DataError
from tongwen.messages.conversation import THINK, Conversation, Message, ToolCall
from tongwen.messages.fields import (
    Notes,
    Row,
    as_list,
    as_text,
    blank,
    filled,
    list_at,
    optional_text,
    quoted,
    shown,
    text_at,
    type_name,
    value_at,
)
from tongwen.messages.speakers import Speaker, speaker
from tongwen.messages.tools import call_ids, in_call_order, openai_calls, said_calls, tools_of

SHAREGPT: Final = ("from", "value")
OPENAI: Final = ("role", "content")
THOUGHTS: Final = ("reasoning_content", "reasoning", "thinking")
SWITCHES: Final = ("loss", "train", "weight", "loss_weight", "loss_scale")
SYSTEMS: Final = ("system", "system_prompt")
TEXT_PARTS: Final = ("text", "input_text", "output_text")
MEDIA: Final = ("image", "images", "video", "videos", "audio", "audios")

EMPTY_THOUGHT: Final = "an empty <think> block was left out"
EMPTY_SYSTEM: Final = "an empty system message was left out"
UNUSED_SWITCH: Final = "the weight of a message that is not an assistant's has no effect"


def sharegpt(row: Row, notes: Notes) -> Conversation:
    """`{"conversations": [{"from": "human", "value": …}, …]}`."""
    return _conversation(row, "conversations", SHAREGPT, notes)


def messages(row: Row, notes: Notes) -> Conversation:
    """`{"messages": [{"role": "user", "content": …}, …]}`."""
    return _conversation(row, "messages", OPENAI, notes)


def firefly(row: Row, notes: Notes) -> Conversation:
    """`{"conversation": [{"human": …, "assistant": …}, …]}`; also messages under that key."""
    listed = list_at(row, "conversation")
    if not all(isinstance(turn, dict) and {"human", "assistant"} & set(turn) for turn in listed):
        return _conversation(row, "conversation", OPENAI, notes)
    said = system(row, *SYSTEMS, "instruction")
    for number, turn in enumerate(listed, 1):
        assert isinstance(turn, dict), "seen above"
        where = f"turn {number} of 'conversation': "
        said += exchange(text_at(turn, "human", where), text_at(turn, "assistant", where), notes)
    return Conversation(tuple(said), tools_of(row))


def index(row: Row, notes: Notes) -> Conversation:
    """`{"system": …, "human": …, "assistant": …}`."""
    said = exchange(text_at(row, "human"), text_at(row, "assistant"), notes)
    return Conversation((*system(row, *SYSTEMS), *said), tools_of(row))


def turns(row: Row, notes: Notes) -> Conversation:
    """`{"input": [question, …], "output": [answer, …]}`."""
    questions, answers = list_at(row, "input"), list_at(row, "output")
    if len(questions) != len(answers):
        raise DataError(
            f"'input' and 'output' differ in length ({len(questions)} and {len(answers)})",
            "each question needs one answer",
        )
    said = system(row, *SYSTEMS, "instruction")
    for number, (question, answer) in enumerate(zip(questions, answers, strict=True), 1):
        asked = as_text(f"turn {number} of 'input'", question)
        answered = as_text(f"turn {number} of 'output'", answer)
        for key, text in (("input", asked), ("output", answered)):
            if blank(text):
                raise DataError(
                    f"turn {number} of '{key}' is empty", "fill it in, or remove the row"
                )
        said += exchange(asked, answered, notes)
    return Conversation(tuple(said), tools_of(row))


def system(row: Row, *keys: str) -> list[Message]:
    """The system messages of a row: those of the keys that hold text."""
    contents = [optional_text(row, key) for key in keys]
    return [Message("system", content) for content in contents if not blank(content)]


def exchange(question: str, answer: str, notes: Notes) -> tuple[Message, Message]:
    """A question and its answer."""
    return Message("user", question), thoughtful(Message("assistant", answer), notes)


def thoughtful(message: Message, notes: Notes) -> Message:
    """The answer with the thought at its start, if there is one, taken apart from its words."""
    begun = message.content.lstrip()
    thought, ended, words = begun.removeprefix(THINK).partition("</think>")
    if not begun.startswith(THINK) or not ended:
        return message
    if blank(thought):
        notes.append(EMPTY_THOUGHT)
    return replace(message, content=words.lstrip("\n"), thinking=thought.strip("\n"))


def said(values: Sequence[object], key: str, names: tuple[str, str], notes: Notes) -> list[Message]:
    """The messages of a list; empty system messages are left out, calls join what goes before.

    The results of tools come in the order of their calls.
    """
    result: list[Message] = []
    ids: list[list[object]] = []
    for number, turn in enumerate(values, 1):
        where = f"message {number} of '{key}'"
        if not isinstance(turn, dict):
            raise DataError(
                f"{where} is {type_name(turn)}, not an object", f"write {quoted(names)} in each"
            )
        message = message_of(turn, where, names, notes)
        if message.role == "system" and blank(message.content):
            notes.append(EMPTY_SYSTEM)
        elif result and _continues(result[-1], message):
            result[-1] = replace(result[-1], calls=message.calls)
            ids[-1] = call_ids(turn, where)
        else:
            result.append(message)
            ids.append(call_ids(turn, where))
    return in_call_order(result, ids, notes)


def message_of(turn: Row, where: str, names: tuple[str, str], notes: Notes) -> Message:
    """One message; `names` are the usual keys of role and content, the other pair counts too."""
    others = OPENAI if names == SHAREGPT else SHAREGPT
    role_key, content_key = others if all(name in turn for name in others) else names
    who = speaker(text_at(turn, role_key, f"{where}: "), where)
    refuse_media(turn, where)
    calls = openai_calls(turn, where)
    if content_key in turn or not calls:
        content = _content(value_at(turn, content_key, f"{where}: "), where, content_key, calls)
    else:
        content = ""
    return spoken(turn, who, content, calls, where, notes)


def spoken(
    turn: Row, who: Speaker, content: str, calls: tuple[ToolCall, ...], where: str, notes: Notes
) -> Message:
    """A message from its parts, with the thought and the switches that stand beside them."""
    if who == "call":
        calls, content, who = said_calls(f"the call in {where}", content), "", "assistant"
    trained = _trained(turn, where)
    if who != "assistant":
        if trained:
            notes.append(UNUSED_SWITCH)
        return Message(who, content, calls=calls)
    message = Message(who, content, calls=calls, trained=trained is not False)
    key = next((key for key in THOUGHTS if turn.get(key) not in (None, [], {})), None)
    if key is None:
        return thoughtful(message, notes)
    return replace(message, thinking=text_at(turn, key, f"{where}: "))


def refuse_media(row: Row, where: str) -> None:
    """Raise a DataError for pictures, sound and film."""
    if keys := filled(row, *MEDIA):
        raise DataError(
            f"{where} has '{keys[0]}': other media than text are not supported", "remove the row"
        )


def _conversation(row: Row, key: str, names: tuple[str, str], notes: Notes) -> Conversation:
    listed = said(list_at(row, key), key, names, notes)
    return Conversation((*system(row, *SYSTEMS, "instruction"), *listed), tools_of(row))


def _continues(before: Message, message: Message) -> bool:
    """Whether a message is only the call that the assistant makes after its words."""
    only_call = message == Message("assistant", "", calls=message.calls, trained=before.trained)
    return bool(only_call and message.calls and before.role == "assistant" and not before.calls)


def _content(value: object, where: str, key: str, calls: tuple[ToolCall, ...]) -> str:
    """The text of a message: a text, a list of texts in parts, or null beside calls."""
    if value is None and calls:
        return ""
    if not isinstance(value, list):
        return as_text(f"{where}: the key '{key}'", value)
    return "".join(
        _part(part, f"part {number} of {where}")
        for number, part in enumerate(as_list(f"{where}: the key '{key}'", value), 1)
    )


def _part(part: object, where: str) -> str:
    if not isinstance(part, dict):
        raise DataError(
            f"{where} is {type_name(part)}, not an object", 'write {"type": "text", "text": …}'
        )
    kind = part.get("type", "text")
    if kind not in TEXT_PARTS:
        raise DataError(
            f"{where} is of the type {shown(kind)}: other media than text are not supported",
            "remove the row",
        )
    return text_at(part, "value" if "value" in part else "text", f"{where}: ")


def _trained(turn: Row, where: str) -> bool | None:
    """What the switch of a message says; None where there is none."""
    for key in SWITCHES:
        value = turn.get(key)
        if value is None:
            continue
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise DataError(
                f"{where} has '{key}' {shown(value)}: a message is learned or not, 1 or 0",
                "write 1 or 0, or remove the key",
            )
        return bool(value)
    return None
