"""Simplified and traditional Chinese: told apart, and turned into each other.

A character counts for a script if it can only be of that script: OpenCC changes it on the way to
the other one, and the standard of the other one (GB 2312, Big5) does not have it. So 后, 里 and 乾,
which stand in both, say nothing.

Limits: conversion follows words (头发 → 頭髮, 发展 → 發展) but there and back is not lossless.
Shinjitai that Japanese shares with neither script are not touched.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from opencc import OpenCC

Script = Literal["simplified", "traditional", "both", "none"]
OTHER: Final = 0.1
"""Share of characters of the smaller script from which a text is of both."""
SAMPLE: Final = 1 << 16
"""Characters from the start on which the script is judged."""


def script(text: str) -> Script:
    """The script of the Chinese in a text; `none` if no character is of one script alone."""
    sample = text[:SAMPLE]
    simplified = len(_only("simplified").findall(sample))
    traditional = len(_only("traditional").findall(sample))
    if simplified + traditional == 0:
        return "none"
    if min(simplified, traditional) > OTHER * (simplified + traditional):
        return "both"
    return "simplified" if simplified > traditional else "traditional"


def to_script(text: str, target: Literal["simplified", "traditional"]) -> str:
    """The text in one script; what has no Chinese characters of the other stays as it is."""
    other: Literal["simplified", "traditional"] = (
        "traditional" if target == "simplified" else "simplified"
    )
    return _converter(target).convert(text) if _only(other).search(text) else text


@lru_cache(2)
def _converter(target: Literal["simplified", "traditional"]) -> OpenCC:
    from opencc import OpenCC  # its dictionaries take time to load

    return OpenCC("t2s" if target == "simplified" else "s2t")


@lru_cache(2)
def _only(of: Literal["simplified", "traditional"]) -> re.Pattern[str]:
    """Matches the characters that are of one script alone."""
    other, standard = ("traditional", "big5") if of == "simplified" else ("simplified", "gb2312")
    every = [chr(code) for code in range(0x4E00, 0x9FA6)]
    # One line each, lest neighbours be taken for words.
    changed = _converter(other).convert("\n".join(every)).split("\n")
    only = [a for a, b in zip(every, changed, strict=True) if a != b and not _has(standard, a)]
    return re.compile(f"[{''.join(only)}]")


def _has(standard: str, char: str) -> bool:
    try:
        char.encode(standard)
    except UnicodeEncodeError:
        return False
    return True
