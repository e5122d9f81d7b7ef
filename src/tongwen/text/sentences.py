"""Sentences of Chinese and English text, as spans.

A sentence ends at 。！？；…… or at . ! ?, takes along the quotes and brackets that close after it
and the white space behind, and ends at the end of a line in any case. Spans cover the text without
gaps, so that nothing is lost.

Latin marks need white space, Chinese or the end of the text behind them, and do not end a sentence
before a small letter; so numbers (3.14), names with dots (example.com, a/b.txt?c=1) and pauses
(wait... what) stay whole. Nor does a full stop after an abbreviation (Dr., vs.), an initial
(J. K. Rowling) or the number of an item (1. First).

Limits: an abbreviation that may also end a sentence (etc., U.S., p.m.) ends it only where the next
word is one that often begins a sentence. A single … is a pause; only two make an end.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, NamedTuple

CLOSERS: Final = re.escape("”’」』】》〉）〕］〗｝\"')]}›»")
OPENERS: Final = re.escape("“‘「『【《〈（〔［〖｛\"'([{‹«*_")
CHINESE: Final = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U000323af“‘]")
MARKS: Final = "。｡！？；…⋯!?.．"
END: Final = re.compile(
    rf"(?P<marks>[{MARKS}]+|(?=[\n\r\u2028\u2029]))"
    rf"(?P<closers>(?:[{CLOSERS}][{CLOSERS}{MARKS}]*)?)(?P<blanks>\s*)"
)
NEW_LINE: Final = re.compile("[\n\r\u2028\u2029]")
STRONG: Final = re.compile("[。｡！？；]|[…⋯]{2}")
NEXT: Final = re.compile(rf"[{OPENERS}]*([^\W\d_]+|.?)", re.DOTALL)
GOES_ON: Final = "，,、；;：:"
WORD_BEFORE: Final = re.compile("[A-Za-z\u00c0-\u024f0-9.]+$")
LONGEST_WORD: Final = 24

TITLES: Final = frozenset(
    "mr mrs ms dr prof st gen col sgt capt lt rev hon gov sen rep mt messrs mme mlle fr vs cf e.g "
    "i.e viz".split()
)
"""Never at the end of a sentence."""
BEFORE_NUMBERS: Final = frozenset("no nos fig figs eq eqs sec ch vol vols art p pp".split())
ABBREVIATIONS: Final = frozenset(
    "sr jr etc al inc ltd co corp dept est ed eds ca approx jan feb mar apr jun jul aug sep sept "
    "oct nov dec a.m p.m u.s u.k u.n u.s.a e.u d.c ph.d m.d b.a m.a b.c a.d".split()
)
STARTERS: Final = frozenset(
    "the a an i he she it we you they this that these those there here his her its my our your "
    "their in on at as if when while then but and so however what who why how where".split()
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence; the spans cover the text without gaps."""
    ends: list[int] = []
    start = position = len(text) - len(text.lstrip())
    quotes = 0
    while match := END.search(text, position):
        quotes += text.count('"', position, match.end("marks"))
        mark = _mark(text, match, quotes)
        position = mark.end
        if _ends(text, start, mark):
            ends.append(position)
            start = position
        quotes = 0 if NEW_LINE.search(mark.blanks) else quotes + mark.closers.count('"')
    if start < len(text) or (text and not ends):
        ends.append(len(text))
    return list(pairwise([0, *ends]))


def sentences(text: str) -> list[str]:
    """The sentences; joined, they are the text."""
    return [text[start:end] for start, end in sentence_spans(text)]


class _Mark(NamedTuple):
    """A place where a sentence may end."""

    begin: int
    marks: str
    closers: str
    blanks: str
    end: int


def _mark(text: str, match: re.Match[str], quotes: int) -> _Mark:
    """The parts of a match of END; `quotes` are the straight ones of the line before it."""
    marks, closers, blanks = match["marks"], match["closers"], match["blanks"]
    if closers.startswith('"') and quotes % 2 == 0 and not blanks and match.end() < len(text):
        # A straight quote opens or closes; this one opens the next sentence: 走。"来。"
        return _Mark(match.start(), marks, "", "", match.end("marks"))
    return _Mark(match.start(), marks, closers, blanks, match.end())


def _ends(text: str, start: int, mark: _Mark) -> bool:
    """Whether the sentence that begins at `start` really ends at a mark."""
    if mark.end == len(text) or NEW_LINE.search(mark.blanks):
        return True
    if text[mark.end] in GOES_ON:
        return False
    marks = mark.marks + mark.closers
    if STRONG.search(marks):
        return True
    following = NEXT.match(text, mark.end)
    assert following is not None, "NEXT matches everywhere"
    word = following[1]
    if word[:1].islower() or not (mark.blanks or CHINESE.match(text, mark.end)):
        return False
    if "!" in marks or "?" in marks:
        return True
    if len(marks) > 1 or marks not in ".．":
        return bool(mark.blanks)
    return _full_stop_ends(text, start, mark, word)


def _full_stop_ends(text: str, start: int, mark: _Mark, word: str) -> bool:
    """Whether a full stop alone, with no small letter behind it, ends a sentence."""
    found = WORD_BEFORE.search(text, max(start, mark.begin - LONGEST_WORD), mark.begin)
    if found is None:
        return True
    before = found[0].strip(".").lower()
    if before.replace(".", "").isdigit() and (found.start() == start or not mark.blanks):
        return False
    if before in TITLES or (before in BEFORE_NUMBERS and word[:1].isdigit()):
        return False
    initial = len(before) == 1 and before.isalpha() and before != "i"
    if initial or before in ABBREVIATIONS:
        if CHINESE.match(word):
            return bool(mark.blanks)
        return word != "A" and word.lower() in STARTERS
    return True
