"""What a batch costs: the language-model loss, and its two ways of being computed.

Legend: T tokens of a packed row, K trained positions, H hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.models import packed_hidden
from tongwen.train.batch import Batch, Whole
from tongwen.train.loss import linear_cross_entropy, linear_logps, token_losses

# Families whose logits are exactly `hidden @ head.T`; others scale or cap them, and take the
# plain way through their own forward pass.
PLAIN_HEAD = ("llama", "qwen2", "qwen3", "mistral")


@dataclass(frozen=True)
class Loss:
    """A micro-batch's share of the loss of the whole step; the shares add up."""

    value: Tensor
    figures: dict[str, float] = field(default_factory=dict)
    """What is recorded beside it: shares that add up, too."""


Objective = Callable[[PreTrainedModel, Batch, Whole], Loss]


def language_model(model: PreTrainedModel, batch: Batch, whole: Whole) -> Loss:
    """The mean over the step's trained tokens of -log p(next token), in nats."""
    return Loss(language_model_loss(model, batch) / whole.trained)


def language_model_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Sum over the trained positions of -log p(next token), in nats, with gradient."""
    if model.config.model_type in PLAIN_HEAD:
        weight_VH = model.get_output_embeddings().weight
        return linear_cross_entropy(trained_hidden(model, batch), weight_VH, batch.target_K)
    logits_KV = _logits(model, batch)
    return _cross_entropy(logits_KV, batch.target_K).sum()


def language_model_losses(model: PreTrainedModel, batch: Batch) -> Tensor:
    """-log p(next token) of each trained position [K], in nats, without gradient."""
    if model.config.model_type in PLAIN_HEAD:
        weight_VH = model.get_output_embeddings().weight
        return token_losses(trained_hidden(model, batch), weight_VH, batch.target_K)
    return _cross_entropy(_logits(model, batch), batch.target_K)


def token_logps(model: PreTrainedModel, batch: Batch) -> Tensor:
    """log p(next token) of each trained position [K], in nats, with gradient."""
    if model.config.model_type in PLAIN_HEAD:
        weight_VH = model.get_output_embeddings().weight
        return linear_logps(trained_hidden(model, batch), weight_VH, batch.target_K)
    return -_cross_entropy(_logits(model, batch), batch.target_K)


def trained_hidden(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Last hidden states at the trained positions, [K, H]."""
    return packed_hidden(model, batch.ids_T, batch.position_T, batch.packing, batch.trained_K)


def _logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    output = model(
        input_ids=batch.ids_T[None],
        position_ids=batch.position_T[None],
        packing=batch.packing,
        logits_to_keep=batch.trained_K,
        use_cache=False,
    )
    logits_KV: Tensor = output.logits[0]
    return logits_KV.float()


def _cross_entropy(logits_KV: Tensor, target_K: Tensor) -> Tensor:
    return F.cross_entropy(logits_KV, target_K, reduction="none")
