"""Exact repeated passages: what stands in the texts a second time is cut from its second place on.

A passage of `shortest` characters is a repeat when the same characters stand earlier: in an earlier
text, or in the same text ending at or before where the passage begins. Every character of every
repeat is cut, so that longer ones are cut as a whole and the first occurrence stays (Lee et al.,
2022, arXiv:2107.06499, who find them with a suffix array of all texts in memory).

Here memory is bounded, and two passes over the texts find the same:

1. Winnowing (Schleimer, Wilkerson and Aiken, 2003): of the hashes of all half as long passages the
   least of each neighbourhood is kept, about 4 for every `shortest` characters. Whatever is
   repeated holds one of them, and that hash then occurs twice.
2. Around those that occur twice, all passages of full length are hashed and sorted, and each is
   paired with its first occurrence. What is paired is compared character by character.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from tongwen.cleaning.fold import passages
from tongwen.cleaning.scratch import U64, Codes, Sorted, Texts

Places = npt.NDArray[np.int64]
Span = tuple[int, int]

LEAST: Final = 8
"""The fewest characters that a repeat may be asked to have."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """What is to be cut from one text."""

    number: int
    spans: tuple[Span, ...]
    """Begin and end in characters, rising and apart from each other."""


def find_repeats(
    texts: Texts, scratch: Path, shortest: int, among: Iterable[int] | None = None
) -> Iterator[Repeats]:
    """The repeats in texts, by rising number; `among` are the places of those that count."""
    assert shortest >= LEAST
    among = range(len(texts)) if among is None else among
    starts = np.cumsum(np.fromiter(map(texts.length, range(len(texts))), dtype=np.int64))
    starts = np.concatenate([[0], starts])
    twice = _occurring_twice(texts, among, starts, scratch, shortest)
    pairs = _paired(texts, twice, starts, scratch, shortest)
    yield from _spans(texts, pairs, starts, shortest)


def cut(text: str, spans: Sequence[Span]) -> str:
    """A text without some of its spans."""
    kept, end = [], 0
    for start, stop in spans:
        kept.append(text[end:start])
        end = stop
    return "".join([*kept, text[end:]])


def winnowed(hashes: U64, window: int) -> Places:
    """Places of the hashes that are the least among some `window` neighbours."""
    least = _sliding(np.minimum, hashes, window)
    # A hash is the least of one of its windows just when the greatest of their leasts is itself.
    edge = np.zeros(window - 1, dtype=np.uint64)
    return np.flatnonzero(
        _sliding(np.maximum, np.concatenate([edge, least, edge]), window) == hashes
    )


def _sliding(extreme: np.ufunc, values: U64, window: int) -> U64:
    """The extreme of each `window` neighbours."""
    width = 1
    while width < window:
        step = min(width, window - width)
        values = extreme(values[:-step], values[step:])
        width += step
    return values


def _occurring_twice(
    texts: Texts, among: Iterable[int], starts: Places, scratch: Path, shortest: int
) -> Sorted:
    """Places, counted through all texts, of the winnowed hashes that occur more than once."""
    part = shortest // 2
    fingerprints = Sorted(scratch / "repeats-fingerprints")
    for i in among:
        if texts.length(i) >= shortest:
            hashes = passages(texts.codes(i), part)
            places = winnowed(hashes, shortest - part + 1)
            fingerprints.add(hashes[places], (places + starts[i]).astype(np.uint64))
    twice = Sorted(scratch / "repeats-twice")
    for keys, at in fingerprints.chunks():
        same = keys[1:] == keys[:-1]
        shared = np.concatenate([[False], same]) | np.concatenate([same, [False]])
        twice.add(at[shared], at[shared])
    return twice


def _paired(texts: Texts, twice: Sorted, starts: Places, scratch: Path, shortest: int) -> Sorted:
    """For each passage that repeats another: where it begins, and where the first one does."""
    part = shortest // 2
    whole = Sorted(scratch / "repeats-passages")
    for i, keys, _ in _grouped(twice, starts):
        places, length = keys - starts[i], texts.length(i)
        # A passage is worth hashing if it holds one of these places whole.
        change = np.zeros(length + 1, dtype=np.int64)
        np.add.at(change, np.maximum(places + part - shortest, 0), 1)
        np.add.at(change, np.minimum(places + 1, length - shortest + 1), -1)
        begins = np.flatnonzero(np.cumsum(change) > 0)
        hashes = passages(texts.codes(i), shortest)[begins]
        whole.add(hashes, (begins + starts[i]).astype(np.uint64))
    pairs = Sorted(scratch / "repeats-pairs")
    for hashed, at in whole.chunks():
        new = np.concatenate([[True], hashed[1:] != hashed[:-1]])
        first = at[np.maximum.accumulate(np.where(new, np.arange(len(at)), 0))]
        apart = at >= first + np.uint64(shortest)
        pairs.add(at[apart], first[apart])
    return pairs


def _grouped(records: Sorted, starts: Places) -> Iterator[tuple[int, Places, Places]]:
    """Records whose keys are places: the text that they lie in, their keys and their values."""
    held: list[tuple[Places, Places]] = []
    current = -1
    for keys, values in records.chunks():
        text_of = np.searchsorted(starts, keys.astype(np.int64), side="right") - 1
        cuts = np.flatnonzero(text_of[1:] != text_of[:-1]) + 1
        for begin, end in zip([0, *cuts], [*cuts, len(keys)], strict=True):
            if text_of[begin] != current and held:
                yield current, *_joined(held)
                held.clear()
            current = int(text_of[begin])
            held.append((keys[begin:end].astype(np.int64), values[begin:end].astype(np.int64)))
    if held:
        yield current, *_joined(held)


def _joined(held: list[tuple[Places, Places]]) -> tuple[Places, Places]:
    return np.concatenate([keys for keys, _ in held]), np.concatenate([rest for _, rest in held])


def _spans(texts: Texts, pairs: Sorted, starts: Places, shortest: int) -> Iterator[Repeats]:
    for i, begins, firsts in _grouped(pairs, starts):
        codes = texts.codes(i)
        spans: list[Span] = []
        steps = (np.diff(begins) == 1) & (np.diff(firsts) == 1)
        cuts = np.flatnonzero(~steps) + 1
        for a, b in zip([0, *cuts], [*cuts, len(begins)], strict=True):
            begin, first = int(begins[a] - starts[i]), int(firsts[a])
            length = int(b - a) - 1 + shortest
            if not np.array_equal(
                codes[begin : begin + length], _characters(texts, starts, first, length)
            ):
                continue  # two passages of one hash, which are therefore no repeat
            if spans and begin <= spans[-1][1]:
                begin = spans.pop()[0]
            spans.append((begin, int(begins[a] - starts[i]) + length))
        if spans:
            yield Repeats(texts.number(i), tuple(spans))


def _characters(texts: Texts, starts: Places, place: int, length: int) -> Codes:
    i = int(np.searchsorted(starts, place, side="right")) - 1
    begin = place - int(starts[i])
    return texts.codes(i)[begin : begin + length]
