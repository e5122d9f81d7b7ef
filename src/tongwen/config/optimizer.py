"""Settings of the optimiser: its rule, learning rate, batch ramp, averaging and precision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tongwen.config.base import Config, Positive, Rate, Share

Precision = Literal["auto", "bf16", "fp16", "fp32"]
Rule = Literal["adamw", "adamw8bit", "muon", "mezo"]
Schedule = Literal["cosine", "linear", "constant", "wsd"]
Shape = Literal["linear", "cosine", "sqrt", "exponential"]
Momentum = Annotated[float, Field(ge=0.0, lt=1.0)]

# Settings that say nothing without another one.
NEEDS = {
    "decay": "schedule", "decay_shape": "schedule", "average_decay": "average",
    "average_last": "average", "batch_ramp_parts": "batch_ramp",
}  # fmt: skip


class OptimizerConfig(Config):
    """How weights move along their gradients."""

    optimizer: Rule = "adamw"
    """AdamW, AdamW with moments of 8 bits, Muon for matrices, or MeZO, which needs no gradients."""
    lr: Rate = 1e-3
    """Highest learning rate."""
    schedule: Schedule = "cosine"
    """Learning rate after warm-up: falling to the end, constant, or stable with a decay (wsd)."""
    warmup: Share = 0.03
    """Share of the steps in which the learning rate rises."""
    warmup_steps: Positive | None = None
    """Steps in which the learning rate rises, instead of a share."""
    min_lr: Share | None = None
    """Learning rate at the end, as a share of `lr`; else 0.1 for cosine and exponential, and 0."""
    decay: Share = 0.2
    """Share of the steps that decay at the end of `wsd`; the checkpoint before it is kept."""
    decay_shape: Shape = "linear"
    """The decay of `wsd`: a line, half a cosine, one minus a square root, or exponential."""
    decay_data: Annotated[list[Path], Field(min_length=1)] | None = None
    """Prepared folders that the decay of `wsd` trains on, from their start, instead of `data`."""
    decay_mix: Annotated[list[Rate], Field(min_length=1)] | None = None
    """Weight of each folder in `decay_data`, in order."""
    batch_ramp: Positive | None = None
    """First steps in which the batch grows to `batch_tokens`."""
    batch_ramp_parts: Annotated[int, Field(ge=2)] = 8
    """Parts of the batch that the ramp adds one after another: 8 begins with an eighth of it."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    """How much AdamW keeps of the mean gradient and of the mean squared gradient at every step."""
    eps: Rate = 1e-8
    """What AdamW adds to the root of the mean squared gradient."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    """Decoupled weight decay of matrices; norms and embeddings have none."""
    clip: Annotated[float, Field(ge=0.0)] = 1.0
    """Largest gradient norm; 0 leaves the gradient as it is."""
    average: Literal["ema", "mean"] | None = None
    """Average the weights over the steps, exponentially or evenly; `final` holds the average."""
    average_decay: Momentum = 0.999
    """How much of the `ema` average stays at every step."""
    average_last: Share = 0.2
    """Share of the steps, at the end, whose weights the `mean` average is of."""
    precision: Precision = "auto"
    """Compute precision; auto takes bf16 where its products are faster, fp16 on older cards."""
    checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: slower, smaller."""

    @model_validator(mode="after")
    def _no_setting_without_use(self) -> Self:
        for name, other in NEEDS.items():
            used = self.schedule == "wsd" if other == "schedule" else getattr(self, other)
            if not used and getattr(self, name) != type(self).model_fields[name].default:
                needed = "schedule wsd" if other == "schedule" else other
                raise ValueError(f"{name} is a setting of {needed}, which is not given")
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        warmup = 0.0 if self.warmup_steps else self.warmup
        if self.schedule == "wsd" and warmup + self.decay > 1:
            raise ValueError(f"warmup {warmup} and decay {self.decay} are more than the run")
        if self.decay_shape == "exponential" and self.min_lr == 0:
            raise ValueError("min_lr is 0, which an exponential decay never reaches")
        return self

    @model_validator(mode="after")
    def _decay_data_fit(self) -> Self:
        if self.decay_data is not None and self.schedule != "wsd":
            raise ValueError(f"decay_data are for schedule wsd, and schedule is {self.schedule}")
        if self.decay_mix is not None and len(self.decay_mix) != len(self.decay_data or ()):
            raise ValueError(
                f"decay_mix has {len(self.decay_mix)} weights for the "
                f"{len(self.decay_data or ())} folders of decay_data"
            )
        return self
