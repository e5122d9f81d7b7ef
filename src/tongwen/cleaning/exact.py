"""Exact duplicates: rows that say the same.

Two rows are the same when all that a model could learn from is: the texts, who says them, tools and
calls, which answer is the better one. Line ends (`\\r\\n`, `\\r`) count as `\\n`, and blanks around
a text do not count. What else stands in a row (ids, sources, labels) does not either.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from typing import Final

from tongwen.messages import Conversation, Document, Message
from tongwen.messages.conversation import Item, Judged, Preference

KEY_BYTES: Final = 16
"""Two different rows share a key by chance once in 10^19 data sets of a billion rows."""
FEWEST_SLOTS: Final = 1 << 10


def item_key(item: Item) -> bytes:
    """16 bytes (BLAKE2b) that are equal for rows that say the same."""
    parts = [part.replace("\r\n", "\n").replace("\r", "\n").strip() for part in _parts(item)]
    # Without their lengths, texts cut at other places would be the same.
    lengths = array("Q", map(len, parts)).tobytes()
    said = "".join(parts).encode(errors="surrogatepass")
    return hashlib.blake2b(lengths + said, digest_size=KEY_BYTES).digest()


def _parts(item: Item) -> Iterator[str]:
    yield type(item).__name__
    match item:
        case Document(text):
            yield text
        case Conversation(messages, tools):
            yield from _said(messages)
            yield from tools
        case Preference(prompt, chosen, rejected, tools):
            for messages in (prompt, chosen, rejected):
                yield from _said(messages)
            yield from tools
        case Judged(conversation, good):
            yield str(good)
            yield from _parts(conversation)


def _said(messages: Iterable[Message]) -> Iterator[str]:
    for message in messages:
        yield message.role if message.trained else f"{message.role}, not trained"
        yield message.content
        yield message.thinking
        for call in message.calls:
            yield call.name
            yield call.arguments
    yield "end"


class Seen:
    """The keys met so far, each with the number of the row that had it first.

    A dictionary laid out as Python's own (keys in the order of their coming, and a sparse table of
    places) but without objects: 30 to 42 bytes a row, where `dict[bytes, int]` takes about 180.
    """

    def __init__(self) -> None:
        self._keys = bytearray()
        self._numbers = array("Q")
        self._places = array("I", bytes(4 * FEWEST_SLOTS))

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, key: bytes, number: int) -> int | None:
        """Remember a key; the number of the earlier row that has it, or None if none has."""
        assert len(key) == KEY_BYTES
        slot = self._slot(key)
        if place := self._places[slot]:
            return self._numbers[place - 1]
        self._keys += key
        self._numbers.append(number)
        self._places[slot] = len(self._numbers)
        if 3 * len(self._numbers) > 2 * len(self._places):
            self._grow()
        return None

    def _slot(self, key: bytes) -> int:
        """Where the place of a key stands, or is to stand (linear probing; 0 is empty)."""
        mask = len(self._places) - 1
        slot = int.from_bytes(key[:8], "little") & mask
        while place := self._places[slot]:
            if self._keys[KEY_BYTES * (place - 1) : KEY_BYTES * place] == key:
                break
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        slots = 2 * len(self._places)
        self._places = array("I", bytes(4))
        self._places *= slots
        for place in range(1, len(self._numbers) + 1):
            key = bytes(self._keys[KEY_BYTES * (place - 1) : KEY_BYTES * place])
            self._places[self._slot(key)] = place
