"""Floating-point operations of a training step, for MFU.

The count of Chowdhery et al. 2022 (PaLM, arXiv:2204.02311, appendix B), with the head counted only
where it is applied (the trained positions) and causal attention counted as the half that it is. A
weight costs two operations a token forward and two for the gradient of its input; two more for its
own gradient if it learns. Restoring quantised weights is not counted: it is no work of the model.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from transformers import PreTrainedModel

from tongwen.models.quantized import QuantLinear

FORWARD_AND_BACK, WITH_ITS_OWN = 4, 6


def training_flops(model: PreTrainedModel, lengths: Iterable[int], trained: int) -> float:
    """Forward and backward pass over documents of `lengths` with `trained` trained tokens."""
    config = model.config
    head = model.get_output_embeddings()  # a reward model has none
    apart = {id(model.get_input_embeddings().weight)}
    per_trained = 0
    if head is not None:
        apart.add(id(head.weight))
        per_trained = _passes(head.weight) * head.weight.numel()
    per_token = sum(_passes(p) * p.numel() for p in model.parameters() if id(p) not in apart)
    per_token += sum(
        FORWARD_AND_BACK * module.out_features * module.in_features
        for module in model.modules()
        if isinstance(module, QuantLinear)
    )
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    length_sum = square_sum = 0
    for length in lengths:
        length_sum += length
        square_sum += length * length
    # Scores and weighted values: 2·2·L²·width forward, halved by causality, three times for both
    # passes.
    attention = 6 * config.num_hidden_layers * width * square_sum
    return float(per_token * length_sum + per_trained * trained + attention)


def _passes(weight: nn.Parameter) -> int:
    return WITH_ITS_OWN if weight.requires_grad else FORWARD_AND_BACK
