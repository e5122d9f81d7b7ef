"""What a model is made of, counted exactly from its configuration, without its weights.

The model is built on torch's meta device, where tensors have shapes and no memory, so every
architecture of the library is counted by its own code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tongwen.errors import ModelError
from tongwen.models.folder import weights_folder


@dataclass(frozen=True)
class Linear:
    """Equal matrices of the layers."""

    name: str  # the last part of the module's name, such as `q_proj`
    inputs: int
    outputs: int
    count: int

    @property
    def parameters(self) -> int:
        """Numbers in all of them, biases left out."""
        return self.inputs * self.outputs * self.count


@dataclass(frozen=True)
class Anatomy:
    """Parts and widths of a causal language model. Widths are in elements per token."""

    family: str
    """`model_type` of its configuration."""
    activation: str
    parameters: int
    """All of them; tied embeddings are counted once."""
    vocabulary: int
    """Rows of the embeddings, V."""
    tied: bool
    """Whether the output head is the embedding matrix."""
    layers: int
    hidden: int
    query: int
    """Query heads times their width."""
    key_value: int
    """Key heads times their width; as much again for the values."""
    heads: int
    intermediate: int
    """Width inside the feed-forward part."""
    window: int
    """Tokens that the model can see at once."""
    linears: tuple[Linear, ...]
    """The matrices of the layers, the output head left out."""

    @property
    def embedding(self) -> int:
        """Parameters of the embedding matrix."""
        return self.vocabulary * self.hidden

    @property
    def outside(self) -> int:
        """Parameters of embeddings and output head, which lie outside the layers."""
        return self.embedding if self.tied else 2 * self.embedding

    @property
    def matrices(self) -> int:
        """Parameters of the matrices of the layers: what is quantised, and most of the work."""
        return sum(linear.parameters for linear in self.linears)

    def adapter(self, rank: int, targets: Collection[str]) -> int:
        """Parameters of LoRA adapters on the matrices named (Hu et al. 2021, arXiv:2106.09685)."""
        return sum(
            rank * (linear.inputs + linear.outputs) * linear.count
            for linear in self.linears
            if linear.name in targets
        )


def read_anatomy(folder: Path) -> Anatomy:
    """The anatomy of the model in a folder; only its config.json is read."""
    place = weights_folder(folder)
    try:
        config = AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        return anatomy_of(config)
    except (ValueError, KeyError, OSError, AttributeError) as error:
        raise ModelError(
            f"the model in {place} cannot be counted: {str(error).splitlines()[0]}",
            "its config.json is damaged, or of an architecture that is not supported",
        ) from error


def anatomy_of(config: Any) -> Anatomy:
    """The anatomy of the model that a transformers configuration describes."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    text = model.config.get_text_config()
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    linears = _linears(model, head)
    if any(parameter.ndim > 2 for parameter in model.parameters()):
        raise ModelError(
            f"{type(model).__name__} mixes experts, and how much of them works is not known",
            "forecasts are for models whose every token passes through every matrix",
        )
    heads = int(text.num_attention_heads)
    width = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    groups = int(getattr(text, "num_key_value_heads", None) or heads)
    widest = max((linear.outputs for linear in linears), default=0)
    return Anatomy(
        family=model.config.model_type,
        activation=str(getattr(text, "hidden_act", "")),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocabulary=int(embeddings.weight.shape[0]),  # type: ignore[index]
        tied=head is None or head.weight is embeddings.weight,
        layers=int(text.num_hidden_layers),
        hidden=int(text.hidden_size),
        query=heads * width,
        key_value=groups * width,
        heads=heads,
        intermediate=int(getattr(text, "intermediate_size", None) or widest),
        window=int(text.max_position_embeddings),
        linears=linears,
    )


def _linears(model: PreTrainedModel, head: nn.Module | None) -> tuple[Linear, ...]:
    counts: Counter[tuple[str, int, int]] = Counter()
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, Conv1D):
            counts[last, module.nx, module.nf] += 1
        elif isinstance(module, nn.Linear) and module is not head:
            counts[last, module.in_features, module.out_features] += 1
    return tuple(Linear(*key, count=count) for key, count in counts.items())
