"""The books: every row is used, held out, a duplicate, filtered or rejected, and nothing else.

`rejects.jsonl` has one object per row that is not used: `outcome` (duplicates, filtered, rejected),
`file`, `line`, `reason`, `hint`.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tongwen.cleaning.benchmarks import Benchmarks, Tally
from tongwen.cleaning.findings import Finding
from tongwen.cleaning.report import BenchmarkLine, ReasonLine, Report, SourceLine, write_report
from tongwen.cleaning.statistics import Statistics
from tongwen.data.flow import Opened
from tongwen.data.manifest import Balance, Contamination, SourceCounts, SourceFile
from tongwen.data.work import Sound, Turned
from tongwen.files import spelled

REJECTS: Final = "rejects.jsonl"
REPORT: Final = "report.html"
NUMBER: Final = re.compile(r"0x[0-9A-F]+|(?<![\w-])\d[\d,]*\b")
"""What differs between reasons that are the same."""
REASONS: Final = 1000
"""Different reasons that are counted; those that come later are summed up."""


@dataclass(frozen=True)
class RowsResult:
    """What became of the rows; `rows_in` = used + held_out + duplicates + filtered + rejected."""

    out: Path
    rows_in: int
    used: int
    held_out: int
    duplicates: int
    filtered: int
    rejected: int

    def __str__(self) -> str:
        return str(self.out)


@dataclass
class Reason:
    """How often a reason was given, and where first."""

    outcome: str
    first: str
    count: int = 0


class Account(ExitStack):
    """Counts the rows of the sources one after another, and writes down those not used."""

    def __init__(
        self, folder: Path, files: Sequence[SourceFile], benchmarks: Benchmarks | None = None
    ) -> None:
        super().__init__()
        self._files = files
        self._rejects = self.enter_context((folder / REJECTS).open("w", encoding="utf-8"))
        self._rows: Counter[str] = Counter()
        self._layouts: Counter[str] = Counter()
        self._first = [0]
        self._lines = array("Q")
        self.sources: list[SourceCounts] = []
        self.reasons: dict[str, Reason] = {}
        self.notes: Counter[str] = Counter()
        self.cut_characters = 0
        self.statistics = Statistics()
        self._tally = Tally(benchmarks) if benchmarks else None

    @property
    def rows(self) -> int:
        """Rows entered so far, which is the number of the next one."""
        return len(self._lines)

    @property
    def balance(self) -> Balance:
        """All sources together."""
        parts = (
            Balance(**source.model_dump(include=set(Balance.model_fields)))
            for source in self.sources
        )
        return sum(parts, Balance())

    def place(self, number: int) -> str:
        """`FILE:LINE` of a row that was entered."""
        file = self._files[bisect_right(self._first, number) - 1]
        return f"{file.name}:{self._lines[number]}"

    def use(self, sound: Sound) -> None:
        """A row is used or held out."""
        self._lines.append(sound.line)
        self._rows["used" if sound.split == "train" else sound.split] += 1
        self._layouts[sound.layout] += 1
        self.cut_characters += sound.cut
        noted = (*sound.notes, *sound.product.notes)
        self.notes.update({NUMBER.sub("N", note) for note in noted})
        self._find(sound.findings)
        if sound.product.measures is not None:
            self.statistics.count(sound.product.measures, sound.layout, sound.product.tokens)

    def turn_away(self, turned: Turned) -> None:
        """A row is not used."""
        reject = turned.reject
        self._lines.append(reject.line)
        self._rows[turned.outcome] += 1
        self._find(turned.findings)
        if self._tally is not None and turned.matches:
            self._tally.add(turned.matches)
        self._count(turned)
        record = {
            "outcome": turned.outcome,
            "file": spelled(reject.file),
            "line": reject.line,
            "reason": reject.reason,
            "hint": reject.hint,
        }
        self._rejects.write(json.dumps(record, ensure_ascii=False) + "\n")

    def close_source(self, opened: Opened) -> SourceCounts:
        """Balance the rows of one file."""
        file = self._files[len(self.sources)]
        counts = SourceCounts(
            # A place in a cache differs from machine to machine.
            path=file.name,
            sha256=file.sha256,
            bytes=file.bytes,
            origin=file.origin,
            form=opened.form,
            encoding=opened.encoding,
            note=opened.note,
            layouts=dict(sorted(self._layouts.items())),
            rows_in=self.rows - self._first[-1],
            used=self._rows["used"],
            held_out=self._rows["held_out"],
            duplicates=self._rows["duplicates"],
            filtered=self._rows["filtered"],
            rejected=self._rows["rejected"],
        )
        assert counts.balanced, counts
        self.sources.append(counts)
        self._first.append(self.rows)
        self._rows.clear()
        self._layouts.clear()
        return counts

    def benchmarks(self) -> list[Contamination]:
        """What was found of each benchmark that was looked for."""
        found = self._tally.found() if self._tally else ()
        return [Contamination(**asdict(one)) for one in found]

    def write_report(self, path: Path, title: str) -> None:
        """The books as a page to look at."""
        outcomes = [(source, source.outcomes()) for source in self.sources]
        report = Report(
            title=title,
            rows=self.balance.outcomes(),
            statistics=self.statistics,
            sources=[
                SourceLine(source.path, source.form, source.layouts, rows)
                for source, rows in outcomes
            ],
            reasons=[
                ReasonLine(reason.outcome, kind, reason.count, reason.first)
                for kind, reason in self.reasons.items()
            ],
            benchmarks=[
                BenchmarkLine(one.name, one.items, one.found, one.rows) for one in self.benchmarks()
            ],
        )
        write_report(path, report)

    def _find(self, findings: Sequence[Finding]) -> None:
        """Count what the rules found in the row that was entered last."""
        if findings:
            self.statistics.find(findings, self.place(self.rows - 1))
            self.notes.update({f"{one.action} by {one.rule}" for one in findings})

    def _count(self, turned: Turned) -> None:
        reject = turned.reject
        kind = NUMBER.sub("N", turned.kind or reject.reason)
        if kind not in self.reasons and len(self.reasons) >= REASONS:
            kind = "other reasons"
        first = f"{spelled(reject.file)}:{reject.line}"
        self.reasons.setdefault(kind, Reason(turned.outcome, first)).count += 1
