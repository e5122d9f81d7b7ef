"""What a chat template writes for conversations of one shape, with the places of the answers.

Sentinels are texts that occur nowhere else; they stand for the words while a template is looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tongwen.messages.conversation import Message

Rewrite = Callable[[str], str]

# From the private use area; letters and signs between, that no change of case or escape survives.
OPEN, CLOSE, FIRST = "\U000f0000aB&'中 x", "\U000f0001", 0xF0100
SENTINEL: Final = re.compile(f"{OPEN}(.){CLOSE}", re.DOTALL)
BEFORE, BEHIND = "\n \t\n", "\n\t \n"


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


REWRITES: Final[tuple[Rewrite, ...]] = (
    str,
    _in_json,
    lambda text: text.strip("\n"),
    lambda text: text.lstrip("\n"),
    lambda text: text.rstrip("\n"),
    str.strip,
    str.lstrip,
    str.rstrip,
)
"""What templates do to the edges of a text."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A content or a thought."""

    message: int
    thought: bool = False

    def text(self, messages: Sequence[Message]) -> str:
        """What stands here in a conversation."""
        message = messages[self.message]
        return message.thinking if self.thought else message.content

    @property
    def sentinel(self) -> str:
        """The text that stands for it."""
        return f"{OPEN}{chr(FIRST + 2 * self.message + self.thought)}{CLOSE}"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in what the template writes: behind so many characters of a piece."""

    piece: int
    offset: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A trained answer: a token carries loss that begins at `head` or later, reaches beyond `words`
    and ends at `end` or sooner."""

    head: Place
    words: Place
    end: Place


@dataclass(frozen=True, slots=True)
class Plan:
    """What the template writes for conversations of one shape."""

    pieces: tuple[str, ...]
    slots: tuple[Slot, ...]
    rewrites: tuple[Rewrite, ...]
    turns: tuple[Turn, ...]
    left_out: tuple[str, ...]
    """What the template does not show."""
    closed: bool
    """Whether the template ends the last answer."""
    literal: bool
    """Whether only the assistant's texts are not in the pieces."""

    def fill(self, messages: Sequence[Message]) -> tuple[str, list[int]]:
        """The text with these words, and where each piece begins."""
        parts, starts, length = [self.pieces[0]], [0], len(self.pieces[0])
        for slot, rewrite, piece in zip(self.slots, self.rewrites, self.pieces[1:], strict=True):
            inside = self.literal and messages[slot.message].role != "assistant"
            text = "" if inside else rewrite(slot.text(messages))
            starts.append(length + len(text))
            parts += (text, piece)
            length += len(text) + len(piece)
        return "".join(parts), starts

    def spans(self, starts: Sequence[int]) -> list[tuple[int, int, int]]:
        """Head, words and end of the trained answers, in characters of the filled text."""
        return [
            (
                starts[turn.head.piece] + turn.head.offset,
                starts[turn.words.piece] + turn.words.offset,
                starts[turn.end.piece] + turn.end.offset,
            )
            for turn in self.turns
        ]


def marked(place: int, message: Message, *, literal: bool) -> Message:
    """A message with sentinels for its texts, or behind those that are not the assistant's."""
    kept = message.content if literal and message.role != "assistant" else ""
    return replace(
        message,
        content=kept + Slot(place).sentinel if message.content else "",
        thinking=Slot(place, thought=True).sentinel if message.thinking else "",
    )


def padded(message: Message) -> Message:
    """The message with blanks around its sentinels."""
    content, thinking = (
        SENTINEL.sub(rf"{BEFORE}\g<0>{BEHIND}", text)
        for text in (message.content, message.thinking)
    )
    return replace(message, content=content, thinking=thinking)


def split(text: str) -> tuple[list[str], list[Slot]]:
    """The pieces of a text with sentinels, and the slots between them."""
    parts = SENTINEL.split(text)
    numbers = [ord(letter) - FIRST for letter in parts[1::2]]
    return parts[::2], [Slot(number // 2, thought=bool(number % 2)) for number in numbers]
