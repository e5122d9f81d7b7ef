"""Unicode normal form."""

from __future__ import annotations

import unicodedata


def nfc(text: str) -> str:
    """The canonical composed form: one spelling for `é`, and nothing else changed.

    Unlike NFKC it keeps full-width letters, circled numbers and every other distinction that a
    reader sees.
    """
    return unicodedata.normalize("NFC", text)
