"""What does not fit into memory: texts and sorted records in files of a scratch folder.

`Texts` keeps texts by number. `Sorted` sorts any amount of records: they are sorted in memory a
chunk at a time, each chunk is written as one run, and reading merges the runs range by range
(external merge sort; Knuth, TAOCP 3, 5.4). The folder is the caller's: whoever makes it removes it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.uint32]

CHUNK: Final = 1 << 20
"""Records that are sorted at once: 16 MiB, and about four times that while they are."""
CACHED: Final = 1 << 22
"""Characters of texts that are kept in memory after they were read: 16 MiB."""


def codes_of(text: str) -> Codes:
    """The code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


class Texts:
    """Texts on disk, each under a number; the numbers must rise.

    A text takes 1, 2 or 4 bytes a character: ASCII, the basic plane, all else. Memory: 24 bytes a
    text, and those read last.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._reader = path.open("rb")
        self._numbers = array("q")
        self._ends = array("q")
        self._lengths = array("q")
        self._read: dict[int, Codes] = {}
        self._held = 0

    def add(self, number: int, text: str) -> None:
        """Keep a text."""
        assert not self._numbers or number > self._numbers[-1], "numbers must rise"
        start = self._ends[-1] if self._ends else 0
        data = _encoded(text)
        self._file.write(data)
        self._numbers.append(number)
        self._ends.append(start + len(data))
        self._lengths.append(len(text))

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, place: int) -> int:
        """The number of the text at a place, counted from 0."""
        return self._numbers[place]

    def length(self, place: int) -> int:
        """How many characters the text at a place has."""
        return self._lengths[place]

    def codes(self, place: int) -> Codes:
        """The code points of the text at a place."""
        if place not in self._read:
            if self._held > CACHED:
                self._read.clear()
                self._held = 0
            self._read[place] = self._codes(place)
            self._held += self._lengths[place]
        return self._read[place]

    def _codes(self, place: int) -> Codes:
        start, end = (self._ends[place - 1] if place else 0), self._ends[place]
        self._file.flush()
        self._reader.seek(start)
        data = self._reader.read(end - start)
        length = self._lengths[place]
        width = (end - start) // length if length else 1
        return np.frombuffer(data, dtype=f"<u{width}").astype(np.uint32)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._reader.close()


def _encoded(text: str) -> bytes:
    if text.isascii():
        return text.encode("ascii")
    data = text.encode("utf-16-le", "surrogatepass")
    return data if len(data) == 2 * len(text) else text.encode("utf-32-le", "surrogatepass")


class Sorted:
    """Records (key, value), read back by rising key, and within a key by rising value.

    A key that has more records than a chunk must get them by rising value.
    """

    def __init__(self, stem: Path, chunk: int = CHUNK) -> None:
        self._paths = stem.with_suffix(".keys"), stem.with_suffix(".values")
        for path in self._paths:
            path.write_bytes(b"")
        self._chunk = chunk
        self._waiting: list[tuple[U64, U64]] = []
        self._held = 0
        self._runs: list[int] = []

    def add(self, keys: U64, values: U64) -> None:
        """Add records."""
        assert len(keys) == len(values)
        if len(keys):
            self._waiting.append((keys, values))
            self._held += len(keys)
        if self._held >= self._chunk:
            self._write()

    def chunks(self, head: int = 1) -> Iterator[tuple[U64, U64]]:
        """All records in order; a key is in one chunk, unless it has more records than one holds.

        Then it comes in several, each of which begins with the key's first `head` records again.
        """
        self._write()
        if not self._runs:
            return
        columns = [np.memmap(path, dtype="<u8", mode="r") for path in self._paths]
        bounds = np.cumsum([0, *self._runs])
        runs = [columns[0][a:b] for a, b in pairwise(bounds)]
        for places in self._ranges(runs):
            slices = [slice(*pair) for pair in bounds[:-1, None] + places]
            if (places[:, 1] - places[:, 0]).sum() <= self._chunk:
                yield _by_key(*(np.concatenate([column[s] for s in slices]) for column in columns))
            else:
                yield from self._pieces(columns[0], columns[1], slices, head)

    def _write(self) -> None:
        if not self._waiting:
            return
        columns = _by_key(*map(np.concatenate, zip(*self._waiting, strict=True)))
        for path, column in zip(self._paths, columns, strict=True):
            with path.open("ab") as file:
                file.write(column.astype("<u8", copy=False).tobytes())
        self._runs.append(len(columns[0]))
        self._waiting.clear()
        self._held = 0

    def _ranges(self, runs: list[U64]) -> Iterator[npt.NDArray[np.int64]]:
        """For each range of keys that fits into a chunk, or is one key, its place in every run."""
        step = max(1, self._chunk // (4 * len(runs)))
        sample = np.unique(np.concatenate([run[::step] for run in runs]))
        # With `key + 1` beside `key`, a key that fills chunks on its own has a range of its own.
        cuts = np.unique(np.concatenate([sample, sample[sample < np.uint64(2**64 - 1)] + 1]))
        at = np.stack([np.searchsorted(run, cuts) for run in runs])
        at = np.column_stack([at, [len(run) for run in runs]])
        begin, totals = np.zeros(len(runs), dtype=np.int64), at.sum(axis=0)
        for i in range(at.shape[1]):
            last = i + 1 == at.shape[1]
            if last or totals[i + 1] - begin.sum() > self._chunk:
                if totals[i] > begin.sum():
                    yield np.column_stack([begin, at[:, i]])
                begin = at[:, i]

    def _pieces(
        self, keys: U64, values: U64, slices: list[slice], head: int
    ) -> Iterator[tuple[U64, U64]]:
        """The records of one key in several chunks; runs follow each other, so they are sorted."""
        first: list[U64] = []
        for part in slices:
            for start in range(part.start, part.stop, self._chunk):
                piece = slice(start, min(start + self._chunk, part.stop))
                column = np.concatenate([*first, values[piece]])
                yield np.full(len(column), keys[start]), column
                first = [column[:head]]


def _by_key(keys: U64, values: U64) -> tuple[U64, U64]:
    """Records by key, then by value; most keys are alone, so a stable sort would be wasted."""
    order = np.argsort(keys)
    keys, values = keys[order], values[order]
    same = keys[1:] == keys[:-1]
    tied = np.flatnonzero(np.concatenate([[False], same]) | np.concatenate([same, [False]]))
    values[tied] = values[tied][np.lexsort((values[tied], keys[tied]))]
    return keys, values
