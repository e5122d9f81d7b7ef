"""Read one row of data, whatever its layout, as a conversation, a document or a preference.

| layout          | row |
|-----------------|-----|
| preference      | `{"prompt": …, "chosen": …, "rejected": …}`, each text or messages |
| judged          | a conversation with `label` or `kto_tag`: whether its last answer is good |
| sharegpt        | `{"conversations": [{"from": "human", "value": …}, …]}` |
| messages        | `{"messages": [{"role": "user", "content": …}, …]}`, as OpenAI writes them |
| firefly         | `{"conversation": [{"human": …, "assistant": …}, …]}` |
| turns           | `{"input": [question, …], "output": [answer, …]}` |
| seed task       | `{"instruction": …, "instances": [{"input": …, "output": …}]}` |
| alpaca          | `{"instruction": …, "input": …, "output": …}`, also with `history`, `system` |
| index           | `{"system": …, "human": …, "assistant": …}` |
| question-answer | `{"question": …, "answer": …}`, `{"prompt": …, "completion": …}`, … |
| pair            | `{"classical": …, "modern": …}`, `{"en": …, "zh": …}`: twice the same |
| poem            | `{"title": …, "author": …, "paragraphs": [line, …]}` |
| text            | `{"text": …}`, `{"title": …, "content": …}`, or a string alone |

The layout is recognised by the keys; where a row has those of several, the first in this table
counts, and keys filled with null do not. Other keys (`id`, `source`, …) are ignored. A layout that
is not here is described by a mapping (`tongwen.messages.mapping`).

What a row is mended in is noted, never silent: a last question that nothing answers is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher, get_close_matches
from itertools import dropwhile
from typing import TYPE_CHECKING, Final, Literal, cast

from tongwen.errors import DataError
from tongwen.messages import chat_layouts as chat
from tongwen.messages import preference_layouts as preferences
from tongwen.messages import question_layouts as questions
from tongwen.messages import text_layouts as texts
from tongwen.messages.conversation import Conversation, Document, Item, check
from tongwen.messages.fields import KEYS, Notes, Row, filled, quoted, shown, type_name
from tongwen.messages.tools import TOOLS

if TYPE_CHECKING:
    from tongwen.messages.mapping import Mapping

Layout = Literal[
    "preference",
    "judged",
    "sharegpt",
    "messages",
    "firefly",
    "turns",
    "seed task",
    "alpaca",
    "index",
    "question-answer",
    "pair",
    "poem",
    "text",
]

COMMON: Final = (
    'rows are read by keys such as "messages", "conversations", "instruction" and "output", '
    '"question" and "answer", "chosen" and "rejected", "text"; a few lines of TOML map any others'
)
ALIKE: Final = 0.75
"""Above this likeness a key is taken for a misspelt one."""
COMPARED: Final = 50
"""Keys of an unknown row that are looked at for a misspelt one."""
UNANSWERED: Final = "the last question has no answer and was left out"

Reader = Callable[[Row, Notes], Item]
READERS: Final[dict[Layout, Reader]] = {
    "preference": preferences.preference,
    "sharegpt": chat.sharegpt,
    "messages": chat.messages,
    "firefly": chat.firefly,
    "turns": chat.turns,
    "seed task": questions.seed_task,
    "alpaca": questions.alpaca,
    "index": chat.index,
    "question-answer": questions.question_answer,
    "pair": texts.pair,
    "poem": texts.poem,
    "text": texts.text,
}

SIGNS: Final[tuple[tuple[Layout, str], ...]] = (
    *(("preference", key) for key in preferences.MARKS),
    ("sharegpt", "conversations"),
    ("messages", "messages"),
    ("firefly", "conversation[]"),
    ("turns", "input[]"),
    ("seed task", "instances"),
    ("alpaca", "instruction"),
    ("turns", "output[]"),
    ("index", "human assistant"),
    *(("question-answer", f"{q} {a}") for q in questions.QUESTIONS for a in questions.ANSWERS),
    *(("pair", " ".join(names)) for names in texts.PAIRS),
    ("poem", "paragraphs[]"),
    ("poem", "content[]"),
    *(("text", key) for key in texts.TEXTS),
    ("alpaca", "output"),
)
"""Keys that show a layout, the first that a row has all of; `[]` marks one that holds a list."""
SIGN_SETS: Final = tuple((layout, frozenset(signs.split())) for layout, signs in SIGNS)


@dataclass(frozen=True, slots=True)
class Parsed:
    """One row, understood."""

    item: Item
    layout: Layout
    notes: tuple[str, ...]
    """What was left out or taken in an unusual way; the same thing in the same words."""


def parse(record: object, mapping: Mapping | None = None) -> Item:
    """Read one decoded JSON value; a DataError says what is wrong with it."""
    return parse_noted(record, mapping).item


def parse_noted(record: object, mapping: Mapping | None = None) -> Parsed:
    """Read one decoded JSON value, and say by which layout and what was left out of it."""
    try:
        return _parsed(record if mapping is None else mapping.row(record))
    except RecursionError:
        raise DataError("the row is nested too deeply", "flatten it, or remove the row") from None


def _parsed(row: object) -> Parsed:
    notes: Notes = []
    layout = layout_of(row)
    item = _read(row, layout, notes)
    if isinstance(item, Conversation):
        item = _answered(item, notes)
    check(item)
    return Parsed(item, layout, tuple(dict.fromkeys(notes)))


def layout_of(record: object) -> Layout:
    """Name the layout of one decoded JSON value, by its keys alone."""
    if isinstance(record, str):
        return "text"
    if not isinstance(record, dict):
        raise DataError(f"the row is {type_name(record)}, not an object", hint=COMMON)
    # Tables exported as JSON lines fill the columns that a row does not use with null.
    full = {key: value for key, value in record.items() if value is not None}
    layout = _recognise(full) or _recognise(record)
    if layout is None:
        raise _unknown(record)
    spoken = layout not in ("preference", "pair", "poem", "text")
    # A judgement that is missing must not make a bad answer one to learn.
    judged = preferences.is_judgement(full) or "kto_tag" in record
    return "judged" if spoken and judged else layout


def _recognise(row: Row) -> Layout | None:
    marks = set(row) | {f"{key}[]" for key, value in row.items() if isinstance(value, list)}
    found = next((layout for layout, signs in SIGN_SETS if signs <= marks), None)
    misspelt = found == "question-answer" and get_close_matches(
        "instruction", row, n=1, cutoff=ALIKE
    )
    return "alpaca" if misspelt else found


def _read(record: object, layout: Layout, notes: Notes) -> Item:
    if isinstance(record, str):
        return Document(record)
    row = cast(Row, record)
    chat.refuse_media(row, "the row")
    if layout != "judged":
        item = READERS[layout](row, notes)
        if isinstance(item, Document) and (tools := filled(row, *TOOLS)):
            raise DataError(f"the row has '{tools[0]}', which a text cannot use", "remove the key")
        return item
    unjudged = {key: value for key, value in row.items() if key not in preferences.LABELS}
    conversation = READERS[layout_of(unjudged)](unjudged, notes)
    assert isinstance(conversation, Conversation), "only what is spoken is judged"
    return preferences.judged(row, conversation)


def _answered(conversation: Conversation, notes: Notes) -> Conversation:
    """The conversation up to its last answer, if it has one."""
    unanswered = dropwhile(lambda m: m.role in ("user", "tool"), reversed(conversation.messages))
    kept = tuple(unanswered)[::-1]
    if len(kept) == len(conversation.messages) or all(m.role != "assistant" for m in kept):
        return conversation
    notes.append(UNANSWERED)
    return replace(conversation, messages=kept)


def _unknown(row: Row) -> DataError:
    asked = [key for key in ("turns", *questions.QUESTIONS) if key in row]
    if asked:
        near = _did_you_mean(row, questions.ANSWERS)
        return DataError(
            f"a question ({quoted(asked[:1])}) without an answer; there are {quoted(row)}",
            hint=near or "add it as 'answer', or remove the row: questions alone teach nothing",
        )
    seen = f"with the keys {quoted(row)}" if row else "without any key"
    return DataError(f"no known layout: a row {seen}", hint=f"{_did_you_mean(row, KEYS)}{COMMON}")


def _did_you_mean(row: Row, keys: Sequence[str]) -> str:
    pairs = [
        (SequenceMatcher(None, name.lower(), key).ratio(), key, name)
        for name in list(row)[:COMPARED]
        for key in keys
        if name not in KEYS and len(name) <= 2 * len(key)
    ]
    ratio, key, name = max(pairs, default=(0.0, "", ""))
    return f"did you mean '{key}' instead of {shown(name)}? " if ratio >= ALIKE else ""
