"""Settings of the commands that turn sources into prepared folders."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tongwen.config.base import Config, Count, Positive, Seed, Share, Sources, VocabSize
from tongwen.config.cleaning import CleaningConfig
from tongwen.config.duplicates import DuplicatesConfig


class ReadConfig(Config):
    """How rows are read from sources."""

    sources: Sources
    """Files, folders, patterns, URLs or Hugging Face ids; the layout of each is recognised."""
    mapping: str | None = None
    """TOML file that says where an unusual layout keeps its texts, or dataset_info.json#NAME."""
    text_rows: Literal["auto", "file", "line"] = "auto"
    """Whether a document of a text file is the whole file or a line; auto splits huge files."""
    workers: Count = 0
    """Processes that read and encode; 0 takes one per core where there is enough to do."""
    engine: Literal["local", "ray"] = "local"
    """Where the work is done; the output is the same. `ray` needs the package `ray[data]`."""


class SiftConfig(ReadConfig, CleaningConfig, DuplicatesConfig):
    """Which rows of the sources are used, and what is mended in them."""


class DataPrepareConfig(SiftConfig):
    """Turn sources into a prepared folder: every row used, held out, dropped or rejected."""

    out: Path
    """The prepared folder to write; it appears only when it is complete."""
    tokenizer: Path | None = None
    """Model or tokenizer folder; without one a tokenizer is trained on these sources."""
    template: str | None = None
    """Chat template by name or as a Jinja file, instead of the tokenizer's own."""
    vocab_size: VocabSize = 8192
    """Size of the tokenizer that is trained when none is given."""
    clean: list[str] = Field(default=["none"])
    """Rules by name, or the sets `basic` (mojibake, unicode, boilerplate, leaks), `all`, `none`."""
    max_length: Positive = 2048
    """Longest item in tokens; what is longer is cut where it costs least, and counted."""
    max_source: Count = 0
    """Most tokens of a question and what stands before it; 0 for no limit of its own."""
    max_target: Count = 0
    """Most tokens of an answer; 0 for no limit of its own."""
    segments: Literal["pack", "greedy", "greedy-overlap"] = "pack"
    """How long documents are cut: any length, whole sentences, or KnowLM's overlapping ones."""
    marks: Literal["document", "piece", "none"] = "document"
    """Where begin and end marks stand: around documents, around their pieces, or nowhere."""
    hold_out: Share = 0.01
    """Share of the rows kept away from training, chosen by their content and the seed."""
    seed: Seed = 0
    """Seed of the choice of held-out rows."""


class DataCleanConfig(SiftConfig):
    """Write the rows worth training on as JSON lines, to be trained on with any tool."""

    out: Path
    """The folder to write: rows.jsonl, rejects.jsonl, account.json, report.html."""


class DataStatsConfig(SiftConfig):
    """Count what is in sources, and what the rules would find in them."""

    out: Path = Path("stats")
    """The folder to write: rejects.jsonl, account.json, report.html."""
    tokenizer: Path | None = None
    """Model or tokenizer folder, to count tokens too."""


class DataInspectConfig(Config):
    """Show what will be trained on, token by token."""

    source: Path
    """A prepared folder, or a file together with a model or tokenizer."""
    tokenizer: Path | None = None
    """Model or tokenizer folder, needed when the source is a file."""
    model: Path | None = None
    """The same as `tokenizer`: the model whose tokenizer and chat template are used."""
    template: str | None = None
    """Chat template by name or as a Jinja file, instead of the tokenizer's own."""
    html: Path | None = None
    """Write a page with the same view to this file."""
    samples: Positive = 3
    """How many rows to show."""
    held_out: bool = False
    """Show held-out rows instead of training rows."""
