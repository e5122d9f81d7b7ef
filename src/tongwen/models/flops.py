"""Floating-point operations of a training step, for MFU.

The count of Chowdhery et al. 2022 (PaLM, arXiv:2204.02311, appendix B), with the head counted only
where it is applied (the trained positions) and causal attention counted as the half that it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from transformers import PreTrainedModel


def training_flops(model: PreTrainedModel, lengths: Iterable[int], trained: int) -> float:
    """Forward and backward pass over documents of `lengths` with `trained` trained tokens."""
    config = model.config
    embedding = config.vocab_size * config.hidden_size
    outside = embedding if config.tie_word_embeddings else 2 * embedding
    body = sum(p.numel() for p in model.parameters()) - outside
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    length_sum = square_sum = 0
    for length in lengths:
        length_sum += length
        square_sum += length * length
    # Scores and weighted values: 2·2·L²·width forward, halved by causality, three times for both
    # passes.
    attention = 6 * config.num_hidden_layers * width * square_sum
    return float(6 * body * length_sum + 6 * embedding * trained + attention)
