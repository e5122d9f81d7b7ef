"""A small LLaMA and packed rows for the tests of adapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tongwen.models import PACKED, Packing

VOCABULARY = 97


def llama(**changes: Any) -> LlamaForCausalLM:
    """Two layers of random weights, the same ones every time."""
    shape = {
        "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 256, "attention_bias": True,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**(shape | changes)))
        for parameter in model.parameters():  # biases begin as zeros, and would hide mistakes
            parameter.data += 0.02 * torch.randn(parameter.shape)
    model.eval()
    return model


def items(lengths: Sequence[int], seed: int = 1) -> list[Tensor]:
    """Token ids of items with these lengths."""
    source = torch.Generator().manual_seed(seed)
    return [torch.randint(0, VOCABULARY, (length,), generator=source) for length in lengths]


def packed_logits(model: PreTrainedModel, parts: Sequence[Tensor]) -> Tensor:
    """Logits [T, V] of items side by side in one row."""
    model.set_attn_implementation(PACKED)
    lengths = [len(part) for part in parts]
    output = model(
        input_ids=torch.cat(list(parts))[None],
        position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
        packing=Packing.of(lengths),
        use_cache=False,
    )
    logits_TV: Tensor = output.logits[0]
    return logits_TV


def loss(logits_TV: Tensor) -> Tensor:
    """The sum of -log p of a token that the place decides."""
    target_T = torch.arange(len(logits_TV)) * 7 % logits_TV.shape[-1]
    return torch.nn.functional.cross_entropy(logits_TV.float(), target_T, reduction="sum")


def stir(model: PreTrainedModel) -> None:
    """Move the weights that learn away from where they begin."""
    source = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=source)
