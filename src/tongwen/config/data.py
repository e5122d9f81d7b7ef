"""Settings of the commands that turn sources into prepared folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from tongwen.config.base import Config, Positive, Seed, Share, VocabSize


class DataPrepareConfig(Config):
    """Turn text and conversations into a prepared folder: every row used, held out or rejected."""

    sources: Annotated[list[Path], Field(min_length=1)]
    """Files or folders: .txt, .md, .json, .jsonl; the layout of each is recognised and said."""
    out: Path
    """The prepared folder to write; it appears only when it is complete."""
    tokenizer: Path | None = None
    """Model or tokenizer folder; without one a tokenizer is trained on these sources."""
    vocab_size: VocabSize = 8192
    """Size of the tokenizer that is trained when none is given."""
    max_length: Positive = 2048
    """Longest conversation in tokens; a longer one is rejected, longer text is cut in pieces."""
    hold_out: Share = 0.01
    """Share of the rows kept away from training, chosen by their content and the seed."""
    seed: Seed = 0
    """Seed of the choice of held-out rows."""


class DataInspectConfig(Config):
    """Show what will be trained on, token by token."""

    source: Path
    """A prepared folder, or a file together with a tokenizer."""
    tokenizer: Path | None = None
    """Model or tokenizer folder, needed when the source is a file."""
    samples: Positive = 3
    """How many rows to show."""
    held_out: bool = False
    """Show held-out rows instead of training rows."""
