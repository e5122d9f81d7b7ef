"""Settings of the tokenizer commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tongwen.config.base import Config, Count, Positive, Seed, Sources, VocabSize

TokenizerKind = Literal["bpe", "sentencepiece-bpe", "sentencepiece-unigram"]
SplitName = Literal["gpt-2", "mpt", "falcon", "starcoder", "qwen2", "llama3", "cl100k", "o200k"]
EmbeddingInit = Literal["mean", "subtokens", "normal", "random"]


class TokenizerTrainConfig(Config):
    """Train a tokenizer for Chinese and English."""

    sources: Sources
    """Files, folders, patterns, URLs or Hugging Face ids of text or conversations."""
    out: Path
    """The tokenizer folder to write, in the Hugging Face format."""
    vocab_size: VocabSize = 8192
    """Number of tokens: 256 bytes, the control tokens, and merges up to this size."""
    kind: TokenizerKind = "bpe"
    """Byte-level BPE, or one of SentencePiece's two kinds, with bytes for rare characters."""
    split_digits: bool = True
    """Make every digit a token of its own, so that numbers are read digit by digit."""
    specials: list[str] = Field(default=[])
    """Further control tokens, which no text can spell."""


class TokenizerReportConfig(Config):
    """Compare tokenizers: how many tokens they need for Chinese, English and code."""

    tokenizers: Annotated[list[Path], Field(min_length=1)]
    """Folders or files: Hugging Face, SentencePiece, tiktoken ranks, GGUF, GPT-2's encoder.json."""
    text: list[Path] = Field(default=[])
    """Files to measure on, one column each; without them, short texts in zh, en and Python."""
    characters: Positive = 100_000
    """Characters to take from the beginning of each file."""
    split: SplitName | None = None
    """How byte-level vocabularies split words, where their file says nothing or something else."""
    html: Path | None = None
    """Write the figures as a page as well."""


class TokenizerCheckConfig(Config):
    """Find what is wrong with a tokenizer: control tokens, template, ends, round trips."""

    tokenizer: Path
    """A model folder, or a tokenizer folder or file."""


class TokenizerExtendConfig(Config):
    """Add Chinese tokens to a tokenizer, keeping all old ids, and to the model that uses it."""

    tokenizer: Path
    """The tokenizer to extend: a model or tokenizer folder, or a file."""
    out: Path
    """The tokenizer folder to write; with --model, a model folder."""
    pieces: Path | None = None
    """A tokenizer whose tokens are added, for example a SentencePiece model trained on Chinese."""
    text: list[Path] = Field(default=[])
    """Text to learn new tokens from where --pieces is absent, and to measure before and after."""
    add: Positive = 8000
    """Number of tokens to learn from the text."""
    model: Path | None = None
    """A model folder whose embeddings are to grow with the vocabulary."""
    init: EmbeddingInit = "subtokens"
    """New rows: mean of all, of the old tokens that spelled each, normal around it, or random."""
    compare: bool = False
    """Measure the loss on the text for every way to fill the new rows, and show which is lowest."""
    pad_to: Positive = 1
    """Round the number of embedding rows up to a multiple of this."""
    seed: Seed = 0
    """Decides the random numbers of the new rows."""


class TokenizerPruneConfig(Config):
    """Take tokens out of a tokenizer that a text does not use, and their rows out of a model."""

    tokenizer: Path
    """The tokenizer to prune: a model or tokenizer folder, or a file."""
    out: Path
    """The tokenizer folder to write; with --model, a model folder."""
    text: list[Path] = Field(default=[])
    """Text whose tokens stay."""
    keep: Path | None = None
    """A file with a token on each line that stays as well, as the vocabulary writes it."""
    min_count: Positive = 1
    """How often the text must use a token for it to stay."""
    size: Count = 0
    """Keep only so many tokens, the most used first; 0 sets no limit."""
    model: Path | None = None
    """A model folder whose embeddings are to shrink with the vocabulary."""
