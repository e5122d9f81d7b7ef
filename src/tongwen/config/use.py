"""Settings of the commands that teach and use a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from tongwen.config.base import Config, Count, Positive, Seed
from tongwen.config.device import DeviceConfig


class QuickstartConfig(Config):
    """Teach a small bilingual model on this machine, examine it and talk to it."""

    out: Path = Path("quickstart")
    """Folder for everything that is made; run again with the same folder to continue."""
    seed: Seed = 0
    """Seed of the lessons, the first weights and the order of the rows."""
    scale: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the full course to teach; below 1 it is quicker and the exam is worse."""


class SamplingConfig(Config):
    """How the next token is chosen."""

    max_new_tokens: Positive = 256
    """Longest answer in tokens."""
    temperature: Annotated[float, Field(ge=0.0, le=5.0)] = 0.7
    """Randomness; 0 always takes the likeliest token."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    """Smallest set of tokens with this probability together."""
    top_k: Count = 0
    """Only the k likeliest tokens; 0 for all."""
    repetition_penalty: Annotated[float, Field(gt=0.0)] = 1.0
    """Divides the scores of tokens that already stand in the text; 1 for none."""
    seed: Seed | None = None
    """Seed of the choices; without one every answer differs."""


class ChatConfig(SamplingConfig, DeviceConfig):
    """Talk to a model in the terminal, or get one answer with `--prompt`."""

    model: Path
    """Model folder or run folder."""
    prompt: str | None = None
    """Answer this once and leave; `-` reads it from standard input."""
    system: str | None = None
    """System message that stays at the top of the conversation."""
    raw: bool = False
    """Continue plain text instead of answering a turn (for base models)."""
    context: Count = 0
    """Tokens of history and answer together; 0 takes the model's context window."""
    best_of: Positive = 1
    """Answers of which the best is given, as the model in `reward` judges them."""
    reward: Path | None = None
    """Reward model, made by `tongwen align --objective reward`, for `best_of`."""

    @model_validator(mode="after")
    def _best_by_someones_judgement(self) -> Self:
        if (self.best_of > 1) != (self.reward is not None):
            raise ValueError("best_of above 1 and reward go together")
        if self.reward is not None and self.raw:
            raise ValueError("reward judges answers, and with raw there are none")
        return self
