"""What of a conversation the model sees: as much of its end as fits in a budget of tokens.

The oldest turns go first, whole turns only. The system message stays, and so does the question; if
the two alone are too long, the question is shortened from the middle, where the least is lost, and
only a system message that leaves no room for any question is shortened as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from tongwen.messages import Message

GAP = " … "

Count = Callable[[Sequence[Message]], int]
"""Tokens of the prompt that messages make."""


@dataclass(frozen=True)
class Fitted:
    """Messages that fit, and what had to go for it."""

    messages: tuple[Message, ...]
    tokens: int
    dropped: int = 0
    """Turns that were left out, the oldest ones."""
    question_shortened: bool = False
    system_shortened: bool = False


def least_budget(count: Count) -> int:
    """The smallest budget in which every conversation can be made to fit."""
    return count(_messages(" ", [], ""))


def fit(
    system: str, turns: Sequence[tuple[str, str]], question: str, count: Count, budget: int
) -> Fitted:
    """The system message, the latest turns and the question within `budget` tokens.

    An empty system message is left out. The budget is at least `least_budget`.
    """

    @cache
    def tokens(first: int) -> int:
        return count(_messages(system, turns[first:], question))

    # The least number of turns to drop, by bisection: dropping more never takes more tokens.
    low, high = 0, len(turns)
    while low < high:
        middle = (low + high) // 2 if low else 0
        if tokens(middle) <= budget:
            high = middle
        else:
            low = middle + 1
    if tokens(low) <= budget:
        return Fitted(tuple(_messages(system, turns[low:], question)), tokens(low), dropped=low)
    return _shortened(system, question, len(turns), count, budget)


def _shortened(system: str, question: str, dropped: int, count: Count, budget: int) -> Fitted:
    kept = system
    if count(_messages(system, [], "")) > budget:
        empty = least_budget(count)
        kept = _longest(
            system, lambda text: count(_messages(text, [], "")) <= (budget + empty) // 2
        )
    asked = _longest(question, lambda text: count(_messages(kept, [], text)) <= budget)
    messages = tuple(_messages(kept, [], asked))
    return Fitted(
        messages,
        count(messages),
        dropped=dropped,
        question_shortened=asked != question,
        system_shortened=kept != system,
    )


def _messages(system: str, turns: Sequence[tuple[str, str]], question: str) -> list[Message]:
    messages = [Message("system", system)] if system else []
    for asked, answered in turns:
        messages += [Message("user", asked), Message("assistant", answered)]
    return [*messages, Message("user", question)]


def _longest(text: str, fits: Callable[[str], bool]) -> str:
    """The text, with as little of its middle left out as fits; the empty text always fits."""
    if fits(text):
        return text
    # Doubling first, so that a very long text is never counted whole again.
    high = 64
    while high < len(text) and fits(shorten(text, high)):
        high *= 2
    low, high = 0, min(high, len(text))
    while high - low > 1:
        middle = (low + high) // 2
        if fits(shorten(text, middle)):
            low = middle
        else:
            high = middle
    return shorten(text, low)


def shorten(text: str, length: int) -> str:
    """At most `length` characters of a text: its beginning and its end, with a gap between."""
    if len(text) <= length:
        return text
    kept = length - len(GAP)
    if kept <= 0:
        return text[:length]
    head = (kept + 1) // 2
    return text[:head] + GAP + text[len(text) - (kept - head) :]
