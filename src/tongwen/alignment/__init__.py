"""Alignment: learning from preferences, judgements and rewards, on the loop of `tongwen.train`."""

from __future__ import annotations

from tongwen.alignment.stage import align

__all__ = ["align"]
