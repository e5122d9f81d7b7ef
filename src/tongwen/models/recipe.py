"""How a model is trained, as far as its memory, its time and its files depend on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tongwen.config import ForecastConfig, TrainConfig
from tongwen.config.adapter import AdapterConfig
from tongwen.config.optimizer import Rule
from tongwen.models.anatomy import Anatomy
from tongwen.models.fast import SHAPED
from tongwen.native import HEAD_MULTIPLE

Way = Literal["tongwen", "peers"]
"""Whose code trains: ours, or Hugging Face's Trainer with PEFT and bitsandbytes."""


BLOCK = 256
"""Numbers that share an fp32 scale in moments of 8 bits."""


@dataclass(frozen=True)
class Load:
    """The largest micro-batch of a run."""

    tokens: int
    trained: int
    """Positions whose next token carries loss."""
    laid_out: int
    """Tokens as they are laid out for attention, padding included."""
    pairs: int
    """Sum of the squared lengths of the documents in that layout."""
    shapes: int = 1
    """Micro-batches of different sizes in the whole run."""
    looked: int = 0
    """The same of those that only go forward: evaluation, and the reference of preferences."""


@dataclass(frozen=True)
class Recipe:
    """Everything but the model and the data."""

    way: Way = "tongwen"
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """Which weights learn."""
    precision: str = "bf16"
    """What is computed in: fp32, bf16 or fp16."""
    optimizer: Rule = "adamw"
    averaged: bool = False
    """Whether an average of the weights is kept beside them."""
    checkpointing: bool = False
    micro_batches: int = 1
    """Forward passes in one optimiser step of one process."""
    processes: int = 1
    shard: bool = False
    """Whether weights, gradients and moments are divided among the processes."""
    offload: bool = False
    """Whether masters and moments stay in the memory of the host."""
    card: bool = False
    """Whether a graphics card computes, not the processor."""
    compiled: bool = True
    """Whether our kernels can be compiled there, which the fast path needs."""
    eager: bool = False
    """Whether the peers' attention keeps its scores, as it did before PyTorch 2."""

    @property
    def element(self) -> int:
        """Bytes of a number in the compute precision."""
        return 4 if self.precision == "fp32" else 2

    def fast(self, anatomy: Anatomy) -> bool:
        """Whether our fast layers compute; `models.fast.obstacle` decides it in training."""
        adapter = self.adapter
        return (
            self.way == "tongwen"
            and adapter.method != "prefix"
            and not adapter.dora
            and self.compiled
            and not self.card
            and self.precision != "fp16"
            and anatomy.family in SHAPED
            and anatomy.activation == "silu"
            and (anatomy.query // anatomy.heads) % HEAD_MULTIPLE == 0
        )

    def learns(self, anatomy: Anatomy, matrix: str) -> bool:
        """Whether the backward pass needs what goes into this matrix of a layer."""
        if self.adapter.method == "full":
            return True
        return self.adapter.method != "prefix" and matrix in self.targets(anatomy)

    def targets(self, anatomy: Anatomy) -> set[str]:
        """The matrices that get LoRA, by the last part of their names."""
        asked = {target.rpartition(".")[2] for target in self.adapter.lora_targets}
        every = {linear.name for linear in anatomy.linears}
        return every if "all-linear" in asked else every & asked

    def trainable(self, anatomy: Anatomy) -> int:
        """Numbers that learn."""
        adapter = self.adapter
        if adapter.method == "prefix":
            return adapter.prefix_tokens * anatomy.layers * 2 * anatomy.key_value
        if adapter.method == "full":
            layer = (anatomy.parameters - anatomy.outside - anatomy.hidden) // anatomy.layers
            frozen = min(adapter.freeze_layers, anatomy.layers) * layer
            return anatomy.parameters - frozen - adapter.freeze_embeddings * anatomy.embedding
        targets = self.targets(anatomy)
        adapted = [linear for linear in anatomy.linears if linear.name in targets]
        rows = sum(linear.outputs * linear.count for linear in adapted) if adapter.dora else 0
        whole = {"embed_tokens", "lm_head"} & set(adapter.modules_to_save)
        return anatomy.adapter(adapter.lora_r, targets) + rows + len(whole) * anatomy.embedding

    def moments(self, anatomy: Anatomy) -> float:
        """Bytes of the optimiser's state."""
        learning = self.trainable(anatomy)
        match self.optimizer:
            case "adamw":
                return 8.0 * learning
            case "adamw8bit":
                return (2 + 8 / BLOCK) * learning
            case "muon":
                # One momentum for matrices, two moments for all else.
                matrices = learning if self.adapter.method != "full" else anatomy.matrices
                return 4.0 * matrices + 8.0 * (learning - matrices)
            case "mezo":
                return 0.0


def recipe_of(config: TrainConfig | ForecastConfig, precision: str, **where: Any) -> Recipe:
    """The recipe that settings mean, computed in `precision`; `where` are fields of the recipe."""
    own_tokens = max(1, config.batch_tokens // config.nproc)
    return Recipe(
        adapter=AdapterConfig(**{key: getattr(config, key) for key in AdapterConfig.model_fields}),
        precision=precision,
        optimizer=config.optimizer,
        averaged=config.average is not None,
        checkpointing=config.checkpointing,
        micro_batches=-(-own_tokens // config.micro_batch_tokens),
        processes=config.nproc,
        shard=config.shard == "full",
        offload=config.offload,
        **where,
    )
