"""Settings of what `data prepare` leaves out because it has it already, or must not have it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tongwen.config.base import Config, Count


class DuplicatesConfig(Config):
    """Duplicates, repeated passages and the questions of benchmarks."""

    duplicates: Literal["keep", "exact", "near"] = "exact"
    """Which rows to leave out: none, those equal to an earlier one, or those nearly equal too."""
    near_threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    """Share of their shingles that two texts have in common to be near duplicates (Jaccard)."""
    repeats: Count = 0
    """Characters from which a passage of a document that stood before is cut; 0 cuts nothing."""
    decontaminate: list[Path] = Field(default=[])
    """Benchmark files or folders; rows that hold one of their questions are filtered out."""
