"""A text file seen through a window that slides forward, in bounded memory."""

from __future__ import annotations

from typing import Final, TextIO

CHUNK: Final = 1 << 20
"""Characters that are read at once."""


class Window:
    """A piece of a file that slides forward, and the line number of its beginning."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.text = ""
        self.at = 0
        self.line = 1

    def more(self) -> bool:
        """Read on, twice as much each time that it does not suffice; False at the end."""
        rest = self.text[self.at :]
        chunk = self._file.read(max(CHUNK, len(rest)))
        if chunk:
            self.text, self.at = rest + chunk, 0
        return bool(chunk)

    def advance(self, to: int) -> None:
        """Go forward to a place in `text`."""
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def skip(self, characters: str) -> str:
        """Go forward over these characters; return the one that follows, or "" at the end."""
        while True:
            to = self.at
            while to < len(self.text) and self.text[to] in characters:
                to += 1
            self.advance(to)
            if to < len(self.text):
                return self.text[to]
            if not self.more():
                return ""
