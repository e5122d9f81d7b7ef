"""Chinese and English text: normal form, language, sentences, encodings, streamed UTF-8."""

from __future__ import annotations

from tongwen.text.encoding import decode, detect_encoding
from tongwen.text.language import Language, is_han, language
from tongwen.text.normalise import nfc
from tongwen.text.sentences import sentence_spans, sentences
from tongwen.text.stream import Utf8Stream

__all__ = [
    "Language",
    "Utf8Stream",
    "decode",
    "detect_encoding",
    "is_han",
    "language",
    "nfc",
    "sentence_spans",
    "sentences",
]
