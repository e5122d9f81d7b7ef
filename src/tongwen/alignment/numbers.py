"""Numbers as Chinese and English texts write them: `1,234.5`, `3.5万`, `1亿2000万`, `三百二十`."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import Final

DIGITS: Final = {char: value for value, char in enumerate("零一二三四五六七八九")} | {
    "〇": 0,
    "两": 2,
}
SMALL: Final = {"十": 10, "百": 100, "千": 1000}
LARGE: Final = {"万": 10**4, "亿": 10**8}
WORD: Final = "".join([*DIGITS, *SMALL, *LARGE])
TERM: Final = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?[百千万亿]*"
NUMBER: Final = re.compile(rf"(?<![\d.])-?{TERM}(?:(?<=[百千万亿]){TERM})*%?")
SPELLED: Final = re.compile(rf"负?[{WORD}]+")
PART: Final = re.compile(r"([\d,]+(?:\.\d+)?)([百千万亿]*)")


def last_number(text: str) -> Fraction | None:
    """The last number of a text; one in Chinese characters only where no digits are written.

    So `一` in a word such as `一起` is not taken for the answer.
    """
    plain = unicodedata.normalize("NFKC", text).replace("−", "-")
    if found := NUMBER.findall(plain):
        return _written(found[-1])
    spelled = SPELLED.findall(plain)
    return _spelled(spelled[-1]) if spelled else None


def _written(number: str) -> Fraction:
    total = Fraction(0)
    for digits, units in PART.findall(number):
        value = Fraction(digits.replace(",", ""))
        for unit in units:
            value *= (SMALL | LARGE)[unit]
        total += value
    if number.endswith("%"):
        total /= 100
    return -total if number.startswith("-") else total


def _spelled(number: str) -> Fraction:
    """Digits one after another, `二〇二四`, or with units, `三百二十万零五`."""
    figures = number.removeprefix("负")
    if all(char in DIGITS for char in figures):
        value = int("".join(str(DIGITS[char]) for char in figures))
    else:
        value = _with_units(figures)
    return Fraction(-value if number.startswith("负") else value)


def _with_units(figures: str) -> int:
    total = section = digit = 0
    for char in figures:
        if char in DIGITS:
            digit = DIGITS[char]
        elif char in SMALL:
            section += (digit or 1) * SMALL[char]
            digit = 0
        else:
            # 一亿二千万 is a sum; 三万亿 multiplies what stands before.
            section += digit
            total = total + section * LARGE[char] if section else max(total, 1) * LARGE[char]
            section = digit = 0
    return total + section + digit
