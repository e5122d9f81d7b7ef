"""Settings of the commands that join prepared folders and exchange them with KnowLM."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from tongwen.config.base import Config, Seed, Share

Folders = Annotated[list[Path], Field(min_length=1)]


class DataMergeConfig(Config):
    """Join prepared folders that were made with the same tokenizer."""

    folders: Folders
    """The prepared folders, in the order in which they are joined."""
    out: Path
    """The prepared folder to write; it appears only when it is complete."""


class DataImportKnowlmConfig(Config):
    """Turn KnowLM's .bin, .idx and .dis into prepared folders, one for each category."""

    prefix: Path
    """Path of the files without their endings."""
    tokenizer: Path
    """The tokenizer that made the ids: a folder, or a file such as tokenizer.model."""
    out: Path
    """The folder to write; with several categories it holds category-1, category-2, and so on."""
    hold_out: Share = 0.01
    """Share of the samples kept away from training, chosen by their content and the seed."""
    seed: Seed = 0
    """Seed of the choice of held-out samples."""


class DataExportKnowlmConfig(Config):
    """Write prepared folders as KnowLM's .bin, .idx and .dis, each folder one category."""

    folders: Folders
    """The prepared folders, in the order of the categories."""
    out: Path
    """Path of the files to write, without their endings."""
    held_out: bool = False
    """Write the held-out rows instead of the training rows."""
