"""Sentences of Chinese and English text, as spans.

A sentence ends at 。！？；…… or at . ! ?, takes along the quotes and brackets that close after it and
the white space behind, and ends at the end of a line in any case. Spans cover the text without
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
from typing import Final

CLOSERS: Final = re.escape("”’」』】》〉）〕］〗｝\"')]}›»")
OPENERS: Final = re.escape("“‘「『【《〈（〔［〖｛\"'([{‹«*_")
CHINESE: Final = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U000323af“‘"
MARKS: Final = "。｡！？；…⋯!?.．"
END: Final = re.compile(
    rf"(?P<marks>[{MARKS}]+)(?P<closers>[{CLOSERS}][{CLOSERS}{MARKS}]*)?(?P<blanks>\s*)"
    r"|[\n\r\u2028\u2029]\s*"
)
NEW_LINE: Final = re.compile("[\n\r\u2028\u2029]")
STRONG: Final = re.compile("[。｡！？；]|[…⋯]{2}")
NEXT: Final = re.compile(rf"[{OPENERS}]*([^\W\d_]+|.?)", re.DOTALL)
GOES_ON: Final = "，,、；;：:"
WORD_BEFORE: Final = re.compile(r"(?:[A-Za-z\u00c0-\u024f0-9]+\.?)+$")
LONGEST_WORD: Final = 24

TITLES: Final = frozenset(
    "mr mrs ms dr prof st gen col sgt capt lt rev hon gov sen rep mt messrs mme mlle fr vs cf e.g "
    "i.e viz".split()
)
"""Never at the end of a sentence."""
BEFORE_NUMBERS: Final = frozenset("no nos fig figs eq eqs sec ch vol vols art p pp".split())
ABBREVIATIONS: Final = frozenset(
    "sr jr etc al inc ltd co corp dept est ed eds ca approx jan feb mar apr jun jul aug sep sept "
    "oct nov dec a.m p.m u.s u.k u.n u.s.a e.u d.c ph.d m.d b.a m.a b.c a.d st.".split()
)
STARTERS: Final = frozenset(
    "the a an i he she it we you they this that these those there here his her its my our your "
    "their in on at as if when while then but and so however what who why how where".split()
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence; the spans cover the text without gaps."""
    ends = []
    start = len(text) - len(text.lstrip())
    position = start
    while match := END.search(text, position):
        position = match.end()
        if _ends(text, start, match):
            ends.append(position)
            start = position
    if start < len(text) or (text and not ends):
        ends.append(len(text))
    return list(zip([0, *ends], ends, strict=False))


def sentences(text: str) -> list[str]:
    """The sentences; joined, they are the text."""
    return [text[start:end] for start, end in sentence_spans(text)]


def _ends(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether the sentence that begins at `start` really ends at a match."""
    end = match.end()
    marks, closers, blanks = match["marks"], match["closers"] or "", match["blanks"]
    if marks is None or end == len(text) or NEW_LINE.search(blanks):
        return True
    following = NEXT.match(text, end)
    assert following is not None, "NEXT matches everywhere"
    word = following[1]
    if text[end] in GOES_ON:
        return False
    if STRONG.search(marks + closers):
        return True
    if word[:1].islower() or not (blanks or re.match(f"[{CHINESE}]", text[end])):
        return False
    if marks.strip(".．") or closers:
        return bool(set("!?") & set(marks + closers)) or bool(blanks and closers)
    if len(marks) > 1:
        return bool(blanks)
    return _full_stop_ends(text, start, match.start(), word, blanks)


def _full_stop_ends(text: str, start: int, stop: int, word: str, blanks: str) -> bool:
    """Whether one full stop, with no small letter behind it, ends a sentence."""
    found = WORD_BEFORE.search(text, max(start, stop - LONGEST_WORD), stop)
    if found is None:
        return True
    before = found[0].lower()
    if before.isdigit() and (found.start() == start or not blanks):
        return False
    if before in TITLES or (before in BEFORE_NUMBERS and word[:1].isdigit()):
        return False
    initial = len(before) == 1 and before.isalpha() and before != "i"
    if initial or before in ABBREVIATIONS:
        return (
            word.lower() in STARTERS and word != "A" or re.match(f"[{CHINESE}]", word) is not None
        )
    return True
