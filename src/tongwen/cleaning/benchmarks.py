"""Decontamination: rows that hold the questions of a benchmark.

Compared are letters and digits alone (see `fold`): case, width, blanks, punctuation, and the choice
between simplified and traditional characters make no difference. A question is found by

    substring   all of it stands in the text
    n-gram      at least `SHARE` of its n-grams do: 50 characters for questions in Latin letters, as
                in the GPT-4 report (OpenAI, 2023, appendix C: about the 13 words of GPT-3), and 20
                for questions in Hanzi

A question shorter than that is found only as a whole that begins and ends where a sentence does.
One below `FEWEST` cannot be told from ordinary text: it is counted as too short. N-grams that more
than `COMMON` questions share are set phrases, and tell nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tongwen.cleaning.benchmark_files import benchmark_files, questions
from tongwen.cleaning.fold import fold, is_dense, passages
from tongwen.cleaning.scratch import U64, Codes, codes_of
from tongwen.errors import ConfigError, DataError

Places = npt.NDArray[np.int64]
How = Literal["substring", "n-gram"]

GRAMS: Final = (50, 20)
"""Characters of an n-gram, of questions in Latin letters and in Hanzi."""
FEWEST: Final = (20, 8)
"""Characters of the shortest question that is looked for."""
DENSE: Final = 0.3
"""Share of Hanzi from which a question counts as Chinese."""
SHARE: Final = 0.5
"""Share of its n-grams from which a question is found."""
COMMON: Final = 10
"""Questions that may share an n-gram; GPT-3 ignored n-grams in more than ten documents."""
MOST: Final = 32
"""N-grams of one question that are looked for."""
EXCERPT: Final = 80
JOINT: Final = re.compile(r"[ \t,，、'’-]*")
"""What stands between words of one sentence."""


@dataclass(frozen=True, slots=True)
class Match:
    """A question of a benchmark that a text holds."""

    benchmark: str
    item: int
    """Its number in the benchmark, from 1."""
    how: How
    share: float
    """Share of the question's n-grams that were found."""
    excerpt: str
    """The text where the question begins, or the first part of it that was found."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark: its name, and how many questions it has."""

    name: str
    items: int
    too_short: int
    """Questions that cannot be told from ordinary text, and are not looked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """What of one benchmark was found in the rows that were counted."""

    name: str
    items: int
    too_short: int
    found: int
    """Different questions found."""
    rows: int
    """Rows that hold at least one of them."""


@dataclass(frozen=True, slots=True)
class _Probe:
    """One wording of one question, folded."""

    benchmark: int
    item: int
    kept: Codes
    dense: bool

    @property
    def short(self) -> bool:
        return len(self.kept) < GRAMS[self.dense]


class _Hit(NamedTuple):
    share: float
    whole: bool
    at: int
    """Its first letter in the text, counted in letters."""
    probe: int


class Benchmarks:
    """The questions of several benchmarks, ready to be looked for; picklable."""

    def __init__(self, benchmarks: Sequence[Benchmark], probes: Sequence[_Probe]) -> None:
        self.benchmarks = tuple(benchmarks)
        self._items = [(probe.benchmark, probe.item) for probe in probes]
        self._short = {i: probe.kept for i, probe in enumerate(probes) if probe.short}
        self._indexes: list[tuple[_Index, _Index]] = []
        for dense in (False, True):
            same = {i: probe.kept for i, probe in enumerate(probes) if probe.dense is dense}
            long = {i: kept for i, kept in same.items() if i not in self._short}
            begins = {i: kept[: FEWEST[dense]] for i, kept in same.items() if i in self._short}
            self._indexes.append(
                (_Index(long, GRAMS[dense], dense), _Index(begins, FEWEST[dense], dense))
            )

    def find(self, text: str) -> tuple[Match, ...]:
        """The questions that a text holds, those found most completely first."""
        folded = fold(codes_of(text), simplify=True)
        places = np.flatnonzero(folded)
        kept = folded[places]
        dense = int(np.count_nonzero(is_dense(kept)))
        best: dict[tuple[int, int], _Hit] = {}
        for grams, begins in self._indexes:
            if grams.dense and not dense:
                continue
            for hit in (*self._by_grams(grams, kept), *self._as_wholes(begins, text, kept, places)):
                item = self._items[hit.probe]
                best[item] = max(best.get(item, hit), hit)
        ranked = sorted(best.items(), key=lambda found: (-found[1].share, found[0]))
        return tuple(
            Match(
                benchmark=self.benchmarks[benchmark].name,
                item=item,
                how="substring" if hit.whole else "n-gram",
                share=hit.share,
                excerpt=text[places[hit.at] : places[hit.at] + EXCERPT],
            )
            for (benchmark, item), hit in ranked
        )

    def _by_grams(self, index: _Index, kept: Codes) -> Iterator[_Hit]:
        """The long questions found."""
        entries, places = index.hits(kept)
        if not len(entries):
            return
        # An n-gram that a text has several times counts once, at its first place.
        entries, first = np.unique(entries, return_index=True)
        of, places = index.probes[entries], places[first]
        probes, counts = np.unique(of, return_counts=True)
        for probe, count in zip(probes.tolist(), counts.tolist(), strict=True):
            share = count / int(index.totals[probe])
            if share >= SHARE:
                own = of == probe
                begins = places[own] - index.offsets[entries[own]]
                whole = share == 1 and bool((begins == begins[0]).all())
                yield _Hit(share, whole, int(places[own].min()), probe)

    def _as_wholes(self, index: _Index, text: str, kept: Codes, places: Places) -> Iterator[_Hit]:
        """The short questions found."""
        entries, begins = index.hits(kept)
        for entry, at in zip(entries.tolist(), begins.tolist(), strict=True):
            probe = int(index.probes[entry])
            end = at + len(self._short[probe])
            if np.array_equal(kept[at:end], self._short[probe]) and (
                _apart(text, places, at) and _apart(text, places, end)
            ):
                yield _Hit(1.0, True, at, probe)


class Tally:
    """Counts, for each benchmark, the questions found and the rows that held them."""

    def __init__(self, benchmarks: Benchmarks) -> None:
        self._benchmarks = benchmarks.benchmarks
        self._items: dict[str, set[int]] = {one.name: set() for one in self._benchmarks}
        self._rows: Counter[str] = Counter()

    def add(self, matches: Sequence[Match]) -> None:
        """Count what was found in one row."""
        for match in matches:
            self._items[match.benchmark].add(match.item)
        self._rows.update({match.benchmark for match in matches})

    def found(self) -> tuple[Found, ...]:
        """The counts, in the order in which the benchmarks were given."""
        return tuple(
            Found(
                one.name, one.items, one.too_short, len(self._items[one.name]), self._rows[one.name]
            )
            for one in self._benchmarks
        )


def load_benchmarks(paths: Sequence[Path]) -> Benchmarks:
    """Read benchmarks, each a file or a folder; one without questions is a DataError."""
    benchmarks: list[Benchmark] = []
    probes: list[_Probe] = []
    for path in paths:
        name, files = benchmark_files(path)
        number = too_short = 0
        for wordings in (item for file in files for item in questions(file)):
            number += 1
            own = [_probe(len(benchmarks), number, text) for text in wordings]
            long_enough = [probe for probe in own if len(probe.kept) >= FEWEST[probe.dense]]
            too_short += not long_enough
            probes += long_enough
        if not number:
            raise DataError(
                f"the benchmark {path} holds no questions", "give a file that is not empty"
            )
        if name in {one.name for one in benchmarks}:
            raise ConfigError(f"two benchmarks are called {name}", "give each of them once")
        benchmarks.append(Benchmark(name, number, too_short))
    return Benchmarks(benchmarks, probes)


def _probe(benchmark: int, item: int, text: str) -> _Probe:
    folded = fold(codes_of(text), simplify=True)
    kept = folded[folded != 0]
    return _Probe(benchmark, item, kept, bool(is_dense(kept).sum() > DENSE * len(kept)))


def _apart(text: str, places: Places, at: int) -> bool:
    """Whether a sentence, a line or a quotation begins or ends before the letter at a place."""
    begin = places[at - 1] + 1 if at else 0
    end = places[at] if at < len(places) else len(text)
    return at in (0, len(places)) or JOINT.fullmatch(text, begin, end) is None


class _Index:
    """N-grams of one length and the probes that hold them: sorted entries behind a filter."""

    def __init__(self, probes: dict[int, Codes], length: int, dense: bool) -> None:
        self.length, self.dense = length, dense
        none = np.empty(0, dtype=np.uint64)
        grams = [np.unique(passages(kept, length), return_index=True) for kept in probes.values()]
        hashes = np.concatenate([none, *(part for part, _ in grams)])
        offsets = np.concatenate([none, *(at for _, at in grams)]).astype(np.int32)
        lengths = [len(part) for part, _ in grams]
        of = np.repeat(np.array(list(probes), dtype=np.int32), lengths)
        keep = _telling(hashes, of)
        order = keep[np.argsort(hashes[keep], kind="stable")]
        self._hashes, self.probes, self.offsets = hashes[order], of[order], offsets[order]
        self.totals = np.bincount(self.probes).astype(np.int32)
        """Entries of each probe."""
        bits = max(10, (8 * len(order)).bit_length())
        self._shift = np.uint64(64 - bits)
        self._filter = np.zeros(1 << bits, dtype=np.bool_)
        self._filter[self._hashes >> self._shift] = True

    def hits(self, kept: Codes) -> tuple[Places, Places]:
        """(entry, place) wherever an n-gram of a text is that of an entry."""
        hashes = passages(kept, self.length)
        places = np.flatnonzero(self._filter[hashes >> self._shift])
        if not len(places):
            return places, places
        hashes = hashes[places]
        left = np.searchsorted(self._hashes, hashes, side="left")
        counts = np.searchsorted(self._hashes, hashes, side="right") - left
        rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(left, counts) + rank, np.repeat(places, counts)


def _telling(hashes: U64, of: npt.NDArray[np.int32]) -> Places:
    """Places of the n-grams to look for: `MOST` of each probe, and no set phrases.

    They are those of the least hashes, which is a fair sample. A probe that is made of set phrases
    alone keeps them. The hashes of each probe stand together and rise.
    """
    _, group, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    rare = counts[group] <= COMMON
    some = np.zeros(int(of.max(initial=0)) + 1, dtype=np.bool_)
    some[of[rare]] = True
    keep = np.flatnonzero(rare | ~some[of])
    new = np.concatenate([[True], of[keep][1:] != of[keep][:-1]])[: len(keep)]
    starts = np.flatnonzero(new)
    rank = np.arange(len(keep)) - np.repeat(starts, np.diff(starts, append=len(keep)))
    return keep[rank < MOST]
