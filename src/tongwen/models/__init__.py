"""Models: make one by size, find and load one, attention over packed documents."""

from __future__ import annotations

from tongwen.models.attention import PACKED, Packing
from tongwen.models.folder import context_window, load_model, new_model, resolve_model
from tongwen.models.sizes import SHAPES

__all__ = [
    "PACKED",
    "SHAPES",
    "Packing",
    "context_window",
    "load_model",
    "new_model",
    "resolve_model",
]
