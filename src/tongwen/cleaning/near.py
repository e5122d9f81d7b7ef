"""Near duplicates: texts that have most of their shingles in common with an earlier one.

    texts ── sketches (minhash) ── bands ── candidates ── exact similarity ── near duplicates

The sketch of a text is cut into bands of a few numbers; texts that agree in all numbers of one band
are candidates (locality-sensitive hashing; Leskovec, Rajaraman and Ullman, Mining of Massive
Datasets, 3.4). The bands are as wide as they may be for a pair at the threshold to be a candidate
with 99 %. The shingles of every candidate are then compared, so that no pair is reported whose
Jaccard similarity lies below the threshold.

The first is kept: a text is a near duplicate when it is similar to an earlier text that is none.
What is found depends on the texts and their order alone. Sketches and texts lie on disk; memory
grows by 25 bytes a text.

Limit: where more than `NEIGHBOURS` texts agree in a band, each is compared with the first
`NEIGHBOURS` of them and with as many before it. All but the first of a family of near duplicates
are found so; of a family of half-similar texts some may be missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tongwen.cleaning.minhash import PERMUTATIONS, Sketches, shingles, similarity
from tongwen.cleaning.scratch import U64, Sorted, Texts

RECALL: Final = 0.99
"""The least probability with which a pair at the threshold becomes a candidate."""
NEIGHBOURS: Final = 32
CACHED: Final = 1 << 22
"""Shingles that are kept in memory while candidates are compared: 32 MiB."""
FNV_PRIME: Final = np.uint64(0x100000001B3)


@dataclass(frozen=True, slots=True)
class Near:
    """One near duplicate: its number, the kept text that it is like, and how much."""

    number: int
    of: int
    similarity: float
    """Jaccard similarity of their shingles, at least the threshold."""
    place: int
    """How many texts were added before it."""


class NearDuplicates:
    """Finds the near duplicates among `texts`, whose sketches are added in the same order."""

    def __init__(self, scratch: Path, threshold: float, texts: Texts) -> None:
        assert 0 < threshold <= 1
        self._threshold = threshold
        self._rows = band_rows(threshold, PERMUTATIONS)
        self._texts = texts
        self._bands = Sorted(scratch / "near-bands")
        self._pairs = Sorted(scratch / "near-pairs")
        self._sketched = 0

    def add_sketches(self, rows: Sketches) -> None:
        """The sketches of the next texts in `texts`, which hold them before `find` is called."""
        width = self._rows
        bands = rows.shape[1] // width
        cut = rows[:, : bands * width].reshape(len(rows), bands, width).astype(np.uint64)
        keys = np.broadcast_to(np.arange(bands, dtype=np.uint64), (len(rows), bands)).copy()
        for column in range(width):
            keys = (keys ^ cut[:, :, column]) * FNV_PRIME
            keys ^= keys >> np.uint64(29)
        places = np.arange(self._sketched, self._sketched + len(rows), dtype=np.uint64)
        lettered = rows.any(axis=1)
        self._bands.add(keys[lettered].ravel(), np.repeat(places[lettered], bands))
        self._sketched += len(rows)

    def find(self) -> Iterator[Near]:
        """All near duplicates, by rising number."""
        assert self._sketched == len(self._texts), "a text without a sketch"
        for keys, places in self._bands.chunks(head=NEIGHBOURS):
            self._pairs.add(*_candidates(keys, places))
        yield from self._compared()

    def _compared(self) -> Iterator[Near]:
        dropped = np.zeros(len(self._texts), dtype=np.bool_)
        sets = _Sets(self._texts)
        for later, earlier in self._pairs.chunks():
            pairs = np.unique(np.stack([later, earlier], axis=1), axis=0)
            for place, other in pairs.tolist():
                if dropped[place] or dropped[other]:
                    continue
                share = sets.similarity(place, other, self._threshold)
                if share >= self._threshold:
                    dropped[place] = True
                    number, of = self._texts.number(place), self._texts.number(other)
                    yield Near(number, of, share, place)


class _Sets:
    """Shingles of texts, read again when they are needed."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._sets: dict[int, U64] = {}
        self._held = 0

    def similarity(self, one: int, other: int, least: float) -> float:
        """Jaccard similarity of two texts; 0 where their sizes alone put it below `least`."""
        a, b = self._of(one), self._of(other)
        if min(len(a), len(b)) < least * max(len(a), len(b)):
            return 0.0
        return similarity(a, b)

    def _of(self, place: int) -> U64:
        if place not in self._sets:
            hashes, _ = shingles([self._texts.codes(place)])
            if self._held > CACHED:
                self._sets.clear()
                self._held = 0
            hashes.sort()
            self._sets[place] = hashes[np.concatenate([[True], hashes[1:] != hashes[:-1]])]
            self._held += len(hashes)
        return self._sets[place]


def band_rows(threshold: float, permutations: int) -> int:
    """How many numbers a band has: as many as `RECALL` allows for a pair at the threshold."""
    rows = 1
    while rows < permutations:
        wider = rows + 1
        if 1 - (1 - threshold**wider) ** (permutations // wider) < RECALL:
            break
        rows = wider
    return rows


def _candidates(keys: U64, places: U64) -> tuple[U64, U64]:
    """(later, earlier) for the texts under one key: each with its neighbours and the first ones."""
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    lengths = np.diff(starts, append=len(keys))
    rank = np.arange(len(keys)) - np.repeat(starts, lengths)
    later, earlier = [], []
    for lag in range(1, min(int(lengths.max()), NEIGHBOURS + 1)):
        at = np.flatnonzero(rank >= lag)
        later.append(places[at])
        earlier.append(places[at - lag])
    crowded = np.flatnonzero(rank > NEIGHBOURS)
    for nth in range(NEIGHBOURS if len(crowded) else 0):
        later.append(places[crowded])
        earlier.append(places[crowded - rank[crowded] + nth])
    none = np.empty(0, dtype=np.uint64)
    return np.concatenate([none, *later]), np.concatenate([none, *earlier])
