"""A conversation or a document as the model is trained on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids, and for each whether it carries loss."""

    ids: list[int]
    mask: list[bool]
    left_out: tuple[str, ...] = ()
    """What the template does not show: thoughts of earlier turns, tools, a system message."""
    joined: int = 0
    """Tokens without loss that hold the beginning of an answer joined with what is before it."""
    closed: bool = True
    """Whether the last answer is followed by a token that ends it."""

    @property
    def trained(self) -> int:
        """How many tokens carry loss."""
        return sum(self.mask)
