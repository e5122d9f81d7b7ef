"""Settings of `tongwen forecast`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tongwen.config.adapter import AdapterConfig
from tongwen.config.align import Objective
from tongwen.config.base import Count, Positive, Rate, Seed, VocabSize
from tongwen.config.device import DeviceConfig
from tongwen.config.optimizer import OptimizerConfig
from tongwen.config.processes import ProcessesConfig
from tongwen.config.train import Size


class ForecastConfig(AdapterConfig, OptimizerConfig, ProcessesConfig, DeviceConfig):
    """Say what a training takes in memory, time and disk, before any weight is loaded."""

    run: Path | None = None
    """Settings file, preset or run folder of a training; what is given beside it wins."""
    model: Path | None = None
    """Model folder, of which config.json is enough; it is fine-tuned unless `stage` says more."""
    size: Size | None = None
    """Nominal size of a new model, which is pretrained."""
    vocab_size: VocabSize | None = None
    """Tokens of a new model's vocabulary; without it that of `data`, or what suits the size."""
    stage: Literal["pretrain", "finetune", "align"] | None = None
    """What the training is; without it, fine-tuning of a `model` and pretraining of a `size`."""
    objective: Objective | None = None
    """What `stage` align learns by; without it dpo."""
    data: Annotated[list[Path], Field(min_length=1)] | None = None
    """Prepared folders, counted exactly, or raw files, of which the tokens are estimated."""
    tokens: Positive | None = None
    """Tokens of the training data, where there is no `data` yet."""
    context: Annotated[int, Field(ge=16)] | None = None
    """Items in tokens, without prepared `data`; else the model's window, 512 of a new model."""
    steps: Positive | None = None
    """Optimiser steps; without it they follow from `epochs`."""
    epochs: Rate = 1.0
    """Passes over the training data."""
    batch_tokens: Positive = 8192
    """Tokens in one optimiser step."""
    batch_rows: Positive | None = None
    """Items in one optimiser step, instead of tokens."""
    micro_batch_tokens: Positive = 8192
    """Tokens in one forward pass."""
    seed: Seed = 0
    """Seed of the order of the items, which decides the largest micro-batch."""
    keep: Positive = 2
    """Checkpoints that are kept."""
    threads: Count = 0
    """Compute threads of a processor; 0 takes one per physical core."""
    machine: str = "here"
    """This machine, or another by its name, such as "RTX 4090" or "A100 80 GB"."""
    way: Literal["tongwen", "peers"] = "tongwen"
    """Whose code trains: ours, or Hugging Face's Trainer with PEFT and bitsandbytes."""
    fit: bool = False
    """Propose settings that fit, those that cost least first."""

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if self.run is None and (self.model is None) == (self.size is None):
            raise ValueError("give one of run, model and size")
        if self.objective is not None and self.stage not in (None, "align"):
            raise ValueError(f"objective is a setting of stage align, and stage is {self.stage}")
        return self
