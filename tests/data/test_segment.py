"""Where documents are cut: KnowLM's vectors, and what must hold for every document."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.data.segment import (
    SHORTEST_KNOWLM,
    greedy,
    greedy_overlap,
    knowlm_blocks,
    knowlm_pieces,
    pack,
    sentence_pieces,
    token_borders,
)

rooms = st.integers(16, 60)
sentences = st.lists(st.integers(1, 90), min_size=1, max_size=25)
"""Tokens of each sentence."""


@st.composite
def documents(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Before which tokens a character begins, and where sentences end."""
    lengths = draw(sentences)
    borders = np.array([0, *accumulate(lengths)])
    size = sum(lengths)
    whole = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    # Characters have up to 4 tokens, and sentences end with characters.
    for place in range(3, len(whole)):
        whole[place] |= not whole[place - 3 : place].any()
    whole[borders[:-1]] = True
    return whole, borders


@pytest.mark.parametrize(
    ("lengths", "runs"),
    [
        (
            range(100, 1300, 100),
            "[0,4) [3,5) [5,6) [6,7) [7,8) [8,9) [9,10) [10,11) [11,12)",
        ),
        ([400, 400, 400], "[0,2) [1,3)"),
        ([500, 500, 100], "[0,2) [1,3)"),
    ],
)
def test_the_vectors_of_knowlm(lengths: list[int], runs: str) -> None:
    found = greedy_overlap(list(lengths), 1024)
    assert " ".join(f"[{start},{end})" for start, end in found) == runs


@pytest.mark.parametrize(
    ("length", "blocks"), [(1025, 2), (1843, 2), (1844, 3), (2048, 2), (2867, 3), (2868, 4)]
)
def test_blocks_of_a_long_chinese_sentence(length: int, blocks: int) -> None:
    """819.2 of 1,024 tokens in the last block are one block more."""
    assert knowlm_blocks(length, 1024) == blocks


@given(lengths=sentences, room=rooms)
def test_greedy_runs_are_as_few_as_can_be(lengths: list[int], room: int) -> None:
    lengths = [min(length, room) for length in lengths]
    runs = greedy(lengths, room)
    assert [start for start, _ in runs] == [0, *(end for _, end in runs[:-1])]
    assert runs[-1][1] == len(lengths)
    assert all(sum(lengths[start:end]) <= room for start, end in runs)
    fewest = [0]
    for end in range(1, len(lengths) + 1):
        fits = (start for start in range(end) if sum(lengths[start:end]) <= room)
        fewest.append(1 + min(fewest[start] for start in fits))
    assert len(runs) == fewest[-1]


@given(lengths=sentences, room=rooms)
def test_overlapping_runs_take_in_all_that_has_room(lengths: list[int], room: int) -> None:
    runs, plain = greedy_overlap(lengths, room), greedy(lengths, room)
    assert [end for _, end in runs] == [end for _, end in plain]
    for (start, end), (begin, _) in zip(runs, plain, strict=True):
        assert start <= begin
        if start < begin:
            assert sum(lengths[start:end]) <= room
        assert start == 0 or sum(lengths[start - 1 : end]) > room


@given(document=documents(), room=rooms, context=st.booleans(), near=st.booleans())
def test_pack_learns_every_token_once(
    document: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
    room: int,
    context: bool,
    near: bool,
) -> None:
    whole, borders = document

    def sentence(low: int, high: int) -> int:
        ends = borders[(borders > low) & (borders <= high)]
        return int(ends[-1]) if near and len(ends) else high

    pieces = pack(whole, room, sentence, context=context)
    learned = [place for piece in pieces for place in range(piece.learned, piece.end)]
    assert learned == list(range(len(whole)))
    for piece in pieces:
        assert piece.end - piece.start <= room
        assert whole[piece.start]
        assert piece.end == len(whole) or whole[piece.end]
    for piece in pieces[1:]:
        # One character of context, or none.
        assert (
            (piece.learned - piece.start in range(1, 5))
            if context
            else (piece.learned == piece.start)
        )
        assert not whole[piece.start + 1 : piece.learned].any()


@given(document=documents(), room=rooms)
def test_sentence_pieces_are_whole_sentences(
    document: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]], room: int
) -> None:
    whole, borders = document
    pieces = sentence_pieces(whole, borders, room)
    places = [0, *(piece.end for piece in pieces)]
    assert [piece.start for piece in pieces] == places[:-1]
    assert places[-1] == len(whole)
    for piece in pieces:
        assert piece.end - piece.start <= room
        assert piece.learned == piece.start
        if piece.end not in borders:
            assert whole[piece.end]
            after = int(np.searchsorted(borders, piece.end))
            assert borders[after] - borders[after - 1] > room, "only what is too long is cut"


@given(document=documents(), room=rooms, even=st.booleans())
def test_pieces_as_knowlm_has_them(
    document: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]], room: int, even: bool
) -> None:
    whole, borders = document
    characters = np.cumsum(whole) if even else None
    pieces = knowlm_pieces(whole, borders, room, characters)
    for piece in pieces:
        assert SHORTEST_KNOWLM < piece.end - piece.start <= room
        assert piece.learned == piece.start
        assert whole[piece.start]
        assert piece.end == len(whole) or whole[piece.end]
    assert all(a.end < b.end and a.start < b.start for a, b in pairwise(pieces))


def test_long_sentences_are_cut_as_knowlm_does() -> None:
    whole, borders = np.ones(100, dtype=np.bool_), np.array([0, 100])
    # English: every 30 tokens, and the rest of 10 is left out.
    pieces = knowlm_pieces(whole, borders, 30, None)
    assert [(piece.start, piece.end) for piece in pieces] == [(0, 30), (30, 60), (60, 90)]
    # Chinese: 100 tokens are 4 blocks, of 15 of the 58 characters; the first 16 tokens have one
    # each, the others half of one. The first block has 15 tokens and is left out.
    characters = np.array([*range(1, 17), *(17 + n // 2 for n in range(84))])
    pieces = knowlm_pieces(whole, borders, 30, characters)
    assert [(piece.start, piece.end) for piece in pieces] == [(15, 44), (44, 74), (74, 100)]


def test_a_token_across_a_border_belongs_to_what_is_before_it() -> None:
    #               你好  。他  说  ：
    ends = np.array([6, 12, 15, 18])
    whole = np.ones(4, dtype=np.bool_)
    assert token_borders(ends, whole, np.array([9, 18])).tolist() == [0, 2, 4]
    assert token_borders(ends, whole, np.array([6, 8, 9, 18])).tolist() == [0, 1, 2, 4]
    # The second token begins inside of a character, so the border moves behind it.
    whole[1] = False
    assert token_borders(ends, whole, np.array([5, 18])).tolist() == [0, 2, 4]
