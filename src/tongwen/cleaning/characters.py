"""The rule `unicode`: one spelling for every character, and none that nobody sees.

    CR LF, CR, line and paragraph separator, form feed      become LF
    other control characters                                go
    zero-width space, word joiner, byte order mark, soft hyphen, marks of direction   go
    no-break and typographic spaces                         become an ordinary space
    everything else                                         in the canonical composed form (NFC)

The ideographic space (U+3000), with which Chinese paragraphs begin, stays, and so do the joiners
U+200C and U+200D, without which emoji and some scripts fall apart.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from tongwen.cleaning.findings import Found, Place, excerpt

LINE_ENDS: Final = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
UNSEEN: Final = re.compile(
    "[\0-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
)
SPACES: Final = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f]")
ODD_ASCII: Final = re.compile("[\0-\x08\x0b-\x1f\x7f]")
ODD: Final = re.compile(
    f"{ODD_ASCII.pattern[:-1]}\x80-\x9f\u2028\u2029{UNSEEN.pattern[1:-1]}{SPACES.pattern[1:]}"
)


def unicode(text: str, place: Place) -> Found | None:  # noqa: ARG001
    """Characters in one spelling, none unseen."""
    odd = (ODD_ASCII if text.isascii() else ODD).search(text)
    if odd is None and unicodedata.is_normalized("NFC", text):
        return None
    ends = LINE_ENDS.subn("\n", text)
    unseen = UNSEEN.subn("", ends[0])
    spaces = SPACES.subn(" ", unseen[0])
    mended = unicodedata.normalize("NFC", spaces[0])
    counts = {
        "line ends": ends[1],
        "unseen characters": unseen[1],
        "odd spaces": spaces[1],
        "composed characters": int(mended != spaces[0]),
    }
    detail = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    start = odd.start() if odd else _first_difference(spaces[0], mended)
    return Found(detail, excerpt(text, start), mended)


def _first_difference(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
