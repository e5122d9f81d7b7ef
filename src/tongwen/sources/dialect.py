"""How a table is written: its delimiter, its quotes, and whether its first line names columns."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

CSV: Final = "CSV"
TSV: Final = "TSV"
DELIMITERS: Final = ",\t;|"
PROSE: Final = (".txt", ".md", ".markdown")
"""Endings of texts, where lines of one number of tabs alone make no table."""
RECORDS: Final = 50
"""Records on which a table is judged."""
ENOUGH: Final = 3
"""Records of equal length that make a table of a file that does not end in .csv or .tsv."""
LONGEST_NAME: Final = 100
LONG: Final = 40
MANY_WORDS: Final = 5
"""Words of a name that might as well be a sentence."""
NUMBER: Final = re.compile(r"[-+]?[\d,]*\.?\d+%?")
YEAR: Final = re.compile(r"(19|20)\d\d")
SENTENCE: Final = re.compile(r"[.。!！?？:：]\s*$")
NAMES: Final = frozenset(
    "text content title prompt response completion instruction input output system history query "
    "question answer context conversations messages chosen rejected label "
    "文本 内容 标题 正文 问题 答案 回答 提问 指令 输入 输出 标签".split()
)
"""Names of columns that hardly begin a text by chance."""


@dataclass(frozen=True)
class Dialect:
    """How the cells of a table are told apart, and what its columns are called."""

    delimiter: str
    quoted: bool = True
    """Whether quotes surround cells; a TSV often has quotes that are only text."""
    header: bool = True

    @property
    def form(self) -> str:
        """CSV or TSV."""
        return TSV if self.delimiter == "\t" else CSV


def dialect_of(text: str, whole: bool, ending: str) -> Dialect | None:
    """The dialect of a table by its beginning; None where the text is none.

    `whole` says that nothing follows. Without .csv or .tsv at the end of the name there must be
    several records of one length, and, where delimiter or ending are doubtful, a known name on top.
    """
    believed = {".csv": CSV, ".tsv": TSV, ".tab": TSV}.get(ending)
    if not text.strip():
        return Dialect("\t" if believed == TSV else ",") if believed else None
    readings = []
    for delimiter in DELIMITERS:
        for quoted in (True, False) if delimiter == "\t" else (True,):
            records = _records(text, whole, delimiter, quoted)
            named = delimiter != "\t" or ending in PROSE
            if records and len(records[0]) > 1 and (believed or _is_table(records, named)):
                readings.append((_evenness(records), Dialect(delimiter, quoted), records))
    if not readings:
        if not believed:
            return None
        # One column, or a table that is damaged from its first line on.
        delimiter = "\t" if believed == TSV else ","
        records = _records(text, whole, delimiter, quoted=True)
        return Dialect(delimiter, header=not records or not _is_data(records))
    _, dialect, records = max(readings, key=lambda reading: reading[0])
    return Dialect(dialect.delimiter, dialect.quoted, not _is_data(records))


def _records(text: str, whole: bool, delimiter: str, quoted: bool) -> list[list[str]]:
    """The first records; none where they cannot be read so."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    found: list[list[str]] = []
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        for cells in reader:
            if cells:
                found.append(cells)
            if len(found) > RECORDS:
                break
    except csv.Error:
        # A damaged line further down is the business of its reader.
        return found if len(found) >= ENOUGH else []
    return found[:-1] if len(found) > 1 and not whole else found


def _evenness(records: Sequence[Sequence[str]]) -> tuple[float, int]:
    """The share of records as long as the first, and that length."""
    width = len(records[0])
    return sum(len(cells) == width for cells in records) / len(records), width


def _is_table(records: Sequence[Sequence[str]], named: bool) -> bool:
    """Whether records make a table; `named` asks for a known name on top in any case."""
    known = any(name.strip().lower() in NAMES for name in records[0])
    if len(records) < ENOUGH or len({len(cells) for cells in records}) > 1:
        return len(records) > 1 and _evenness(records)[0] > 0.9 and known
    return known or not named


def _is_data(records: Sequence[Sequence[str]]) -> bool:
    """Whether the first record is one like the others rather than names of columns."""
    first, rest = records[0], records[1:]
    names = [cell.strip().lower() for cell in first]
    if NAMES & set(names):
        return False
    if len(first) == 1:
        return not _is_name(names[0], [cells[0] for cells in rest])
    if any(map(YEAR.fullmatch, names)):
        return False
    below = [[cells[x] for cells in rest if x < len(cells)] for x in range(len(first))]
    return any(map(_is_like, first, below))


def _is_like(cell: str, below: Sequence[str]) -> bool:
    """Whether a cell on top is a value as those below it rather than their name."""
    cell = cell.strip()
    if len(cell) > LONGEST_NAME or "\n" in cell or _is_number(cell):
        return True
    if cell and 10 * below.count(cell) > len(below):
        return True
    ends = bool(SENTENCE.search(cell))
    if not ends and len(cell) < LONG and cell.count(" ") < MANY_WORDS - 1:
        return False
    # Forms have questions for names; their answers are shorter, and are no sentences.
    also = sum(bool(SENTENCE.search(other)) for other in below)
    long = sum(2 * len(other) >= len(cell) for other in below)
    return 2 * max(also if ends else 0, long) >= len(below)


def _is_name(cell: str, below: Sequence[str]) -> bool:
    """Whether the top of a single column is its name: far shorter than the rest, or above numbers.

    In doubt it is not, since a row that is too many is seen, and one that is lost is not.
    """
    if not below or _is_number(cell):
        return False
    return 2 * len(cell) * len(below) <= sum(map(len, below)) or all(map(_is_number, below))


def _is_number(cell: str) -> bool:
    # The length comes first: a number of very many digits takes very long to match.
    return len(cell) <= LONGEST_NAME and NUMBER.fullmatch(cell.strip()) is not None


def column_names(cells: Sequence[str]) -> tuple[list[str], str | None]:
    """The names of columns, and what is wrong with them.

    The first may lack its name, as in tables that pandas wrote with the numbers of the rows.
    """
    names = [cell.strip() for cell in cells]
    if names and not names[0] and len(names) > 1:
        names[0] = "column_1"
    empty = [number for number, name in enumerate(names, 1) if not name]
    if empty:
        return names, f"column {empty[0]} of the header has no name"
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        return names, f"two columns have the name “{twice[0]}”"
    return names, None


def numbered(width: int) -> list[str]:
    """Names for the columns of a table that has none."""
    return [f"column_{number}" for number in range(1, width + 1)]
