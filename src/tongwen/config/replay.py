"""Settings of looking at a step again."""

from __future__ import annotations

from pathlib import Path

from tongwen.config.base import Config, Positive


class ReplayConfig(Config):
    """Compute a step of a run again, item by item, and say which items its loss comes from."""

    run: Path
    """Run folder; it is only read."""
    step: Positive | None = None
    """Step as `metrics.jsonl` counts it; without one, that which was not finite, or the next."""
    rows: Positive = 20
    """Items that are shown; those that are not finite first, then those of the largest gradient."""
