"""How many weights learn, for the recipes that people have published numbers of."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tongwen.config import AdapterConfig
from tongwen.models.adapter import adapt

# Hidden width, intermediate width, layers, heads.
LLAMA = {"7b": (4096, 11008, 32, 32), "13b": (5120, 13824, 40, 40)}


@pytest.mark.parametrize(
    ("size", "r", "targets", "count"),
    [
        ("7b", 8, ["q_proj", "v_proj"], 4_194_304),  # Chinese-Vicuna, instructions
        ("7b", 8, ["all-linear"], 19_988_480),  # Chinese-Vicuna, conversations
        ("13b", 16, ["all-linear"], 62_586_880),  # KnowLM
    ],
)
def test_lora_has_the_published_number_of_weights(
    size: str, r: int, targets: list[str], count: int
) -> None:
    hidden, intermediate, layers, heads = LLAMA[size]
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    adapt(model, AdapterConfig(method="lora", lora_r=r, lora_targets=targets), seed=0)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count
