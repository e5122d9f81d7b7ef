"""Streamed UTF-8: for every way of cutting the bytes, the pieces joined are the whole."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.text import Utf8Stream

TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("你好，🌍龘é�\0\ufeff"))
# Bytes that are often nearly UTF-8: leads, continuations, overlong forms, surrogates.
NEARLY_UTF8 = st.lists(
    st.sampled_from(
        [
            b"a",
            "é".encode(),
            "你".encode(),
            "🌍".encode(),
            b"\xe4\xbd",
            b"\xf0\x9f\x8c",
            b"\xf0\x9f",
        ]
        + [b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xe4", b"\xc3"]
    )
    | st.binary(max_size=4)
).map(b"".join)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The bytes, cut at the given places."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


def streamed(parts: list[bytes]) -> list[str]:
    """What a stream shows for each part, and at its end."""
    stream = Utf8Stream()
    return [*map(stream.feed, parts), stream.close()]


@given(text=TEXTS, cuts=st.lists(st.integers(0, 10_000)))
def test_any_cut_of_any_text_joins_to_the_whole(text: str, cuts: list[int]) -> None:
    shown = streamed(pieces(text.encode(), cuts))
    assert "".join(shown) == text
    assert sum(part.count("�") for part in shown) == text.count("�")
    assert shown[-1] == ""


@given(data=NEARLY_UTF8, cuts=st.lists(st.integers(0, 10_000)))
def test_broken_bytes_become_what_decoding_the_whole_gives(data: bytes, cuts: list[int]) -> None:
    assert "".join(streamed(pieces(data, cuts))) == data.decode("utf-8", errors="replace")


@given(text=TEXTS, cut=st.integers(0, 10_000))
def test_what_is_shown_so_far_is_a_beginning_of_the_text(text: str, cut: int) -> None:
    first, _ = pieces(text.encode(), [cut])
    assert text.startswith(Utf8Stream().feed(first))


def test_every_cut_into_two_and_three() -> None:
    text = "你好，🌍 龘 é"
    data = text.encode()
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            parts = [data[:first], data[first:second], data[second:]]
            assert "".join(streamed(parts)) == text
    assert "".join(streamed([bytes([byte]) for byte in data])) == text


@pytest.mark.parametrize("tail", [b"\xe4", b"\xe4\xbd", b"\xf0\x9f\x8c", b"\xc3"])
def test_an_unfinished_character_becomes_one_sign_at_the_end(tail: bytes) -> None:
    stream = Utf8Stream()
    assert stream.feed(b"ok" + tail) == "ok"
    assert stream.close() == "�"
