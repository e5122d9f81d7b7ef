"""Layouts of one question and its answer: Alpaca, BELLE, seed tasks, prompt and completion, …"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tongwen.errors import DataError
from tongwen.messages.chat_layouts import OPENAI, SYSTEMS, THOUGHTS, exchange, said, system
from tongwen.messages.conversation import Conversation, Message
from tongwen.messages.fields import (
    Notes,
    Row,
    as_text,
    blank,
    filled,
    list_at,
    optional_text,
    quoted,
    text_at,
    type_name,
    value_at,
)
from tongwen.messages.tools import tools_of

QUESTIONS: Final = ("question", "prompt", "query", "problem", "input", "问题")
ANSWERS: Final = (
    *("answer", "answers", "response", "completion", "output", "target", "solution"),
    *("答案", "回答"),
)
PAIRS: Final = (("input", "output"), ("human", "assistant"), ("question", "answer"))
"""Names of question and answer in a turn of `history` that is an object."""
NO_INPUT: Final = "the row has no key 'input'"


def alpaca(row: Row, notes: Notes) -> Conversation:
    """`{"instruction": …, "input": …, "output": …}`, with `history` and `system`."""
    question = [text_at(row, "instruction"), optional_text(row, "input")]
    if "input" not in row:
        question += [optional_text(row, "context")]
        if "context" not in row and "output" in row:
            notes.append(NO_INPUT)
    if all(map(blank, question)):
        raise DataError(
            "the keys 'instruction' and 'input' are both empty",
            "ask something there, or remove the row",
        )
    return _asked(row, question, _answer(row, "output"), notes)


def question_answer(row: Row, notes: Notes) -> Conversation:
    """`{"prompt": …, "completion": …}` and its like; either may be a list of messages."""
    key = one_of(row, QUESTIONS, "question")
    value = value_at(row, key)
    if not isinstance(value, list):
        question = [optional_text(row, "context"), as_text(f"the key '{key}'", value)]
        return _asked(row, question, _answer(row), notes)
    listed = said(value, key, OPENAI, notes)
    answer = one_of(row, ANSWERS, "answer")
    if isinstance(row.get(answer), list):
        listed += said(list_at(row, answer), answer, OPENAI, notes)
    else:
        listed += exchange("", _answer(row), notes)[1:]
    return Conversation((*system(row, *SYSTEMS), *listed), tools_of(row))


def seed_task(row: Row, notes: Notes) -> Conversation:
    """`{"instruction": …, "instances": [{"input": …, "output": …}]}`, each instance a turn."""
    instruction = text_at(row, "instruction")
    listed: list[Message] = []
    for number, instance in enumerate(list_at(row, "instances"), 1):
        where = f"instance {number}"
        if not isinstance(instance, dict):
            raise DataError(
                f"{where} is {type_name(instance)}, not an object", "write 'input' and 'output'"
            )
        given = optional_text(instance, "input")
        asked = "\n".join(part for part in (instruction, given) if not blank(part))
        listed += exchange(asked, text_at(instance, "output", f"{where}: "), notes)
    return Conversation((*system(row, *SYSTEMS), *listed), tools_of(row))


def earlier(row: Row, notes: Notes) -> list[Message]:
    """The pairs of `history`, which were said before."""
    history = list_at(row, "history") if filled(row, "history") else []
    pairs = (_pair(pair, f"pair {number} of 'history'") for number, pair in enumerate(history, 1))
    return [message for pair in pairs for message in exchange(*pair, notes)]


def one_of(row: Row, keys: Sequence[str], what: str) -> str:
    """The one key of several that the row fills; the first where there is none."""
    present = [key for key in keys if row.get(key) is not None]
    if len(present) > 1:
        raise DataError(
            f"the row has {quoted(present)}: which of them is the {what}?",
            "say it in a mapping, or remove the others",
        )
    return next((key for key in (*present, *keys) if key in row), keys[0])


def _asked(row: Row, question: Sequence[str], answer: str, notes: Notes) -> Conversation:
    asked, answered = exchange(
        "\n".join(part for part in question if not blank(part)), answer, notes
    )
    if thoughts := filled(row, *THOUGHTS):
        answered = replace(answered, content=answer, thinking=text_at(row, thoughts[0]))
    listed = (*system(row, *SYSTEMS), *earlier(row, notes), asked, answered)
    return Conversation(listed, tools_of(row))


def _pair(pair: object, where: str) -> tuple[str, str]:
    if isinstance(pair, dict):
        names = next((names for names in PAIRS if set(names) <= set(pair)), PAIRS[0])
        return text_at(pair, names[0], f"{where}: "), text_at(pair, names[1], f"{where}: ")
    if not isinstance(pair, list) or len(pair) != 2:
        size = f" of {len(pair)}" if isinstance(pair, list) else ""
        raise DataError(
            f"{where} is {type_name(pair)}{size}, not two texts",
            "write each as [question, answer]",
        )
    return as_text(where, pair[0]), as_text(where, pair[1])


def _answer(row: Row, usual: str | None = None) -> str:
    """The answer; a row that has the usual key for it may use the others for something else."""
    others = any(row.get(key) is not None for key in ANSWERS)
    key = usual if usual and (usual in row or not others) else one_of(row, ANSWERS, "answer")
    value = value_at(row, key)
    if key == "answers" and isinstance(value, list):
        if len(value) != 1:
            raise DataError(
                f"the key '{key}' holds {len(value)} answers",
                "choose one, or merge them with `tongwen data questions`",
            )
        value = value[0]
    answer = as_text(f"the key '{key}'", value)
    if blank(answer):
        raise DataError(f"the key '{key}' is empty", "fill in the answer, or remove the row")
    return answer
