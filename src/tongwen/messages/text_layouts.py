"""Layouts of text to pretrain on: one text, two that say the same, a poem or a book of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tongwen.errors import DataError
from tongwen.messages.conversation import Document
from tongwen.messages.fields import Notes, Row, blank, filled, optional_text, text_at, type_name

TEXTS: Final = (
    *("text", "content", "sentence", "full_text", "raw_content", "body", "article", "passage"),
    *("paragraph", "document", "abstract", "正文", "内容", "文本"),
)
"""Keys of a text, the first that a row has counts."""
PAIRS: Final = (("classical", "modern"), ("en", "zh"), ("english", "chinese"))
"""Keys of two texts that say the same; a document is one below the other, in this order."""
HEADINGS: Final = ("title", "标题")
POEM_TITLES: Final = ("title", "rhythmic", "chapter")
POEM_LINES: Final = ("abstract", "paragraphs", "content")


def text(row: Row, _notes: Notes) -> Document:
    """`{"text": …}` or its like; a title goes above, except above a `text`, which is complete."""
    key = next(key for key in TEXTS if key in row)
    body = text_at(row, key)
    named = [] if key == "text" else filled(row, *HEADINGS)
    heading = text_at(row, named[0]) if named else ""
    return Document(body if body.startswith(heading) else f"{heading}\n{body}")


def pair(row: Row, _notes: Notes) -> Document:
    """`{"classical": …, "modern": …}` or `{"en": …, "zh": …}`."""
    names = next(names for names in PAIRS if set(names) <= set(row))
    texts = [text_at(row, name) for name in names]
    if any(map(blank, texts)):
        empty = names[[blank(text) for text in texts].index(True)]
        raise DataError(f"the key '{empty}' is empty", "fill it in, or remove the row")
    return Document("\n".join(texts))


def poem(row: Row, _notes: Notes) -> Document:
    """`{"title": …, "author": …, "paragraphs": [line, …]}`, also within one another."""
    if not any(_lines(row.get(key), key) for key in POEM_LINES):
        raise DataError("the poem has no lines", "fill them in, or remove the row")
    return Document("\n".join(_lines(row, "the row")))


def _lines(value: object, where: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [] if blank(value) else [value]
    if isinstance(value, list):
        return [line for part in value for line in _lines(part, where)]
    if not isinstance(value, dict):
        raise DataError(f"a line of '{where}' is {type_name(value)}, not text", "write text there")
    return list(_poem_lines(value))


def _poem_lines(row: Row) -> Iterator[str]:
    title = next((key for key in POEM_TITLES if key in row), None)
    for key in (title, "author"):
        if key and not blank(heading := optional_text(row, key)):
            yield heading.strip()
    for key in POEM_LINES:
        yield from _lines(row.get(key), key)
