"""Fields of one row of data: taken out with their type checked, named when they are wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from tongwen.errors import DataError

Row = Mapping[str, object]
Notes = list[str]
"""What was left out or changed in a row that is used: short lines that can be counted."""

KEYS = (
    *("instruction", "input", "output", "history", "instances"),
    *("conversations", "conversation", "messages", "human", "assistant", "chosen", "rejected"),
    *("prompt", "completion", "question", "answer", "query", "response"),
    *("text", "content", "sentence", "title", "paragraphs"),
)
"""Keys that a misspelt one may stand for."""
SHOWN = 8  # keys of a row that an error lists
LONGEST = 40  # characters of a name or value that an error quotes
JSON_TYPES = {
    bool: "a boolean",
    dict: "an object",
    float: "a number",
    int: "a number",
    list: "a list",
    str: "text",
    type(None): "null",
}


def optional_text(row: Row, key: str) -> str:
    """Text under a key that may be missing or null, which is empty text."""
    return "" if row.get(key) is None else text_at(row, key)


def text_at(row: Row, key: str, where: str = "") -> str:
    """Text under a key that must be there; `where` says in what part of the row."""
    return as_text(f"{where}the key '{key}'", value_at(row, key, where))


def as_text(where: str, value: object) -> str:
    """The value itself, which must be text."""
    if not isinstance(value, str):
        raise DataError(
            f"{where} is {type_name(value)}, not text", "write text there, or remove the row"
        )
    return value


def list_at(row: Row, key: str, where: str = "") -> list[object]:
    """A list under a key that must be there, with something in it."""
    return as_list(f"{where}the key '{key}'", value_at(row, key, where))


def as_list(where: str, value: object) -> list[object]:
    """The value itself, which must be a list with something in it."""
    if not isinstance(value, list):
        raise DataError(f"{where} is {type_name(value)}, not a list", "write a list there")
    if not value:
        raise DataError(f"{where} is an empty list", "fill it in, or remove the row")
    return value


def value_at(row: Row, key: str, where: str = "") -> object:
    """What is under a key that must be there."""
    if key in row:
        return row[key]
    near = get_close_matches(key, [name for name in row if name not in KEYS], n=1)
    hint = f"add '{key}', or remove the row"
    if near:
        hint = f"did you mean '{key}' instead of {shown(near[0])}?"
    present = f"there are {quoted(row)}" if row else "there is none"
    raise DataError(f"{where}the key '{key}' is missing; {present}", hint)


def filled(row: Row, *keys: str) -> list[str]:
    """Those of the keys that hold something: not null, not empty, not the text of an empty list."""
    return [key for key in keys if row.get(key) not in (None, "", [], {}, "[]")]


def blank(text: str) -> bool:
    """Whether there is nothing to read."""
    return not text or text.isspace()


def type_name(value: object) -> str:
    """The type of a JSON value, as a person would say it."""
    return JSON_TYPES.get(type(value), f"a {type(value).__name__}")


def shown(value: object) -> str:
    """A value or name from the data in an error message: quoted, on one line, not endless."""
    text = repr(value[: LONGEST + 1] if isinstance(value, str) else value)
    return text if len(text) <= LONGEST + 2 else f"{text[:LONGEST]}…"


def quoted(names: Iterable[str]) -> str:
    """Names for an error message; of many only the first."""
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(shown(name) for name in listed[:SHOWN]) + more
