"""Texts as a comparison sees them: letters and digits alone, in lower case and of one width.

What is folded away: case, full and half width and the other compatibility forms of single
characters (NFKC), blanks, punctuation and symbols; on request traditional characters become
simplified ones. A character becomes one character or none, through a table of code points, so that
folding runs at the speed of memory.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from tongwen.cleaning.scratch import U64, Codes

DENSE_FIRST: Final = 0x3040
"""From here on folded characters are kana, Hanzi and Hangul."""
UNICODE: Final = 0x110000
BLOCK: Final = 1 << 15
"""Values worked on together: what stays in the cache of a core."""
ASTRAL_IDEOGRAPHS: Final = 0x20000
MIX: Final = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""The constants of splitmix64 (Steele, Lea and Flood, 2014)."""


def fold(codes: Codes, simplify: bool = False) -> Codes:
    """One folded character for each character; 0 for those that do not count."""
    return _table(simplify)[codes]


def is_dense(folded: Codes) -> npt.NDArray[np.bool_]:
    """Which characters carry about as much as a word: Hanzi, kana and Hangul."""
    return folded >= np.uint32(DENSE_FIRST)


def mix(values: U64) -> U64:
    """Scatter 64-bit values in place (the finaliser of splitmix64): one-to-one, and no pattern."""
    values += np.uint64(MIX[0])
    values ^= values >> np.uint64(30)
    values *= np.uint64(MIX[1])
    values ^= values >> np.uint64(27)
    values *= np.uint64(MIX[2])
    values ^= values >> np.uint64(31)
    return values


def passages(codes: Codes, length: int) -> U64:
    """The hash of each passage of `length` characters, put together from halves."""
    blocks = (
        _passages(codes[start : start + BLOCK + length - 1], length)
        for start in range(0, len(codes) - length + 1, BLOCK)
    )
    return np.concatenate([np.empty(0, dtype=np.uint64), *blocks])


def _passages(codes: Codes, length: int) -> U64:
    hashes = mix(codes.astype(np.uint64))
    width = 1
    while width < length:
        step = min(width, length - width)
        hashes = hashes[:-step] * np.uint64(MIX[1]) + hashes[step:]
        hashes ^= hashes >> np.uint64(32)
        width += step
    return mix(hashes)


@cache
def _table(simplify: bool) -> Codes:
    table = np.zeros(UNICODE, dtype=np.uint32)
    for code in range(ASTRAL_IDEOGRAPHS):
        if not 0xD800 <= code < 0xE000:
            table[code] = _folded(chr(code))
    table[ASTRAL_IDEOGRAPHS:0x32000] = np.arange(ASTRAL_IDEOGRAPHS, 0x32000)
    if simplify:
        _simplify(table)
    return table


def _folded(char: str) -> int:
    plain = unicodedata.normalize("NFKC", char).casefold()
    if len(plain) == 1 and plain.isalnum():
        return ord(plain)
    return ord(char) if char.isalnum() else 0


def _simplify(table: Codes) -> None:
    from opencc import OpenCC

    block = "".join(map(chr, range(0x3400, 0xA000)))
    # One line per character, so that no phrase of several is ever seen.
    simple = OpenCC("t2s").convert("\n".join(block)).split("\n")
    for code, char in enumerate(simple, 0x3400):
        if table[code] and len(char) == 1:
            table[code] = ord(char)
