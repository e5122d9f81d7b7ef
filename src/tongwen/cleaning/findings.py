"""What a rule found in a row, and what is shown of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from tongwen.messages.conversation import Item, Role

Action = Literal["filtered", "mended", "noted"]
Place = Literal["document"] | Role
"""Where a text stands: a document, or the message of a role."""

AROUND: Final = 40
"""Characters of an example on either side of the place."""
FENCED: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
"""Code between fences, which is no prose."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found in one row."""

    rule: str
    action: Action
    detail: str
    """What is wrong, in a few words, with the numbers that decided."""
    example: str
    """The place and a little around it, on one line."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules make of a row."""

    item: Item | None
    """The item as it is to be used; None if it is filtered."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule says of one text."""

    detail: str
    example: str
    mended: str | None = None
    """The text without the fault; None where the rule does not mend."""
    drop: bool = False
    """Whether the row is not to be used."""


class Rule(Protocol):
    """Looks at one text of a row; None where there is nothing to find. Pure and picklable."""

    def __call__(self, text: str, place: Place) -> Found | None: ...


def excerpt(text: str, start: int, end: int | None = None) -> str:
    """The characters from `start` to `end` with a little around them, on one line."""
    end = start if end is None else min(end, start + 2 * AROUND)
    first, last = max(0, start - AROUND), min(len(text), end + AROUND)
    shown = " ".join(text[first:last].split())
    return f"{'…' if first else ''}{shown}{'…' if last < len(text) else ''}"
