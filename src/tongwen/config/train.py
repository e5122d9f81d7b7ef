"""Settings of the training commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tongwen.config.base import Config, Count, Positive, Rate, Seed, Share

Precision = Literal["auto", "bf16", "fp32"]
Size = Literal["1m", "5m", "25m", "135m", "350m", "1b"]


class TrainConfig(Config):
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
    lr: Rate = 1e-3
    """Highest learning rate."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """Learning rate after warm-up: a cosine to a tenth, or stable and then a decay to zero."""
    warmup: Share = 0.03
    """Share of the steps in which the learning rate rises."""
    decay: Share = 0.2
    """Share of the steps that decay at the end of `wsd`; the checkpoint before it is kept."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    """Decoupled weight decay of matrices; norms and embeddings have none."""
    clip: Annotated[float, Field(ge=0.0)] = 1.0
    """Largest gradient norm; 0 leaves the gradient as it is."""
    precision: Precision = "auto"
    """Compute precision; auto takes bf16 where its matrix products are faster here."""
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
    """Compute threads; 0 takes one per physical core."""

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(f"warmup {self.warmup} and decay {self.decay} are more than the run")
        return self

    @model_validator(mode="after")
    def _mixed_in_one_way(self) -> Self:
        if self.mix is not None and self.quota is not None:
            raise ValueError("mix and quota are given together, and only one can be followed")
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
