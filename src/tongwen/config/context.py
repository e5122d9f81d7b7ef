"""Settings of the context window of a model that goes on learning."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tongwen.config.base import Config, Rate

Rope = Literal["base", "linear", "dynamic", "yarn"]


class ContextConfig(Config):
    """How a model that was trained short comes to see more."""

    context: Annotated[int, Field(ge=16)] | None = None
    """Longest item in tokens; without it, what the model can see."""
    rope: Rope | None = None
    """Extend the window of `model` to `context`: another base, interpolation, NTK, or YaRN."""
    rope_theta: Rate | None = None
    """Base of the rotary positions for `rope` base; else the smallest that reaches `context`."""

    @model_validator(mode="after")
    def _theta_is_for_base(self) -> Self:
        if self.rope_theta is not None and self.rope != "base":
            raise ValueError("rope_theta is for rope base")
        return self

    @model_validator(mode="after")
    def _rope_reaches_a_context(self) -> Self:
        if self.rope is not None and self.context is None:
            raise ValueError("rope needs a context that it extends the window to")
        return self
