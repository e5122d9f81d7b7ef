"""Items into the two splits of a prepared folder, counted by language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tongwen.data.encode import Item
from tongwen.data.manifest import Counts, SplitCounts
from tongwen.data.shards import Split, TokenWriter

SPLITS: tuple[Split, ...] = ("train", "held_out")


class TokenSink(ExitStack):
    """Writes the items of rows and counts them."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        super().__init__()
        self._writers = {
            split: self.enter_context(TokenWriter(folder / split, vocab_size)) for split in SPLITS
        }
        self._rows: Counter[str] = Counter()
        self._counts: dict[tuple[Split, str], Counter[str]] = {}
        self.cut_tokens = 0

    def add(self, split: Split, items: Sequence[Item]) -> None:
        """Write the items of one row."""
        self._rows[split] += 1
        for item in items:
            self._writers[split].add(item.ids, item.mask, item.bytes, item.language, item.kind)
            self.cut_tokens += item.dropped
            counts = self._counts.setdefault((split, item.language), Counter())
            counts["items"] += 1
            counts["tokens"] += len(item.ids)
            counts["trained_tokens"] += int(item.mask.sum())
            counts["bytes"] += item.bytes

    def splits(self) -> dict[str, SplitCounts]:
        """Amounts of each split, together and by language."""
        return {split: self._split(split) for split in SPLITS}

    def _split(self, split: Split) -> SplitCounts:
        languages = {
            language: Counts(**counts)
            for (of, language), counts in sorted(self._counts.items())
            if of == split
        }
        total = sum(languages.values(), Counts())
        return SplitCounts(**total.model_dump(), rows=self._rows[split], languages=languages)
