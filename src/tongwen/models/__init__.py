"""Models: make one by size, find and load one, run it over packed documents."""

from __future__ import annotations

from tongwen.models.attention import PACKED, Packing
from tongwen.models.fast import packed_hidden
from tongwen.models.folder import (
    context_window,
    new_model,
    resolve_model,
    tokenizer_folder,
    weights_folder,
)
from tongwen.models.loading import load_base, load_model
from tongwen.models.prefix import plain_attention
from tongwen.models.sizes import SHAPES

__all__ = [
    "PACKED",
    "SHAPES",
    "Packing",
    "context_window",
    "load_base",
    "load_model",
    "new_model",
    "packed_hidden",
    "plain_attention",
    "resolve_model",
    "tokenizer_folder",
    "weights_folder",
]
