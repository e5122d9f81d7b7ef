"""What a corpus is made of: counts in bounded memory.

Lengths are counted in bins that double up to 4,096 and are 4,096 wide from there to 32,768 and one
beyond: the first tell short conversations apart, the others are those in which the lengths of
Index-1.9B's corpus were published. Each bin holds how many items have such a length, and how much
all of them together are: 97 % of documents may hold but 73 % of the tokens.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from tongwen.cleaning.findings import Finding
from tongwen.cleaning.quality import ENOUGH, repeated_passages, sign_share
from tongwen.messages.conversation import Document, Item
from tongwen.messages.texts import messages_of, texts_of
from tongwen.text.language import language
from tongwen.text.script import script

EDGES: Final = (0, *(1 << n for n in range(4, 12)), *(n << 12 for n in range(1, 9)))
"""Where bins begin."""
EXAMPLES: Final = 5
"""Examples of each rule that are kept."""
TURNS: Final = 16
"""Turns from which on conversations are counted together."""
SHARES: Final = 20
"""Bins of a share: each is five percent wide."""
SAMPLE: Final = 1 << 16
"""Characters from the start of an item on which its quality is measured."""


@dataclass(frozen=True, slots=True)
class Example:
    """One place at which a rule found something."""

    place: str
    """`FILE:LINE`."""
    detail: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Measures:
    """What is counted of one item."""

    characters: int
    answers: int | None
    """Messages of the assistant; None for a document."""
    language: str
    script: str | None = None
    signs: int | None = None
    """Place in SHARES of its share of signs; None where it is short or was not asked for."""
    repeated: int | None = None


@dataclass
class Statistics:
    """Counts over items, and what the rules found in their rows."""

    items: int = 0
    characters: int = 0
    tokens: int = 0
    """0 where they were not counted."""
    items_by_characters: Counter[int] = field(default_factory=Counter)
    """Items in each bin of EDGES."""
    characters_by_characters: Counter[int] = field(default_factory=Counter)
    """Characters of the items in each bin."""
    items_by_tokens: Counter[int] = field(default_factory=Counter)
    tokens_by_tokens: Counter[int] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    """Items of each language."""
    language_characters: Counter[str] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)
    """Items with Chinese of each script."""
    layouts: Counter[str] = field(default_factory=Counter)
    turns: Counter[int] = field(default_factory=Counter)
    """Items by the messages of the assistant in them; documents are not counted."""
    signs: Counter[int] = field(default_factory=Counter)
    """Items in each bin of SHARES by their share of signs; short ones are not counted."""
    repeated: Counter[int] = field(default_factory=Counter)
    """The same by the share of what was said before."""
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows in which a rule acted, by rule and action."""
    examples: dict[tuple[str, str], list[Example]] = field(default_factory=dict)

    def count(self, measures: Measures, layout: str, tokens: int | None = None) -> None:
        """Count an item, as it is after cleaning; `tokens` is its length where it is known."""
        self.items += 1
        self.characters += measures.characters
        place = bin_of(measures.characters)
        self.items_by_characters[place] += 1
        self.characters_by_characters[place] += measures.characters
        if tokens is not None:
            self.tokens += tokens
            self.items_by_tokens[bin_of(tokens)] += 1
            self.tokens_by_tokens[bin_of(tokens)] += tokens
        self.layouts[layout] += 1
        if measures.answers is not None:
            self.turns[min(measures.answers, TURNS)] += 1
        self.languages[measures.language] += 1
        self.language_characters[measures.language] += measures.characters
        if measures.script is not None:
            self.scripts[measures.script] += 1
        if measures.signs is not None and measures.repeated is not None:
            self.signs[measures.signs] += 1
            self.repeated[measures.repeated] += 1

    def find(self, findings: Iterable[Finding], place: str) -> None:
        """Count what the rules found in the row at `place` (`FILE:LINE`), each rule once."""
        seen = set()
        for finding in findings:
            key = (finding.rule, finding.action)
            if key in seen:
                continue
            seen.add(key)
            self.findings[key] += 1
            kept = self.examples.setdefault(key, [])
            if len(kept) < EXAMPLES:
                kept.append(Example(place, finding.detail, finding.example))

    def to_record(self) -> dict[str, JsonValue]:
        """A JSON value; the same counts give the same text."""
        return {
            "items": self.items,
            "characters": self.characters,
            "tokens": self.tokens or None,
            "lengths": [
                {
                    "from": edge,
                    "items_by_characters": self.items_by_characters[place],
                    "characters": self.characters_by_characters[place],
                    "items_by_tokens": self.items_by_tokens[place],
                    "tokens": self.tokens_by_tokens[place],
                }
                for place, edge in enumerate(EDGES)
            ],
            "languages": {
                name: {"items": count, "characters": self.language_characters[name]}
                for name, count in sorted(self.languages.items())
            },
            "scripts": dict(sorted(self.scripts.items())),
            "layouts": dict(sorted(self.layouts.items())),
            "turns": {str(count): items for count, items in sorted(self.turns.items())},
            "signs": [self.signs[place] for place in range(SHARES)],
            "repeated": [self.repeated[place] for place in range(SHARES)],
            "findings": [
                {
                    "rule": rule,
                    "action": action,
                    "rows": count,
                    "examples": [
                        {"place": one.place, "detail": one.detail, "excerpt": one.excerpt}
                        for one in self.examples[rule, action]
                    ],
                }
                for (rule, action), count in sorted(self.findings.items())
            ],
        }


def measure(item: Item) -> Measures:
    """Measure one item; pure, so that it may be done anywhere."""
    text = "\n".join(texts_of(item))
    of = "none" if text.isascii() else script(text)
    sample = text[:SAMPLE]
    enough = len(sample) >= ENOUGH
    return Measures(
        characters=len(text),
        answers=answers_of(item),
        language=language(text),
        script=None if of == "none" else of,
        signs=_share_bin(sign_share(sample)) if enough else None,
        repeated=_share_bin(repeated_passages(sample)[0]) if enough else None,
    )


def answers_of(item: Item) -> int | None:
    """How often the assistant speaks in an item; None for a document."""
    if isinstance(item, Document):
        return None
    return sum(message.role == "assistant" for message in messages_of(item))


def bin_of(length: int) -> int:
    """The place in EDGES of the bin that a length falls into."""
    return bisect_right(EDGES, length) - 1


def bin_names() -> list[str]:
    """What the bins of EDGES are called, each by where it ends."""
    return [*(f"< {_short(edge)}" for edge in EDGES[1:]), f"≥ {_short(EDGES[-1])}"]


def _short(edge: int) -> str:
    return f"{edge // 1024}k" if edge >= 1024 else str(edge)


def _share_bin(share: float) -> int:
    return min(int(share * SHARES), SHARES - 1)
