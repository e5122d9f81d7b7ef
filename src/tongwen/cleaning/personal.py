"""The rule `personal`: numbers and addresses by which a person is found.

    identity card   18 characters by GB 11643-1999: division, birthday, check digit of ISO 7064
                    MOD 11-2
    bank card       12 to 19 digits, alone or in groups, with the prefix of an issuer and the check
                    digit of Luhn (ISO/IEC 7812-1)
    phone           Chinese mobile and landline numbers by their prefixes; numbers with a country
                    code or in the North American form; any number of 7 to 13 digits behind a word
                    such as “phone” or 电话
    e-mail          addresses as they are written

Limits: written to be right rather than complete. A bare group of digits is no phone number, and a
number that fails its check is left alone; so are names, postal addresses and every other clue.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from tongwen.cleaning.findings import Found, Place, excerpt
from tongwen.text.language import HAN_CHARS

Kind = Literal["e-mail", "identity card", "bank card", "phone"]
LABELS: Final[dict[Kind, tuple[str, str]]] = {
    "e-mail": ("[邮箱]", "[EMAIL]"),
    "identity card": ("[身份证]", "[ID CARD]"),
    "bank card": ("[银行卡]", "[BANK CARD]"),
    "phone": ("[电话]", "[PHONE]"),
}
"""What stands in the place of what was masked, in a Chinese text and in any other."""

EMAIL: Final = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}"
)
# The longest run of digits and of what may stand between them, with nothing that goes on.
NUMBER: Final = re.compile(
    r"(?<![A-Za-z0-9_./:=#-])(?<!\d,)(?:\+|\(\+?)?\d(?:[\d ().-]{5,24})[\dXx](?:x\d{2,5})?"
    r"(?![A-Za-z0-9_%]|[.,/:]\d|-\d)"
)

DIVISIONS: Final = frozenset(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 "
    "71 81 82 83".split()
)
"""First two digits of GB/T 2260."""
WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
CHECKS: Final = "10X98765432"
# Visa, Mastercard, American Express, Diners, JCB, UnionPay, Discover, Maestro: ISO/IEC 7812 ranges.
ISSUER: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01]|720)\d{12,13}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|35\d{14}|(?:1800|2131)\d{11}|62\d{14,17}|6(?:011|4[4-9]|5)\d{12,16}"
    r"|(?:5[0678]|6\d)\d{10,17}"
)
MOBILE: Final = re.compile(r"(?:\+?86[ -]?|\(\+?86\) ?)?1[3-9]\d([ -]?)\d{4}\1\d{4}")
LANDLINE: Final = re.compile(
    r"(?:\+?86[ -]?)?(?:\(0?(?:10|2\d|[3-9]\d{2})\) ?|0?(?:10|2\d|[3-9]\d{2})[ -])"
    r"[2-8]\d{6,7}(?:-\d{1,5})?"
    r"|400[ -]?\d{3}[ -]?\d{4}|400[ -]\d{4}[ -]\d{3}"
)
ABROAD: Final = re.compile(r"(?:\+|00)[1-9]\d{0,2}[ .()-]{0,3}(?:\d[ .()-]{0,2}){6,12}(?:x\d+)?")
NORTH_AMERICAN: Final = re.compile(
    r"(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])[2-9]\d{2}[ .-]\d{4}(?:x\d+)?"
)
GROUPED: Final = re.compile(r"[(+]?\d+(?:(?:\)|[ .-]|\) |\()+\d+)*(?:x\d+)?")
CUE: Final = re.compile(
    r"(?i:phone|\btel\b|call(?:ing)?\b|mobile|\bcell|\bfax\b|contact|reach (?:me|us)|\bdial)"
    r"|电话|手机号|手机[:：]|传真|热线|致电|拨打|联系方式"
)
CUE_BEHIND: Final = re.compile(r"[ -]?(?i:office|fax|mobile|cell)\b")
NEAR: Final = 40
"""Characters before a number in which a word says that it is a phone number."""
DAY: Final = re.compile(r"(?:19|20)\d\d[-. ]\d{1,2}[-. ]\d{1,2}(?: .*)?")


@dataclass(frozen=True, slots=True)
class Datum:
    """Where something personal stands, and what it is."""

    start: int
    end: int
    kind: Kind


class Personal:
    """Personal data: noted, masked, or a reason to drop the row."""

    def __init__(self, action: Literal["keep", "mask", "drop"]) -> None:
        self._action = action

    def __call__(self, text: str, place: Place) -> Found | None:  # noqa: ARG002
        data = list(personal_data(text))
        if not data:
            return None
        counts = {kind: sum(datum.kind == kind for datum in data) for kind in LABELS}
        detail = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
        masked = mask(text, data)
        # The report must not spread what the rule is there to hide.
        example = excerpt(masked, data[0].start)
        if self._action == "mask":
            return Found(detail, example, masked)
        return Found(detail, example, drop=self._action == "drop")


def personal_data(text: str) -> Iterator[Datum]:
    """What is personal in a text, in order, without overlaps."""
    mails = list(EMAIL.finditer(text)) if "@" in text else []
    data = [Datum(match.start(), match.end(), "e-mail") for match in mails]
    for match in NUMBER.finditer(text):
        span = _trimmed(match)
        kind = _kind_of(text, *span)
        if kind and not any(span[0] < mail.end() and mail.start() < span[1] for mail in mails):
            data.append(Datum(*span, kind))
    yield from sorted(data, key=lambda datum: datum.start)


def mask(text: str, data: list[Datum]) -> str:
    """The text with a label in the place of each datum."""
    chinese = HAN_CHARS.search(text) is not None
    parts, place = [], 0
    for datum in data:
        parts += [text[place : datum.start], LABELS[datum.kind][0 if chinese else 1]]
        place = datum.end
    return "".join([*parts, text[place:]])


def is_identity_card(number: str) -> bool:
    """Whether 18 characters are a citizen's identity number: GB 11643-1999."""
    if not re.fullmatch(r"\d{17}[\dXx]", number, re.ASCII) or number[:2] not in DIVISIONS:
        return False
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(WEIGHTS, number, strict=False))
    return 1900 <= born.year < 2100 and CHECKS[total % 11] == number[17].upper()


def is_bank_card(digits: str) -> bool:
    """Whether digits begin as an issuer's do and end with the check digit of Luhn."""
    if not ISSUER.fullmatch(digits):
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _trimmed(match: re.Match[str]) -> tuple[int, int]:
    """The span of a number without a bracket that closes or opens what is around it."""
    start, end = match.span()
    if match[0].count(")") < match[0].count("("):
        start += match[0].startswith("(")
    return start, end


def _kind_of(text: str, start: int, end: int) -> Kind | None:
    number = text[start:end]
    digits = re.sub(r"[ ().-]", "", number)
    if is_identity_card(digits) and len(number) == len(digits):
        return "identity card"
    if re.fullmatch(r"\d+(?:[ -]\d+)*", number) and is_bank_card(digits):
        return "bank card"
    phone = any(shape.fullmatch(number) for shape in (MOBILE, LANDLINE, ABROAD, NORTH_AMERICAN))
    if not phone and 7 <= len(digits.split("x")[0].lstrip("+")) <= 13:
        cue = CUE.search(text, max(0, start - NEAR), start) or CUE_BEHIND.match(text, end)
        phone = bool(cue and GROUPED.fullmatch(number) and not DAY.fullmatch(number))
    return "phone" if phone else None
