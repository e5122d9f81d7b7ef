"""What a source yields: a row as it stands in its file, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tongwen.errors import DataError


@dataclass(frozen=True)
class Row:
    """One record as it stands in its file, not yet understood."""

    file: Path
    """The file; inside of an archive or workbook `a.zip/inner.jsonl`, `a.xlsx/Sheet1`."""
    line: int
    """Line where the record begins, from 1; in a table without lines its row."""
    record: object

    def reject(self, error: DataError) -> Reject:
        """This row, refused for what it holds."""
        return Reject(self.file, self.line, error.message, error.hint)


@dataclass(frozen=True)
class Reject:
    """One row that cannot be used: where it is, what is wrong, what to do."""

    file: Path
    line: int
    reason: str
    hint: str | None = None
