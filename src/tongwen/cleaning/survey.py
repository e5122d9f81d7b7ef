"""Pass one over the rows: which of them are duplicates, and which passages are to be cut.

    pass one   parse, clean ─ fingerprints (pure, in any process) ─ Survey.add, by rising number
    pass two   parse, clean ─ Verdicts.among(rows) ─ drop, cut or keep ─ encode

Exact duplicates are known at once; where nothing else is asked for (`two_passes`), one pass does.
Near duplicates and repeated passages are known when all rows have been seen. An exact duplicate is
not compared with anything else. A duplicate is not the first place of any passage, so that what is
cut stands in a row that was not dropped for it.

Verdicts follow from the rows and their numbers alone. Memory: about 100 bytes a row; all else lies
in the scratch folder, which vanishes with the survey and means nothing to any other run.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tongwen.cleaning.exact import Seen, item_key
from tongwen.cleaning.minhash import Sketches, sketches
from tongwen.cleaning.near import NearDuplicates
from tongwen.cleaning.repeats import LEAST, Span, find_repeats
from tongwen.cleaning.scratch import Texts
from tongwen.config.duplicates import DuplicatesConfig
from tongwen.errors import ConfigError
from tongwen.messages import Conversation, Document, Message
from tongwen.messages.conversation import Item, Judged, Preference

BATCH: Final = 1 << 12
"""Sketches that wait for being written together."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """This row says what an earlier one says."""

    of: int
    """The number of the earlier row, which is kept."""
    similarity: float
    """1 for an exact duplicate; else the share of shingles in common."""


@dataclass(frozen=True, slots=True)
class Cut:
    """These spans of a document's characters stand in kept rows already."""

    spans: tuple[Span, ...]


class Fingerprint(NamedTuple):
    """What a survey has to know of a row."""

    key: bytes
    text: str
    """Empty where the survey compares no texts."""
    is_document: bool
    sketch: Sketches | None


def two_passes(config: DuplicatesConfig) -> bool:
    """Whether verdicts are known only when all rows have been seen."""
    return config.duplicates == "near" or config.repeats > 0


def fingerprints(items: Sequence[Item], config: DuplicatesConfig) -> list[Fingerprint]:
    """A pure function of each item; many at a time, as that is faster."""
    texts = ["\n".join(_texts(item)) if two_passes(config) else "" for item in items]
    rows: Sequence[Sketches | None] = [None] * len(items)
    if config.duplicates == "near":
        rows = list(sketches(texts))
    return [
        Fingerprint(item_key(item), text, isinstance(item, Document), row)
        for item, text, row in zip(items, texts, rows, strict=True)
    ]


class Survey(ExitStack):
    """Takes the fingerprints of all rows, by rising number; gives the verdicts."""

    def __init__(self, config: DuplicatesConfig, scratch: Path) -> None:
        """`scratch` is made here and removed at the end; it belongs inside the folder in work."""
        if 0 < config.repeats < LEAST:
            raise ConfigError(
                f"repeats = {config.repeats} would cut ordinary words",
                f"the least is {LEAST} characters; 50 to 200 are usual, 0 cuts nothing",
            )
        super().__init__()
        scratch.mkdir()
        self.callback(shutil.rmtree, scratch, ignore_errors=True)
        self._config, self._scratch = config, scratch
        self._seen = Seen()
        self._texts = self.enter_context(closing(Texts(scratch / "texts")))
        self._documents = bytearray()
        self._near = NearDuplicates(scratch, config.near_threshold, self._texts)
        self._sketches: list[Sketches] = []
        self._exact = self.enter_context(closing(_Table(scratch / "exact", DUPLICATE)))
        self._nearly = self.enter_context(closing(_Table(scratch / "near", DUPLICATE)))
        self._cuts = self.enter_context(closing(_Table(scratch / "cuts", CUT)))

    def add(self, number: int, row: Fingerprint) -> Duplicate | None:
        """Take in a row; the verdict on it where it is an exact duplicate."""
        if self._config.duplicates != "keep":
            of = self._seen.add(row.key, number)
            if of is not None:
                self._exact.add(number, (of, 1.0))
                return Duplicate(of, 1.0)
        if self._config.duplicates == "near" or (self._config.repeats and row.is_document):
            self._texts.add(number, row.text)
            self._documents.append(row.is_document)
        if row.sketch is not None:
            self._sketches.append(row.sketch)
            if len(self._sketches) >= BATCH:
                self._flush()
        return None

    def verdicts(self) -> Verdicts:
        """The verdicts on all rows, once all have been added."""
        among = np.frombuffer(bytes(self._documents), dtype=np.bool_).copy()
        if self._config.duplicates == "near":
            self._flush()
            for found in self._near.find():
                self._nearly.add(found.number, (found.of, found.similarity))
                among[found.place] = False
        if self._config.repeats:
            places = np.flatnonzero(among).tolist()
            for repeats in find_repeats(self._texts, self._scratch, self._config.repeats, places):
                for span in repeats.spans:
                    self._cuts.add(repeats.number, span)
        return Verdicts(self._exact, self._nearly, self._cuts)

    def _flush(self) -> None:
        if self._sketches:
            self._near.add_sketches(np.stack(self._sketches))
            self._sketches.clear()


class Verdicts:
    """What is to become of each row; readable while the survey is open."""

    def __init__(self, exact: _Table, near: _Table, cuts: _Table) -> None:
        self._tables, self._cuts = (exact, near), cuts

    def among(self, begin: int, end: int) -> dict[int, Duplicate | Cut]:
        """The verdicts on the rows from `begin` up to `end`; a row without one is kept as it is."""
        found: dict[int, Duplicate | Cut] = {}
        for number, span in self._cuts.between(begin, end):
            before = found.get(number)
            found[number] = Cut((*(before.spans if isinstance(before, Cut) else ()), span))
        for table in self._tables:
            for number, (of, similarity) in table.between(begin, end):
                found[number] = Duplicate(of, similarity)
        return found


DUPLICATE: Final = np.dtype([("of", "<u8"), ("similarity", "<f8")])
CUT: Final = np.dtype([("begin", "<u8"), ("end", "<u8")])


class _Table:
    """Rows on disk under rising numbers, several under one where needed."""

    def __init__(self, stem: Path, dtype: np.dtype[Any]) -> None:
        self._paths, self._dtype = (stem.with_suffix(".numbers"), stem.with_suffix(".rows")), dtype
        self._files = [path.open("wb") for path in self._paths]
        self._open: tuple[npt.NDArray[np.uint64], npt.NDArray[Any]] | None = None

    def add(self, number: int, row: tuple[float, ...]) -> None:
        self._files[0].write(np.uint64(number).tobytes())
        self._files[1].write(np.array(row, dtype=self._dtype).tobytes())

    def between(self, begin: int, end: int) -> Iterator[tuple[int, Any]]:
        numbers, rows = self._open = self._open or self._opened()
        first, last = np.searchsorted(numbers, np.array([begin, end], dtype=np.uint64))
        yield from zip(numbers[first:last].tolist(), rows[first:last].tolist(), strict=True)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _opened(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[Any]]:
        self.close()
        if not self._paths[0].stat().st_size:
            return np.empty(0, dtype=np.uint64), np.empty(0, dtype=self._dtype)
        numbers, rows = (
            np.memmap(path, dtype=dtype, mode="r")
            for path, dtype in zip(self._paths, (np.dtype("<u8"), self._dtype), strict=True)
        )
        return numbers, rows


def _texts(item: Item) -> Iterator[str]:
    match item:
        case Document(text):
            yield text
        case Conversation(messages):
            yield from _said(messages)
        case Preference(prompt, chosen, rejected):
            yield from _said((*prompt, *chosen, *rejected))
        case Judged(conversation):
            yield from _said(conversation.messages)


def _said(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        yield message.content
        yield from (call.arguments for call in message.calls)
