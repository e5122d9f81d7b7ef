"""Settings of where a run starts, and who is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tongwen.config.base import Config

Tracker = Literal["tensorboard", "wandb", "swanlab", "mlflow"]


class StartConfig(Config):
    """Where a run starts, and who is told of it."""

    warm_start: Path | None = None
    """Model, adapter or run folder whose weights it begins with; all else begins anew."""
    append: Path | None = None
    """Run folder to go on from with other data: its weights, optimiser, step and schedule."""
    guard: Annotated[list[Path], Field(min_length=1)] | None = None
    """Prepared folders that are asked before, during and after, to see what is forgotten."""
    track: Annotated[list[Tracker], Field(min_length=1)] | None = None
    """Services that are sent the metrics; `metrics.jsonl` and `report.html` are always written."""
    track_name: str | None = None
    """Name of the run in those services; without one, that of the run folder."""

    @model_validator(mode="after")
    def _no_name_without_tracker(self) -> Self:
        if self.track_name is not None and self.track is None:
            raise ValueError("track_name is the name in the services of track, and none is given")
        return self

    @model_validator(mode="after")
    def _starts_in_one_way(self) -> Self:
        if self.warm_start is not None and self.append is not None:
            raise ValueError("warm_start and append are given together, and a run starts once")
        return self
