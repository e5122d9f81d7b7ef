"""Settings of the tokenizer commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from tongwen.config.base import Config, VocabSize


class TokenizerTrainConfig(Config):
    """Train a byte-level BPE tokenizer for Chinese and English."""

    sources: Annotated[list[Path], Field(min_length=1)]
    """Files or folders of text or conversations."""
    out: Path
    """The tokenizer folder to write, in the Hugging Face format."""
    vocab_size: VocabSize = 8192
    """Number of tokens: 256 bytes, the control tokens, and merges up to this size."""
