"""Rows of files: what is read, and what cannot be, with the reason."""

from __future__ import annotations

from tongwen.sources.expand import Expanded, expand
from tongwen.sources.files import Source, iter_rows, open_source
from tongwen.sources.recognise import SUFFIXES
from tongwen.sources.rows import Reject, Row
from tongwen.sources.texts import TextRows

__all__ = [
    "SUFFIXES",
    "Expanded",
    "Reject",
    "Row",
    "Source",
    "TextRows",
    "expand",
    "iter_rows",
    "open_source",
]
