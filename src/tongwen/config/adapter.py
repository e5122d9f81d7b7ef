"""Settings of training less than all weights: adapters, frozen layers, and noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tongwen.config.base import Config, Count, Positive, Rate, Share

Method = Literal["full", "lora", "qlora", "prefix"]
Quant = Literal["nf4", "int8"]

# Which settings each method has, beside those that all have.
LORA = (
    "lora_r", "lora_alpha", "lora_dropout", "lora_targets", "rslora", "dora", "modules_to_save",
)  # fmt: skip
SETTINGS: dict[Method, tuple[str, ...]] = {
    "full": ("freeze_layers", "freeze_embeddings"),
    "lora": LORA,
    "qlora": (*LORA, "quant"),
    "prefix": ("prefix_tokens",),
}


class ModelMergeConfig(Config):
    """Put an adapter into the weights of its base model, and measure what that changed."""

    adapter: Path
    """Adapter folder, or run folder of a training with `--method lora` or `qlora`."""
    out: Path
    """The model folder to write."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the weights; they are added in fp32 and rounded once."""


def _default(config: type[Config], name: str) -> object:
    return config.model_fields[name].get_default(call_default_factory=True)


class AdapterConfig(Config):
    """Which weights learn."""

    method: Method = "full"
    """All weights learn, or LoRA matrices, those over a quantised base, or a prefix of tokens."""
    lora_r: Positive = 8
    """Rank of the LoRA matrices."""
    lora_alpha: Rate = 16.0
    """Strength of LoRA: its product is multiplied by alpha/r."""
    lora_dropout: Share = 0.0
    """Share of the inputs of LoRA that are dropped in training."""
    lora_targets: list[str] = Field(default=["all-linear"], min_length=1)
    """Layers that get LoRA, by the end of their names, or all linear ones but the output head."""
    rslora: bool = False
    """Multiply by alpha/√r instead, which suits high ranks (rsLoRA)."""
    dora: bool = False
    """Learn the length of every row of a matrix apart from its direction (DoRA)."""
    modules_to_save: list[str] = Field(default=[])
    """Layers that learn in full beside LoRA, as `embed_tokens` and `lm_head` for new tokens."""
    quant: Quant = "nf4"
    """How `qlora` stores the weights that do not learn: in 4 bits (NF4) or in 8 (rows of int8)."""
    prefix_tokens: Positive = 20
    """Virtual tokens whose keys and values `prefix` learns in every layer."""
    freeze_layers: Count = 0
    """First layers that do not learn in full training."""
    freeze_embeddings: bool = False
    """Whether the embeddings do not learn in full training, nor an output head tied to them."""
    neftune: Annotated[float, Field(ge=0.0)] = 0.0
    """Strength of the noise on embeddings in training (NEFTune); 5 is usual, 0 is none."""

    @model_validator(mode="after")
    def _settings_of_the_method(self) -> Self:
        ours = SETTINGS[self.method]
        for name in sorted({name for names in SETTINGS.values() for name in names} - set(ours)):
            if getattr(self, name) != _default(type(self), name):
                having = [method for method, names in SETTINGS.items() if name in names]
                raise ValueError(
                    f"{name} is a setting of method {' and '.join(having)}, and method is "
                    f"{self.method}"
                )
        return self
