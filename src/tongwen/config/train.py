"""Settings of the training commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tongwen.config.adapter import AdapterConfig
from tongwen.config.base import Count, Positive, Rate, Seed
from tongwen.config.context import ContextConfig
from tongwen.config.device import DeviceConfig
from tongwen.config.optimizer import OptimizerConfig
from tongwen.config.processes import ProcessesConfig
from tongwen.config.start import StartConfig

Size = Literal["1m", "5m", "25m", "135m", "350m", "1b"]


class TrainConfig(
    OptimizerConfig, StartConfig, ContextConfig, ProcessesConfig, DeviceConfig, AdapterConfig
):
    """What pretraining and fine-tuning have in common."""

    data: Annotated[list[Path], Field(min_length=1)]
    """Prepared folders, or files and folders of rows, which are prepared first."""
    out: Path
    """The run folder; the same command with the same folder continues an unfinished run."""
    steps: Positive | None = None
    """Optimiser steps; without it the steps follow from `epochs`."""
    epochs: Rate = 1.0
    """Passes over the training data, used when `steps` is not given."""
    batch_tokens: Positive = 8192
    """Tokens in one optimiser step."""
    batch_rows: Positive | None = None
    """Items in one optimiser step, instead of tokens."""
    micro_batch_tokens: Positive = 8192
    """Tokens in one forward pass; less takes less memory, the result is the same."""
    mix: Annotated[list[Rate], Field(min_length=1)] | None = None
    """Weight of each folder in `data`, in order: its share of the tokens of every step."""
    quota: Annotated[list[Positive], Field(min_length=1)] | None = None
    """Items of each folder in `data`, in order, in every step; `batch_tokens` is not used then."""
    incomplete: Literal["drop", "fill"] = "fill"
    """What a folder of `mix` or `quota` has left for less than a step: left out, or filled up."""
    exhausted: Literal["drop", "fill"] = "fill"
    """End an epoch of `mix` or `quota` with the first folder used up, or fill up to the last."""
    seed: Seed = 0
    """Seed of new weights and of the order of the rows."""
    save_every: Count = 0
    """Steps between checkpoints; 0 saves about every minute of training."""
    keep: Positive = 2
    """Checkpoints that are kept, besides the one before the decay."""
    eval_every: Count = 0
    """Steps between evaluations on held-out data; 0 evaluates ten times a run."""
    sample_every: Count = 0
    """Steps between sample texts; 0 samples at every evaluation."""
    threads: Count = 0
    """Compute threads of a process; 0 divides the physical cores among the processes."""
    allow_inexact: bool = False
    """Go on where threads, machine or libraries changed and the last bits would differ."""

    @model_validator(mode="after")
    def _batches_are_made_in_one_way(self) -> Self:
        ways = [name for name in ("mix", "quota", "batch_rows") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} are given together, and each makes the batch")
        if self.batch_ramp is not None and ways and ways != ["mix"]:
            raise ValueError(
                f"batch_ramp and {ways[0]} are given together, and both size the batch"
            )
        return self

    @model_validator(mode="after")
    def _rows_suffice_for_the_optimizer(self) -> Self:
        if self.shard == "full" and self.optimizer != "adamw":
            raise ValueError(
                f"shard full divides every weight by rows, and optimizer {self.optimizer} needs "
                "more of it; adamw does not"
            )
        return self

    @model_validator(mode="after")
    def _what_is_drawn_is_used(self) -> Self:
        drawn = [name for name in ("neftune", "lora_dropout") if getattr(self, name)]
        if self.optimizer == "mezo" and drawn:
            raise ValueError(
                f"{drawn[0]} acts where gradients are computed, and optimizer mezo computes none"
            )
        return self


class PretrainConfig(TrainConfig):
    """Train a language model on text, from scratch or from a model folder."""

    size: Size = "5m"
    """Nominal size of a new model; ignored when `model` is given."""
    model: Path | None = None
    """Model folder to go on from, instead of a new model."""
    tokenizer: Path | None = None
    """Tokenizer of a new model when `data` is raw; without one it is trained on the data."""
    context: Annotated[int, Field(ge=16)] = 512
    """Longest document piece in tokens, and the context window of a new model."""


class FinetuneConfig(TrainConfig):
    """Teach a model from conversations; the loss is on the assistant's words alone."""

    model: Path
    """Model folder or run folder to start from."""
    lr: Rate = 5e-4
    """Highest learning rate."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Decoupled weight decay of matrices; norms and embeddings have none."""
