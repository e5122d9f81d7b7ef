"""UTF-8 text from bytes that arrive in pieces, as a model's tokens do."""

from __future__ import annotations

import codecs


class Utf8Stream:
    """Decodes a stream of bytes without ever showing half a character.

    For every way of cutting the same bytes, the returned pieces joined are
    `data.decode("utf-8", errors="replace")`: bytes of an unfinished character wait for the rest,
    and “�” stands only for bytes that no continuation could make valid.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, data: bytes) -> str:
        """The text that `data` completes."""
        return self._decoder.decode(data)

    def close(self) -> str:
        """What is left: nothing, or one “�” for a character that never came to its end."""
        return self._decoder.decode(b"", final=True)
