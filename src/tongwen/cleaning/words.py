"""The rule `words`: harmful words from lists.

A list is a text file with a word or a phrase on each line; `#` begins a comment. Words are compared
in small letters and half-width forms. One in Latin letters counts between the borders of words, so
that no Scunthorpe is hurt; one with Hanzi counts wherever it stands, but a single Hanzi only where
no other stands beside it.

Limits: a list knows no context. Words for parts of the body are in the usual lists, and drop
medical texts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tongwen.cleaning.findings import Found, Place, excerpt
from tongwen.errors import ConfigError
from tongwen.text.encoding import decode
from tongwen.text.language import HAN_CHARS

WORD: Final = re.compile(r"[a-z0-9\u00c0-\u024f]+(?:['’-][a-z0-9\u00c0-\u024f]+)*")
PER: Final = 10_000
"""Characters for which `max_words` are let pass."""
SHOWN: Final = 3
LONGEST: Final = 100
"""Characters of an entry; a line beyond it is a text that strayed into the list."""


class Words:
    """Words from lists: more than are let pass drop the row."""

    def __init__(self, files: Sequence[Path], most: int) -> None:
        self._most = most
        words = {word for file in files for word in read_words(file)}
        latin = {word for word in words if WORD.fullmatch(word)}
        others = sorted(words - latin)
        self._latin = frozenset(latin)
        self._others = re.compile(_trie(others)) if others else None

    def __call__(self, text: str, place: Place) -> Found | None:  # noqa: ARG002
        plain = normal(text)
        found = [match for match in WORD.finditer(plain) if match[0] in self._latin]
        if self._others is not None:
            found += [match for match in self._others.finditer(plain) if _stands_alone(match)]
        allowed = self._most * -(-len(text) // PER)
        if len(found) <= allowed:
            return None
        first = min(found, key=lambda match: match.start())
        shown = ", ".join(dict.fromkeys(match[0] for match in found[:SHOWN]))
        detail = f"{len(found):,} listed words ({shown})"
        return Found(detail, excerpt(plain, *first.span()), drop=True)


def read_words(file: Path) -> Iterable[str]:
    """The entries of a list in the form in which they are compared."""
    try:
        text = decode(file.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"the word list {file} cannot be read: {error.strerror}", "check the path in --words"
        ) from None
    lines = (normal(line.partition("#")[0]).strip() for line in text.splitlines())
    words = []
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST:
            raise ConfigError(
                f"{file}:{number}: an entry of {len(line):,} characters, the most is {LONGEST}",
                "write one word or phrase on each line",
            )
        if line:
            words.append(line)
    if not words:
        raise ConfigError(f"the word list {file} is empty", "write one word on each line")
    return words


def normal(text: str) -> str:
    """Small letters in half-width forms."""
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).lower()


def _stands_alone(match: re.Match[str]) -> bool:
    """Whether Latin letters do not go on at either end, nor Hanzi beside a single one."""
    word, text = match[0], match.string
    before, behind = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    if len(word) == 1 and (HAN_CHARS.match(before) or HAN_CHARS.match(behind)):
        return False
    joined_before = before.isalnum() and before.isascii() and word[0].isascii()
    joined_behind = behind.isalnum() and behind.isascii() and word[-1].isascii()
    return not (joined_before or joined_behind)


def _trie(words: Sequence[str]) -> str:
    """A pattern that matches the longest of the words, sharing what they begin with."""
    branches: dict[str, list[str]] = {}
    for word in words:
        branches.setdefault(word[:1], []).append(word[1:])
    ends = "" in branches
    parts = [re.escape(char) + _trie(rest) for char, rest in sorted(branches.items()) if char]
    if not parts:
        return ""
    return f"(?:{'|'.join(parts)}){'?' if ends else ''}"
