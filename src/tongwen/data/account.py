"""The books of `data prepare`: every row is used, held out or rejected, and nothing else happens.

`rejects.jsonl` has one object per rejected row: `file`, `line`, `reason`, `hint`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tongwen.data.encode import Item
from tongwen.data.manifest import Counts, SourceCounts, SourceFile, SplitCounts
from tongwen.data.shards import Split, TokenWriter
from tongwen.sources import Reject, Source

REJECTS: Final = "rejects.jsonl"
NUMBER: Final = re.compile(r"0x[0-9A-F]+|(?<![\w-])\d[\d,]*\b")
"""What differs between reasons that are the same."""
REASONS: Final = 1000
"""Different reasons that are counted; those that come later are summed up."""


@dataclass
class Reason:
    """How often a reason was given, and where first."""

    first: str
    count: int = 0


class Account:
    """Writes items and rejects into a prepared folder and counts them."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self._writers = {
            "train": TokenWriter(folder / "train", vocab_size),
            "held_out": TokenWriter(folder / "held_out", vocab_size),
        }
        self._rejects = (folder / REJECTS).open("w", encoding="utf-8")
        self._rows: Counter[str] = Counter()
        self._layouts: Counter[str] = Counter()
        self.reasons: dict[str, Reason] = {}
        self.sources: list[SourceCounts] = []
        self._split_rows: Counter[str] = Counter()
        self._counts: dict[tuple[str, str], Counts] = {}

    def accept(self, split: Split, layout: str, items: Iterable[Item]) -> None:
        """One row is used or held out, as these items."""
        self._rows["rows"] += 1
        self._rows[split] += 1
        self._split_rows[split] += 1
        self._layouts[layout] += 1
        for item in items:
            self._writers[split].add(item.ids, item.mask, item.bytes, item.language)
            counts = Counts(
                items=1,
                tokens=len(item.ids),
                trained_tokens=int(item.mask.sum()),
                bytes=item.bytes,
            )
            place = (split, item.language)
            self._counts[place] = self._counts.get(place, Counts()) + counts

    def reject(self, reject: Reject) -> None:
        """One row is rejected."""
        self._rows["rows"] += 1
        self._rows["rejected"] += 1
        kind = NUMBER.sub("N", reject.reason)
        if kind not in self.reasons and len(self.reasons) >= REASONS:
            kind = "other reasons"
        first = f"{reject.file.as_posix()}:{reject.line}"
        self.reasons.setdefault(kind, Reason(first)).count += 1
        record = {
            "file": reject.file.as_posix(),
            "line": reject.line,
            "reason": reject.reason,
            "hint": reject.hint,
        }
        self._rejects.write(json.dumps(record, ensure_ascii=False) + "\n")

    def close_source(self, file: SourceFile, source: Source) -> SourceCounts:
        """Balance the rows of one file."""
        counts = SourceCounts(
            **file.model_dump(),
            form=source.form,
            encoding=source.encoding,
            layouts=dict(sorted(self._layouts.items())),
            rows=self._rows["rows"],
            used=self._rows["train"],
            held_out=self._rows["held_out"],
            rejected=self._rows["rejected"],
        )
        assert counts.rows == counts.used + counts.held_out + counts.rejected, counts
        self.sources.append(counts)
        self._rows.clear()
        self._layouts.clear()
        return counts

    def splits(self) -> dict[str, SplitCounts]:
        """Amounts of each split, together and by language."""
        splits = {}
        for split in self._writers:
            languages = {
                language: counts
                for (of, language), counts in sorted(self._counts.items())
                if of == split
            }
            total = sum(languages.values(), Counts())
            splits[split] = SplitCounts(
                **total.model_dump(), rows=self._split_rows[split], languages=languages
            )
        return splits

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rejects.close()
        for writer in self._writers.values():
            writer.close()
