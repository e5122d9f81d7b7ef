"""Read one row of data, whatever its layout, as a conversation or a document.

| layout   | row |
|----------|-----|
| alpaca   | `{"instruction": …, "input": …, "output": …}`, with `history` pairs and `system` |
| sharegpt | `{"conversations": [{"from": "human", "value": …}, …]}` |
| messages | `{"messages": [{"role": "user", "content": …}, …]}`, as OpenAI writes them |
| turns    | `{"input": [question, …], "output": [answer, …]}` |
| text     | `{"text": …}`, or a string alone |

The layout is recognised by the keys; where a row has those of several, the first of sharegpt,
messages, turns, alpaca, text counts, and keys filled with null do not. sharegpt and messages also
take a `system` or `instruction` key for the system message, and each other's names inside a
message. An empty system message is none. Keys that do not matter (`id`, `source`, …) are ignored.

Limits: tool use, images, weights of single messages and preference pairs are refused, because
leaving them out would change what the row says.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import SequenceMatcher, get_close_matches
from typing import Literal, cast

from tongwen.errors import DataError
from tongwen.messages.conversation import Conversation, Document, Message, Role, check
from tongwen.messages.fields import (
    KEYS,
    Row,
    as_text,
    blank,
    list_at,
    optional_text,
    quoted,
    shown,
    text_at,
    type_name,
)

Layout = Literal["alpaca", "sharegpt", "messages", "turns", "text"]

LAYOUTS = (
    'alpaca {"instruction", "input", "output"}, sharegpt {"conversations": [{"from", "value"}]}, '
    'messages {"messages": [{"role", "content"}]}, turns {"input": […], "output": […]}, '
    'text {"text"}'
)
ALIKE = 0.75  # above this likeness a key is taken for a misspelt one
COMPARED = 50  # keys of an unknown row that are looked at for a misspelt one

SPEAKERS: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
}
TOOL_SPEAKERS = ("tool", "function", "function_call", "tool_call", "tool_response", "observation")

UNSUPPORTED = {
    **dict.fromkeys(("tools", "functions", "tool_calls", "function_call"), "tool use is"),
    **dict.fromkeys(("image", "images", "video", "videos", "audio", "audios"), "other media are"),
}
WEIGHTS = ("weight", "loss", "loss_weight")
PREFERENCE = ("chosen", "rejected", "chosen_messages", "rejected_messages", "kto_tag")


def parse(record: object) -> Conversation | Document:
    """Read one decoded JSON value; a DataError says what is wrong with it."""
    layout = layout_of(record)
    item: Conversation | Document
    if isinstance(record, str):
        item = Document(record)
    else:
        row = cast(Row, record)
        _refuse_unsupported(row, "the row")
        item = READERS[layout](row)
    check(item)
    return item


def layout_of(record: object) -> Layout:
    """Name the layout of one decoded JSON value, by its keys alone."""
    if isinstance(record, str):
        return "text"
    if not isinstance(record, dict):
        raise DataError(
            f"the row is {type_name(record)}, not an object",
            hint=f"layouts that are read: {LAYOUTS}",
        )
    # Tables exported as JSON lines fill the columns that a row does not use with null.
    filled = {key: value for key, value in record.items() if value is not None}
    layout = _recognise(filled) or _recognise(record)
    if pairs := [key for key in PREFERENCE if key in filled] or _judged(filled, layout):
        raise DataError(
            f"a row of preferences ({quoted(pairs)}), not one to learn from as it is",
            hint="write the good answer as a conversation of its own and drop the others",
        )
    if layout is None:
        seen = f"with the keys {quoted(record)}" if record else "without any key"
        raise DataError(
            f"no known layout: a row {seen}",
            hint=f"{_did_you_mean(record)}layouts that are read: {LAYOUTS}",
        )
    return layout


def _recognise(row: Row) -> Layout | None:
    if "conversations" in row:
        return "sharegpt"
    if "messages" in row:
        return "messages"
    lists = [key for key in ("input", "output") if isinstance(row.get(key), list)]
    if "input" in lists or (lists and "instruction" not in row):
        return "turns"
    if "instruction" in row or "output" in row:
        return "alpaca"
    return "text" if "text" in row else None


def _judged(row: Row, layout: Layout | None) -> list[str]:
    """A truth value beside an answer (KTO) says whether it is good; it may be a bad one."""
    judged = layout not in (None, "text") and isinstance(row.get("label"), bool)
    return ["label"] if judged else []


def _alpaca(row: Row) -> Conversation:
    question = [text_at(row, "instruction"), optional_text(row, "input")]
    messages = _system(row, "system")
    history = [] if row.get("history") in (None, "", []) else list_at(row, "history")
    for number, pair in enumerate(history, 1):
        where = f"pair {number} of 'history'"
        if not isinstance(pair, list) or len(pair) != 2:
            size = f" of {len(pair)}" if isinstance(pair, list) else ""
            raise DataError(
                f"{where} is {type_name(pair)}{size}, not two texts",
                "write each as [question, answer]",
            )
        messages += _exchange(*(as_text(where, text) for text in pair))
    filled = [part for part in question if not blank(part)]
    if not filled:
        raise DataError(
            "the keys 'instruction' and 'input' are both empty",
            "ask something there, or remove the row",
        )
    answer = text_at(row, "output")
    if blank(answer):
        raise DataError("the key 'output' is empty", "fill in the answer, or remove the row")
    return Conversation((*messages, *_exchange("\n".join(filled), answer)))


def _turns(row: Row) -> Conversation:
    questions, answers = list_at(row, "input"), list_at(row, "output")
    if len(questions) != len(answers):
        raise DataError(
            f"'input' and 'output' differ in length ({len(questions)} and {len(answers)})",
            "each question needs one answer",
        )
    messages = _system(row, "system", "instruction")
    for number, (question, answer) in enumerate(zip(questions, answers, strict=True), 1):
        asked = as_text(f"turn {number} of 'input'", question)
        answered = as_text(f"turn {number} of 'output'", answer)
        for key, text in (("input", asked), ("output", answered)):
            if blank(text):
                raise DataError(
                    f"turn {number} of '{key}' is empty", "fill it in, or remove the row"
                )
        messages += _exchange(asked, answered)
    return Conversation(tuple(messages))


def _sharegpt(row: Row) -> Conversation:
    return _listed(row, "conversations", ("from", "value"), ("role", "content"))


def _messages(row: Row) -> Conversation:
    return _listed(row, "messages", ("role", "content"), ("from", "value"))


def _listed(row: Row, key: str, names: tuple[str, str], others: tuple[str, str]) -> Conversation:
    messages = _system(row, "system", "instruction")
    for number, turn in enumerate(list_at(row, key), 1):
        where = f"message {number} of '{key}'"
        if not isinstance(turn, dict):
            raise DataError(
                f"{where} is {type_name(turn)}, not an object", f"write {quoted(names)} in each"
            )
        used = others if all(name in turn for name in others) else names
        role = _speaker(text_at(turn, used[0], f"{where}: "), where)
        _refuse_unsupported(turn, where)
        _refuse_weights(turn, where)
        content = text_at(turn, used[1], f"{where}: ")
        if role != "system" or not blank(content):
            messages.append(Message(role, content))
    return Conversation(tuple(messages))


def _document(row: Row) -> Document:
    return Document(text_at(row, "text"))


READERS: dict[Layout, Callable[[Row], Conversation | Document]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "turns": _turns,
    "text": _document,
}


def _system(row: Row, *keys: str) -> list[Message]:
    contents = [optional_text(row, key) for key in keys]
    return [Message("system", content) for content in contents if not blank(content)]


def _exchange(question: str, answer: str) -> tuple[Message, Message]:
    return Message("user", question), Message("assistant", answer)


def _speaker(name: str, where: str) -> Role:
    if name in SPEAKERS:
        return SPEAKERS[name]
    if name in TOOL_SPEAKERS:
        raise DataError(
            f"{where} has the role {shown(name)}: tool use is not supported", "remove the row"
        )
    near = get_close_matches(name.lower(), SPEAKERS, n=1)
    did_you_mean = f"did you mean '{near[0]}'? " if near else ""
    raise DataError(
        f"{where} has the unknown role {shown(name)}",
        f"{did_you_mean}roles that are read: {', '.join(SPEAKERS)}",
    )


def _refuse_unsupported(row: Row, where: str) -> None:
    for key, what in UNSUPPORTED.items():
        if row.get(key) and row[key] != "[]":
            raise DataError(f"{where} has '{key}': {what} not supported", "remove the row")


def _refuse_weights(turn: Row, where: str) -> None:
    for key in WEIGHTS:
        if turn.get(key) not in (None, 1):
            raise DataError(
                f"{where} has '{key}' {shown(turn[key])}: weights of messages are not supported",
                "remove the key if every answer shall be learned, else the row",
            )


def _did_you_mean(row: Row) -> str:
    pairs = [
        (SequenceMatcher(None, name.lower(), key).ratio(), key, name)
        for name in list(row)[:COMPARED]
        for key in KEYS
        if name not in KEYS and len(name) <= 2 * len(key)
    ]
    ratio, key, name = max(pairs, default=(0.0, "", ""))
    return f"did you mean '{key}' instead of {shown(name)}? " if ratio >= ALIKE else ""
