"""The rule `mojibake`: text that was read in a wrong encoding, repaired only where that is proved.

    UTF-8 read as Latin-1 or Windows-1252     ä¸­æ–‡, donâ€™t
    UTF-8 read as GBK or GB18030              涓枃锛
    GBK read as Latin-1 or Windows-1252       ÖÐÎÄ

A line is repaired if all of it, written back in the wrong encoding, is valid in the right one, if
reading that wrongly again gives the same line, and if what comes out is Chinese or English: signs
of other scripts, control characters and unassigned ones are no repair. Windows-1252 is taken as
browsers take it, with the five bytes it leaves open read as Latin-1. A line that was spoiled twice
is repaired twice.

锟斤拷 (U+FFFD written as UTF-8 and read as GBK) and U+FFFD itself stand for bytes that are lost: a
few of them are noted, many drop the row.

Limits: a line that is spoiled in part is noted, not repaired. A line of less than four Hanzi is
repaired only if they are common ones: protégé—” is also what 闔 looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from tongwen.cleaning.findings import FENCED, Found, Place, excerpt
from tongwen.text.encoding import COMMON
from tongwen.text.language import HAN, is_han

# One in a code span is what the text speaks of.
LOST: Final = re.compile("(?<!`)\ufffd+(?!`)|(?:锟斤拷)+锟?")
LOST_CHARS: Final = 0.001
"""Share of lost characters from which a text is not worth using."""
TIMES: Final = 3
"""How often a line is unspoiled, at most."""

WINDOWS: Final = {
    code: bytes([code]).decode("cp1252", "ignore") or chr(code) for code in range(0x80, 0xA0)
}
TO_BYTES: Final = {ord(char): code for code, char in WINDOWS.items()}
NEXT: Final = "".join(map(re.escape, {*WINDOWS.values(), *map(chr, range(0x80, 0xC0))}))
# A first byte of UTF-8 and one that goes on, as Latin-1 and Windows-1252 show them.
UTF8_AS_LATIN: Final = re.compile(f"[\xc2-\xf4][{NEXT}]")
# The same with less to be said for chance: the line is not all spoiled, so nothing else proves it.
SPOILED_PART: Final = re.compile(
    "[\xc2\xc3][\x80-\xbf]|[\xe2-\xef][\x80-\xbf]{2}|â€[\x80-\xbf™œž¦]"
)
# Two bytes of a Hanzi, three times at least.
GBK_AS_LATIN: Final = re.compile("(?:[\xb0-\xf7][\xa1-\xfe]){3}")

PLAUSIBLE: Final = re.compile(
    f"[\t -~\xa0-\u024f\u02c6\u02dc\u2010-\u2027\u2030-\u205e\u20ac\u2100-\u27bf\u3000-\u303f{HAN}"
    "\ufe30-\ufe4f\uff01-\uff5e\uffe0-\uffe6\u0391-\u03c9\U0001f300-\U0001faff\ufe0f\r]*"
)
ENOUGH: Final = 4
"""Characters of three bytes whose validity cannot be chance."""
ENOUGH_GBK: Final = 0.3
"""Share of common Hanzi from which a reading as GBK is Chinese; prose has 0.6."""


def mojibake(text: str, place: Place) -> Found | None:  # noqa: ARG001
    """Text read in a wrong encoding, repaired where that is proved."""
    if text.isascii():
        return None
    if start := _suspicion(text):
        mended, first, repaired, left = _repair_lines(text, start - 1)
        if repaired:
            detail = f"{repaired:,} lines read in a wrong encoding, repaired"
            return Found(detail, excerpt(text, first), mended)
        if left >= 0:
            return Found("perhaps read in a wrong encoding", excerpt(text, left))
    return _lost(text)


def _suspicion(text: str) -> int:
    """One past the place of the first suspicious characters; 0 if there are none."""
    found = [pattern.search(text) for pattern in (UTF8_AS_LATIN, GBK_AS_LATIN, _utf8_as_gbk())]
    return min((match.start() + 1 for match in found if match), default=0)


@lru_cache(1)
def _utf8_as_gbk() -> re.Pattern[str]:
    """A run of Chinese that begins with two bytes of UTF-8 read as GBK."""
    leads = (*range(0xE2, 0xEA), 0xEF)
    pairs = [bytes([lead, next_]) for lead in leads for next_ in range(0x80, 0xC0)]
    chars = "".join(pair.decode("gb18030", "ignore") for pair in pairs)
    # The character first: it is rare, and to look behind from every place would be slow.
    return re.compile(f"[{chars}](?<![^\0-\x7f].)", re.DOTALL)


def _repair_lines(text: str, place: int) -> tuple[str, int, int, int]:
    """The text with lines repaired from the one at `place` on, with where and how many; where one
    is suspicious that cannot be repaired, or -1."""
    start = text.rfind("\n", 0, place) + 1
    lines = text[start:].split("\n")
    first = left = -1
    repaired = 0
    for number, line in enumerate(lines):
        if line.isascii():
            continue
        mended = _repaired(line)
        if mended is not None:
            repaired += 1
            first = first if first >= 0 else start + sum(map(len, lines[:number])) + number
            lines[number] = mended
        elif left < 0 and (match := SPOILED_PART.search(line)):
            left = start + sum(map(len, lines[:number])) + number + match.start()
    return text[:start] + "\n".join(lines), first, repaired, left


def _repaired(line: str, times: int = TIMES) -> str | None:
    """What the line was before it was read in a wrong encoding; None if that is not proved."""
    for text, proved in _readings(line):
        # What was spoiled twice is no text yet when it is repaired once.
        deeper = _repaired(text, times - 1) if times > 1 else None
        if deeper is not None:
            return deeper
        if proved and PLAUSIBLE.fullmatch(text):
            return text
    return None


def _readings(line: str) -> Iterator[tuple[str, bool]]:
    """What the line may have been, and whether that is beyond chance."""
    latin = _latin_bytes(line)
    if latin is not None and UTF8_AS_LATIN.search(line):
        text = _decoded(latin, "utf-8")
        if text is not None:
            yield text, _beyond_chance(text)
    if _utf8_as_gbk().search(line) and (data := _gbk_bytes(line)) is not None:
        text = _decoded(data, "utf-8")
        if text is not None:
            yield text, _beyond_chance(text)
    if latin is not None and GBK_AS_LATIN.search(line):
        text = _decoded(latin, "gb18030")
        if text is not None:
            yield text, _common(text) >= ENOUGH_GBK


def _latin_bytes(line: str) -> bytes | None:
    """The bytes of a line that was read as Latin-1 or as Windows-1252; None if it was neither."""
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        pass
    try:
        data = line.translate(TO_BYTES).encode("latin-1")
    except UnicodeEncodeError:
        return None
    again = data.decode("latin-1").translate(WINDOWS)
    return data if again == line else None


def _gbk_bytes(line: str) -> bytes | None:
    """The bytes of a line that was read as GB18030; None if reading them again differs."""
    try:
        data = line.encode("gb18030")
    except UnicodeEncodeError:
        return None
    return data if _decoded(data, "gb18030") == line else None


def _decoded(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _beyond_chance(text: str) -> bool:
    """Whether text is so long, or of such characters, that its validity is no chance."""
    wide = [char for char in text if char > "\u07ff"]
    return len(wide) >= ENOUGH or all(char in COMMON for char in wide if is_han(char))


def _common(text: str) -> float:
    """Share of common ones among the Hanzi."""
    han = [char for char in text if is_han(char)]
    return sum(char in COMMON for char in han) / len(han) if han else 0.0


def _lost(text: str) -> Found | None:
    if not LOST.search(text):
        return None
    size = len(text)
    # What a program prints may hold U+FFFD by right.
    text = FENCED.sub("", text)
    lost = list(LOST.finditer(text))
    if not lost:
        return None
    count = sum(len(match[0]) for match in lost)
    detail = f"{count:,} characters that cannot be recovered"
    drop = count > LOST_CHARS * size
    return Found(detail, excerpt(text, lost[0].start()), drop=drop)
