"""Rules that measure a text: `language`, `script`, `length`, `symbols`, `repetition`.

The measures follow Gopher (Rae et al. 2021, arXiv 2112.11446, table A1: symbols, bullets, ellipses,
repeated lines, paragraphs and n-grams) and C4 (Raffel et al. 2020, arXiv 1910.10683, section 2.2:
repeated spans of sentences), with two changes. Their unit is the word; here it is the letter,
of which a Hanzi counts for three, so that Chinese and English are held to one measure. And
passages are compared with what stands shortly before them, not with the whole document: in a book
every phrase comes again some day, and a share that grows with the length says nothing. Fenced code
is left out: it is all signs, and repeats itself by nature.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from tongwen.cleaning.findings import FENCED, Found, Place, excerpt
from tongwen.text.language import KANA_CHARS, OTHER_WORD, Language, is_han, language
from tongwen.text.script import script, to_script

LINES: Final = 10
"""Lines from which on their shares are counted."""
BULLETS: Final = 0.9
ELLIPSES: Final = 0.3
"""Gopher: largest share of lines that begin with a bullet, and that end with an ellipsis."""
BULLET: Final = ("•", "‣", "▪", "●", "◦", "·", "*", "-", "■", "◆", "★", "※")
ENOUGH: Final = 100
"""Characters of a text whose signs or repetitions are worth counting."""

PASSAGE_HAN: Final = 10
PASSAGE_LETTERS: Final = 30
"""Characters of a passage that counts as said again: in Chinese, and in other scripts."""
WINDOW: Final = 4096
"""Characters before a passage in which it may have been said."""

LETTER, DIGIT, SIGN, BLANK = range(4)


class KeptLanguage:
    """Rows in a language that is not wanted are dropped."""

    def __init__(self, languages: Sequence[Language]) -> None:
        self._languages = frozenset(languages)

    def __call__(self, text: str, place: Place) -> Found | None:  # noqa: ARG002
        found = language(text)
        if found in self._languages:
            return None
        # Code and bare numbers are in no language, which is no fault of theirs.
        if found == "other" and not (OTHER_WORD.search(text) or KANA_CHARS.search(text)):
            return None
        names = {"zh": "Chinese", "en": "English", "mixed": "mixed", "other": "another"}
        return Found(f"language: {names[found]}", excerpt(text, 0), drop=True)


class OneScript:
    """Chinese is turned into one script; Japanese is left alone."""

    def __init__(self, target: Literal["simplified", "traditional"]) -> None:
        self._target = target

    def __call__(self, text: str, place: Place) -> Found | None:  # noqa: ARG002
        if text.isascii() or script(text) == "none" or language(text) == "other":
            return None
        mended = to_script(text, self._target)
        if mended == text:
            return None
        start = next(i for i, char in enumerate(text) if mended[i : i + 1] != char)
        return Found(f"converted to {self._target}", excerpt(text, start), mended)


class Length:
    """Documents that are too short, rows that are too long."""

    def __init__(self, least_zh: int, least_other: int, most: int) -> None:
        self._least_zh, self._least_other, self._most = least_zh, least_other, most

    def __call__(self, text: str, place: Place) -> Found | None:
        size = len(text)
        if self._most and size > self._most:
            return Found(
                f"{size:,} characters, most is {self._most:,}", excerpt(text, 0), drop=True
            )
        if place != "document" or size >= max(self._least_zh, self._least_other):
            return None
        least = self._least_zh if any(map(is_han, text)) else self._least_other
        if size >= least:
            return None
        return Found(f"{size:,} characters, fewest is {least:,}", excerpt(text, 0), drop=True)


class Symbols:
    """Documents that are signs rather than words, or lists rather than text."""

    def __init__(self, most: float) -> None:
        self._most = most

    def __call__(self, text: str, place: Place) -> Found | None:
        text = _prose(text)
        if place != "document" or len(text) < ENOUGH:
            return None
        share = sign_share(text)
        if share > self._most:
            return Found(f"{share:.0%} signs", excerpt(text, 0), drop=True)
        lines = [line for line in map(str.strip, text.split("\n")) if line]
        if len(lines) < LINES:
            return None
        bullets = sum(line.startswith(BULLET) for line in lines) / len(lines)
        ellipses = sum(line.endswith(("...", "…")) for line in lines) / len(lines)
        if bullets > BULLETS:
            return Found(f"{bullets:.0%} of the lines are bullets", excerpt(text, 0), drop=True)
        if ellipses > ELLIPSES:
            return Found(f"{ellipses:.0%} of the lines break off", excerpt(text, 0), drop=True)
        return None


class Repetition:
    """Texts that say the same again and again."""

    def __init__(self, most: float) -> None:
        self._most = most

    def __call__(self, text: str, place: Place) -> Found | None:  # noqa: ARG002
        text = _prose(text)
        if len(text) < ENOUGH:
            return None
        lines = repeated_lines(text)
        if lines > self._most:
            return Found(f"{lines:.0%} in repeated lines", excerpt(text, 0), drop=True)
        share, place_of_most = repeated_passages(text)
        if share > self._most:
            return Found(f"{share:.0%} repeated", excerpt(text, place_of_most), drop=True)
        return None


def sign_share(text: str) -> float:
    """The share of signs (no letter, digit or mark) among the characters that are no blanks, with
    a Hanzi counted for three."""
    codes = _codes(text)
    counts = np.bincount(_classes()[codes], minlength=4)
    han = int(np.count_nonzero((codes >= 0x4E00) & (codes <= 0x9FFF)))
    seen = int(counts[LETTER] + counts[DIGIT] + counts[SIGN]) + 2 * han
    return int(counts[SIGN]) / seen if seen else 0.0


def repeated_lines(text: str) -> float:
    """The share of the characters that stand in lines that stood in the text before."""
    seen: set[str] = set()
    total = again = 0
    for line in map(str.strip, text.split("\n")):
        total += len(line)
        if line in seen:
            again += len(line)
        seen.add(line)
    return again / total if total else 0.0


def repeated_passages(text: str) -> tuple[float, int]:
    """The share of the characters in passages that were said shortly before, and where the first
    of them stands. A passage is ten Hanzi long, or 30 characters where fewer than half are Hanzi.
    """
    codes = _codes(text)
    han = np.count_nonzero((codes >= 0x4E00) & (codes <= 0x9FFF))
    size = PASSAGE_HAN if han * 2 >= len(codes) else PASSAGE_LETTERS
    if len(codes) <= size:
        return 0.0, 0
    again = _seen_before(_hashes(codes, size))
    # Each passage said again covers its characters; overlapping ones count once.
    marks = np.zeros(len(codes) + 1, np.int32)
    marks[: len(again)] += again
    marks[size : size + len(again)] -= again
    covered = np.cumsum(marks[:-1]) > 0
    first = int(np.argmax(covered))
    return float(np.count_nonzero(covered)) / len(codes), first


def _prose(text: str) -> str:
    return FENCED.sub("", text) if "```" in text else text


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _hashes(codes: NDArray[np.uint32], size: int) -> NDArray[np.uint64]:
    """A hash of the `size` characters from each place on (a polynomial modulo 2^64)."""
    base = np.uint64(0x9E3779B97F4A7C15)
    hashes = np.zeros(len(codes) - size + 1, np.uint64)
    for offset in range(size):
        hashes *= base
        hashes += codes[offset : offset + len(hashes)]
    return hashes


def _seen_before(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each hash stood among the WINDOW ones before it."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    near = (ordered[1:] == ordered[:-1]) & (order[1:] - order[:-1] <= WINDOW)
    seen = np.zeros(len(hashes), np.bool_)
    seen[order[1:][near]] = True
    return seen


@lru_cache(1)
def _classes() -> NDArray[np.uint8]:
    """The class of every character, by the first letter of its Unicode category."""
    by_category = {"L": LETTER, "M": LETTER, "N": DIGIT, "Z": BLANK, "C": BLANK}
    kinds = [by_category.get(unicodedata.category(chr(code))[0], SIGN) for code in range(0x110000)]
    return np.array(kinds, np.uint8)
