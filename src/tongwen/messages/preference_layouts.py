"""Layouts of preferences: two answers to one prompt, or one answer that was judged.

The prompt stands beside the answers, as text or as messages, or is what two dialogues begin with.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Final

from tongwen.errors import DataError
from tongwen.messages.chat_layouts import (
    OPENAI,
    SHAREGPT,
    SYSTEMS,
    message_of,
    said,
    system,
    thoughtful,
)
from tongwen.messages.conversation import Conversation, Judged, Message, Preference
from tongwen.messages.fields import (
    Notes,
    Row,
    as_text,
    blank,
    filled,
    list_at,
    optional_text,
    shown,
    value_at,
)
from tongwen.messages.question_layouts import QUESTIONS, earlier, one_of
from tongwen.messages.speakers import speaker
from tongwen.messages.tools import tools_of

ANSWERS: Final = (
    ("chosen", "rejected"),
    ("chosen_messages", "rejected_messages"),
    ("messages", "rejected_messages"),
    ("response", "rejected_response"),
    ("messages", "rejected_response"),
)
"""Keys of the better and the worse answer; the first two of which a row has one count."""
MARKS: Final = ("rejected", "chosen", "rejected_messages", "chosen_messages", "rejected_response")
"""Keys that only preferences have."""
LABELS: Final = ("kto_tag", "label")
JUDGEMENTS: Final[dict[object, bool]] = {1: True, 0: False, "true": True, "false": False}
TRANSCRIPT: Final = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \n]?")
PROMPTS: Final = ("conversations", "messages", "instruction", *QUESTIONS)


def preference(row: Row, notes: Notes) -> Preference:
    """`{"prompt": …, "chosen": …, "rejected": …}` in all its forms."""
    names = _names(row)
    better, worse = (_answer(row, name, notes) for name in names)
    if better and worse and better[0].role != "assistant" != worse[0].role:
        prompt = _shared(better, worse)
        better, worse = better[len(prompt) :], worse[len(prompt) :]
        if prompt[0].role != "system":
            prompt = [*system(row, *SYSTEMS), *prompt]
    elif names[0] == "messages":
        prompt, better = [*system(row, *SYSTEMS), *better[:-1]], better[-1:]
    else:
        prompt = _prompt(row, notes)
    return Preference(tuple(prompt), tuple(better), tuple(worse), tools_of(row))


def judged(row: Row, conversation: Conversation) -> Judged:
    """A conversation with `label` or `kto_tag`: whether its last answer is good."""
    key = next((key for key in LABELS if row.get(key) is not None), LABELS[0])
    value = row.get(key)
    plain = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(plain, str | int) or plain not in JUDGEMENTS:
        raise DataError(
            f"the key '{key}' is {shown(value)}, not true or false", "write true or false"
        )
    last = conversation.messages[-1] if conversation.messages else None
    if last is None or last.role != "assistant":
        raise DataError("there is no answer at the end to judge", "add it, or remove the row")
    return Judged(conversation, JUDGEMENTS[plain])


def is_judgement(row: Row) -> bool:
    """Whether a row says of its answer that it is good or bad."""
    label = row.get("label")
    named = isinstance(label, str) and label.strip().lower() in ("true", "false")
    return "kto_tag" in row or isinstance(label, bool) or named


def _names(row: Row) -> tuple[str, str]:
    complete = [names for names in ANSWERS if set(names) <= set(row)]
    partly = [names for names in ANSWERS if set(names) & set(row) & set(MARKS)]
    return (complete or partly)[0]


def _answer(row: Row, key: str, notes: Notes) -> list[Message]:
    """The messages of one side: an answer as text or as one message, or a dialogue."""
    value = value_at(row, key)
    if isinstance(value, list):
        return said(list_at(row, key), key, OPENAI, notes)
    if isinstance(value, dict):
        return [message_of(value, f"'{key}'", SHAREGPT, notes)]
    answer = as_text(f"the key '{key}'", value)
    if blank(answer):
        raise DataError(f"the key '{key}' is empty", "fill in the answer, or remove the row")
    if not filled(row, *PROMPTS) and TRANSCRIPT.match(answer):
        return _transcript(answer)
    return [thoughtful(Message("assistant", answer), notes)]


def _prompt(row: Row, notes: Notes) -> list[Message]:
    """What stands before the answers in keys of its own."""
    begin = [*system(row, *SYSTEMS), *earlier(row, notes)]
    if lists := filled(row, "conversations", "messages"):
        names = SHAREGPT if lists[0] == "conversations" else OPENAI
        return [*begin, *said(list_at(row, lists[0]), lists[0], names, notes)]
    if filled(row, "instruction"):
        parts = [optional_text(row, key) for key in ("instruction", "input", "context")]
        return [*begin, Message("user", "\n".join(part for part in parts if not blank(part)))]
    if not filled(row, *QUESTIONS):
        return begin
    key = one_of(row, QUESTIONS, "prompt")
    if isinstance(value := row[key], list):
        return [*begin, *said(value, key, OPENAI, notes)]
    return [*begin, Message("user", as_text(f"the key '{key}'", value))]


def _shared(better: list[Message], worse: list[Message]) -> list[Message]:
    """What two dialogues begin with, up to the question that they answer differently."""
    both = zip(better[:-1], worse[:-1], strict=False)
    shared = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], both)]
    while shared and shared[-1].role not in ("user", "tool"):
        shared.pop()
    if not shared:
        raise DataError(
            "the chosen and the rejected dialogue have no question in common",
            "let both begin with the same messages, or remove the row",
        )
    return shared


def _transcript(text: str) -> list[Message]:
    """`\\n\\nHuman: …\\n\\nAssistant: …`, as the first published preferences were written."""
    _, *parts = TRANSCRIPT.split(text)
    spoken = zip(parts[::2], parts[1::2], strict=True)
    messages = []
    for number, (name, words) in enumerate(spoken, 1):
        role = speaker(name, f"turn {number}")
        assert role in ("user", "assistant"), name
        messages.append(Message(role, words))
    return messages
