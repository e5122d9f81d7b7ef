"""Settings of training in several processes."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from tongwen.config.base import Config, Positive


class ProcessesConfig(Config):
    """How a run is divided among processes."""

    nproc: Positive = 1
    """Processes on this machine, a few per CPU; the batch is divided among them."""
    shard: Literal["none", "full"] = "none"
    """Every process holds all weights and moments, or (full) its share of them, as FSDP does."""
    offload: bool = False
    """Keep the shares of `shard full` in the CPU's memory, off a GPU; on a CPU nothing changes."""

    @model_validator(mode="after")
    def _offload_a_share(self) -> Self:
        if self.offload and self.shard == "none":
            raise ValueError("offload keeps the shares of shard full, and shard is none")
        return self
