"""Tables of documents as Markdown.

A merged cell is repeated in every row and column that it covers, so that each row can be read
alone; but a cell that covers a whole row, and a long text sideways, stands once, in the first
place. The first row is the header. Rows without any text are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from tongwen.text import is_han

LINES: Final = re.compile(r"[ \t]*\n\s*")
LONG: Final = 50
"""Characters of a text that is not repeated sideways."""


def markdown_table(places: Sequence[Sequence[int | None]], texts: Sequence[str]) -> str:
    """A Markdown table; for each place of the grid the number of the text that covers it."""
    rows = [_row(row, texts) for row in places]
    rows = [row for number, row in enumerate(rows) if number == 0 or any(row)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    rule = "|" + " --- |" * len(rows[0])
    return "\n".join([lines[0], rule, *lines[1:]])


def _row(places: Sequence[int | None], texts: Sequence[str]) -> list[str]:
    alone = len(set(places)) == 1
    cells: list[str] = []
    for column, place in enumerate(places):
        text = "" if place is None else joined_lines(texts[place]).replace("|", "\\|")
        again = place is not None and place in places[:column]
        cells.append("" if again and (alone or len(text) > LONG) else text)
    return cells


def joined_lines(text: str) -> str:
    """Lines of a cell as one; between Hanzi no blank is wanted."""
    return LINES.sub(_between, text.strip())


def _between(match: re.Match[str]) -> str:
    before, after = match.string[match.start() - 1], match.string[match.end()]
    return "" if _wide(before) or _wide(after) else " "


def _wide(char: str) -> bool:
    """Whether a character is a Hanzi or a sign that stands among them."""
    return is_han(char) or "\u3000" <= char <= "\u303f" or "\uff00" <= char <= "\uffef"
