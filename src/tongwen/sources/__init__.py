"""Rows of files: what is read, and what cannot be, with the reason."""

from __future__ import annotations

from tongwen.sources.files import (
    SUFFIXES,
    Expanded,
    Reject,
    Row,
    Source,
    expand,
    iter_rows,
    open_source,
)

__all__ = [
    "SUFFIXES",
    "Expanded",
    "Reject",
    "Row",
    "Source",
    "expand",
    "iter_rows",
    "open_source",
]
