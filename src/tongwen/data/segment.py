"""Where long documents are cut: the lengths of their parts in, spans of parts or tokens out.

    pack             pieces as long as they may be, each beginning with one character of context,
                     so that every token but the first of the document is learned exactly once
    greedy           as few pieces of whole sentences as possible, without overlap
    greedy-overlap   the same, each filled up with sentences from before it, as KnowLM does

No cut goes through a character. Nothing here knows of ids or texts: tokens are places from 0, and
`whole` says before which of them a character begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Segments = Literal["pack", "greedy", "greedy-overlap"]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CLOSE: Final = 8
"""`pack` cuts at the end of a sentence if there is one in this part of a piece, its last eighth."""
SHORTEST_KNOWLM: Final = 20
"""KnowLM leaves out pieces of up to so many tokens."""
NEARLY_FULL: Final = 0.8
"""KnowLM cuts a long Chinese sentence into one part more if the last would be as full as this."""


class Piece(NamedTuple):
    """A stretch of a document's tokens."""

    start: int
    learned: int
    """Where the tokens that carry loss begin; those before are context."""
    end: int


def pack(
    whole: Bools, room: int, sentence: Callable[[int, int], int], *, context: bool = True
) -> list[Piece]:
    """Pieces of up to `room` tokens that end with a sentence if one ends near their end.

    `sentence(low, high)` is the last place above `low`, up to `high`, where a sentence ends, or
    `high` if none does.
    """
    pieces = []
    start = learned = 0
    while start + room < len(whole):
        end = _before(whole, start + room, learned)
        end = sentence(max(end - room // CLOSE, learned), end)
        pieces.append(Piece(start, learned, end))
        start, learned = (_before(whole, end - 1, start) if context else end), end
    return [*pieces, Piece(start, learned, len(whole))]


def greedy(lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Runs of parts that together have up to `room` tokens, each as long as it can be."""
    runs = []
    start = 0
    while start < len(lengths):
        end, total = start + 1, lengths[start]
        while end < len(lengths) and total + lengths[end] <= room:
            total += lengths[end]
            end += 1
        runs.append((start, end))
        start = end
    return runs


def greedy_overlap(lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """The runs of `greedy`, each taking in the parts before it that still have room (KnowLM)."""
    runs = []
    for start, end in greedy(lengths, room):
        first, total = start, sum(lengths[start:end])
        while first > 0 and total + lengths[first - 1] <= room:
            first -= 1
            total += lengths[first]
        runs.append((first, end))
    return runs


def sentence_pieces(whole: Bools, borders: Ints, room: int) -> list[Piece]:
    """Pieces of whole sentences; a sentence that is too long is cut into even parts."""
    parts = _parts(borders, lambda a, b: _even(whole, a, b, room))
    runs = greedy(np.diff(parts).tolist(), room)
    return [Piece(int(parts[i]), int(parts[i]), int(parts[k])) for i, k in runs]


def knowlm_pieces(whole: Bools, borders: Ints, room: int, characters: Ints | None) -> list[Piece]:
    """Overlapping pieces of whole sentences, all of whose tokens are learned.

    A sentence that is too long is cut every `room` tokens; or, if `characters` says how many of
    them each token ends at, into parts of even numbers of characters, as KnowLM cuts Chinese.
    Pieces of up to SHORTEST_KNOWLM tokens are left out.
    """
    parts = _parts(borders, lambda a, b: _knowlm_parts(whole, a, b, room, characters))
    runs = greedy_overlap(np.diff(parts).tolist(), room)
    pieces = [Piece(int(parts[j]), int(parts[j]), int(parts[k])) for j, k in runs]
    return [piece for piece in pieces if piece.end - piece.start > SHORTEST_KNOWLM]


def knowlm_blocks(length: int, room: int) -> int:
    """Into how many parts KnowLM cuts a Chinese sentence of `length` tokens."""
    blocks = math.ceil(length / room)
    return blocks + 1 if length % room >= NEARLY_FULL * room else blocks


def token_borders(ends: Ints, whole: Bools, borders: Ints) -> Ints:
    """Places in the text as places between tokens, without repetition, from 0 to the last.

    A token that stands across a border belongs to what is before it.
    """
    places = np.searchsorted(ends, borders, side="right")
    reached = np.concatenate(([0], ends))[places]
    places = np.minimum(places + (reached < borders), len(ends))
    possible = np.append(np.flatnonzero(whole), len(ends))
    found = possible[np.searchsorted(possible, places)]
    return np.unique(np.concatenate(([0], found, [len(ends)])))


def _parts(borders: Ints, cut: Callable[[int, int], Iterator[int]]) -> Ints:
    """The borders, and between them those at which what is too long is cut."""
    parts = [0]
    for start, end in pairwise(borders.tolist()):
        parts += [*cut(start, end), end]
    return np.array(parts, dtype=np.int64)


def _even(whole: Bools, start: int, end: int, room: int) -> Iterator[int]:
    """Cuts that leave parts of about equal length, none with more tokens than `room`."""
    while end - start > room:
        parts = math.ceil((end - start) / room)
        start = _before(whole, start + math.ceil((end - start) / parts), start)
        yield start


def _every(whole: Bools, start: int, end: int, room: int) -> Iterator[int]:
    """Cuts that leave full parts, and a rest."""
    while end - start > room:
        start = _before(whole, start + room, start)
        yield start


def _knowlm_parts(
    whole: Bools, start: int, end: int, room: int, characters: Ints | None
) -> Iterator[int]:
    if end - start > room and characters is not None:
        blocks = knowlm_blocks(end - start, room)
        first, last = int(characters[start - 1]) if start else 0, int(characters[end - 1])
        borders = first + np.arange(1, blocks) * math.ceil((last - first) / blocks)
        here = slice(start, end)
        for border in token_borders(characters[here], whole[here], borders)[1:-1] + start:
            yield from _every(whole, start, border, room)
            start = border
            yield start
    yield from _every(whole, start, end, room)


def _before(whole: Bools, place: int, above: int) -> int:
    """The nearest place, not after this one, at which a character begins.

    If there is none above `above`, then one character has more tokens than fit into a piece, and
    has to be cut.
    """
    found = place
    while found > above and not whole[found]:
        found -= 1
    return found if found > above else place
