"""Which of our languages a text is in, by its scripts.

A rule, not a model: it takes microseconds and no data, and is right on lines of mixed language over
which statistical detectors stumble. Words are counted: Latin words outside of code and
addresses, Hanzi at 0.6 of a word each, and the words of every other script.

Limits: every prose in Latin letters counts as English. Japanese is told from Chinese by its kana;
a line of Japanese without any is `zh`. A source file counts by its comments where these prevail.
"""

from __future__ import annotations

import re
from typing import Final, Literal

Language = Literal["zh", "en", "mixed", "other"]

HAN: Final = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
LATIN: Final = "A-Za-z\u00c0-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a"
KANA: Final = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fd-\u30ff\u31f0-\u31ff\uff66-\uff9d"
# Letters that say nothing about the language: marks of repetition and length, bopomofo, ordinals.
NEUTRAL: Final = "\u3005\u3006\u30fc\u3105-\u312f\u02b0-\u02ff\u00aa\u00b5\u00ba"

HAN_CHARS: Final = re.compile(f"[{HAN}]+")
KANA_CHARS: Final = re.compile(f"[{KANA}]+")
LATIN_WORD: Final = re.compile(f"[{LATIN}]+(?:['’-][{LATIN}]+)*")
OTHER_WORD: Final = re.compile(f"[^\\W\\d_{LATIN}{HAN}{KANA}{NEUTRAL}]+")
CODE_OR_LINK: Final = (
    r"```.*?```|`[^`\n]*`|\$[^$\n]+\$|</?\w[^<>\n]{0,200}>"  # code, formulas, tags
    r"|\]\([^()\s]*\)|https?://[!-~]+|www\.[!-~]+"
)
NOT_PROSE: Final = re.compile(CODE_OR_LINK, re.DOTALL | re.ASCII)
NOT_PROSE_WITH_MAIL: Final = re.compile(
    CODE_OR_LINK + r"|[\w.+-]{1,64}@[\w-]+\.[\w.]+", re.DOTALL | re.ASCII
)
"""Apart, because looking for mail at every word takes half of the time."""
FRAME: Final = " \t#=*_~|>-"
"""What stands around a heading, an emphasis or a row of a table."""
CODE_SIGN: Final = re.compile(r"[][{}()<>=_\\|&+*#$@^~;`]|::|//")

HAN_WORDS: Final = 0.6
"""What a Hanzi carries, in English words."""
CODE: Final = 0.15
"""Code signs per letter from which the Latin words of a line are code."""
MIXED: Final = 0.25
"""The smaller share from which a text of two languages is mixed."""
FOREIGN: Final = 0.25
"""The share of other scripts from which a text is none of ours."""
JAPANESE: Final = 0.05
"""Kana per Hanzi from which the Hanzi are Japanese."""


def is_han(char: str) -> bool:
    """Whether a character is a Hanzi."""
    return len(char) == 1 and HAN_CHARS.fullmatch(char) is not None


def language(text: str) -> Language:
    """`zh`, `en`, `mixed` (a good part of each), or `other` (another script, or no words)."""
    if text.isascii():
        han, kana, foreign = 0, 0, 0.0
    else:
        han, kana = _count(HAN_CHARS, text), _count(KANA_CHARS, text)
        foreign = float(len(OTHER_WORD.findall(text)))
    chinese, english = HAN_WORDS * han, float(_latin_words(text))
    if kana > JAPANESE * han:
        chinese, foreign = 0.0, foreign + HAN_WORDS * (han + kana)
    words = chinese + english
    if words == 0 or foreign >= FOREIGN * (words + foreign):
        return "other"
    if chinese >= (1 - MIXED) * words:
        return "zh"
    return "en" if english >= (1 - MIXED) * words else "mixed"


def _count(characters: re.Pattern[str], text: str) -> int:
    """How many characters of a kind a text holds, by their runs."""
    return sum(map(len, characters.findall(text)))


def _latin_words(text: str) -> int:
    """How many Latin words of prose a text holds; none where more of its words are code."""
    bare = (NOT_PROSE_WITH_MAIL if "@" in text else NOT_PROSE).sub(" ", text)
    prose, code = len(LATIN_WORD.findall(bare)), 0
    if prose and CODE_SIGN.search(bare):
        for line in bare.splitlines():
            signs = len(CODE_SIGN.findall(line.strip(FRAME)))
            words: list[str] = LATIN_WORD.findall(line) if signs else []
            if signs > CODE * sum(map(len, words)):
                code += len(words)
    prose -= code
    return prose if prose >= code else 0
