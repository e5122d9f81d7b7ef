"""Shapes of new models: LLaMA-shaped, by nominal size.

The nominal size counts all parameters with a vocabulary that fits it (4,096 tokens at 1m, 8,192 at
5m, 32,000 at 25m, 65,024 above). Small models tie input and output embeddings, where an untied
head would take a large share of the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tongwen.config import Size

if TYPE_CHECKING:
    from transformers import LlamaConfig


@dataclass(frozen=True)
class Shape:
    """Widths of a LLaMA-shaped model."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    tied: bool = True


SHAPES: dict[Size, Shape] = {
    "1m": Shape(hidden=128, layers=4, heads=4, kv_heads=4, intermediate=384),
    "5m": Shape(hidden=256, layers=4, heads=4, kv_heads=4, intermediate=704),
    "25m": Shape(hidden=384, layers=8, heads=6, kv_heads=6, intermediate=1024),
    "135m": Shape(hidden=768, layers=12, heads=12, kv_heads=12, intermediate=2048),
    "350m": Shape(hidden=1024, layers=24, heads=16, kv_heads=16, intermediate=2560),
    "1b": Shape(hidden=2048, layers=22, heads=32, kv_heads=4, intermediate=5632, tied=False),
}


def shape_config(size: Size, vocab_size: int, context: int) -> LlamaConfig:
    """The transformers configuration of a new model of nominal `size`."""
    from transformers import LlamaConfig

    shape = SHAPES[size]
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.hidden // shape.heads,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=shape.tied,
        initializer_range=0.02,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=None,
        use_cache=True,
    )
