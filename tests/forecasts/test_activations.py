"""The table of what is kept, against what real forward passes keep."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tongwen.config.adapter import AdapterConfig
from tongwen.models import PACKED, Packing, packed_hidden
from tongwen.models.activations import layer_bytes
from tongwen.models.adapter import adapt
from tongwen.models.anatomy import anatomy_of
from tongwen.models.fast import obstacle
from tongwen.models.recipe import Load, Recipe
from tongwen.train.heaviest import laid_out
from tongwen.train.masters import Masters

LENGTHS = (64, 128, 100, 28)
FAMILIES: dict[str, Any] = {"qwen3": (Qwen3Config, Qwen3ForCausalLM)}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def config(layers: int, kind: type[LlamaConfig | Qwen3Config] = LlamaConfig) -> Any:
    """A small model with fewer key heads than query heads."""
    return kind(
        vocab_size=64,
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        tie_word_embeddings=True,
    )


@contextmanager
def counted(seen: dict[int, int]) -> Iterator[None]:
    """Sizes of the storages that come to be and stay, held by autograd or by its objects."""
    before = {id(one) for one in gc.get_objects() if isinstance(one, Tensor)}
    held: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield
    gc.collect()
    held += [one for one in gc.get_objects() if isinstance(one, Tensor) and id(one) not in before]
    for tensor in held:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()


def kept(model: PreTrainedModel, lengths: Sequence[int]) -> int:
    """Bytes that a forward pass keeps, parameters left out."""
    packing = Packing.of(lengths)
    ids_T = torch.zeros(sum(lengths), dtype=torch.long)
    position_T = torch.cat([torch.arange(length) for length in lengths])
    seen: dict[int, int] = {}
    with counted(seen):
        hidden = packed_hidden(model, ids_T, position_T, packing, torch.arange(len(ids_T)))
    assert hidden.requires_grad
    for parameter in model.parameters():
        seen.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(seen.values())


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize(
    "adapter",
    [
        {},
        {"method": "lora"},
        {"method": "lora", "lora_targets": ["q_proj", "v_proj"], "lora_r": 4},
        {"method": "lora", "dora": True},
        {"method": "lora", "dora": True, "lora_targets": ["q_proj", "v_proj"]},
    ],
    ids=["full", "lora", "lora q v", "dora", "dora q v"],
)
def test_a_layer_keeps_what_the_table_says(precision: str, adapter: dict[str, Any]) -> None:
    check(Recipe(adapter=AdapterConfig(**adapter), precision=precision), "llama")


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_layer_that_normalises_heads_keeps_what_the_table_says(precision: str) -> None:
    check(Recipe(precision=precision), "qwen3")


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_layer_of_the_library_keeps_what_the_table_says(precision: str) -> None:
    """A family that the fast path does not know goes through the library's own layers."""
    check(Recipe(precision=precision), "llama-like")


def check(recipe: Recipe, family: str) -> None:
    """Compare the table with a forward pass of small models of a family."""

    make_config, make_model = FAMILIES.get(family, (LlamaConfig, LlamaForCausalLM))

    def measured(layers: int) -> int:
        model = make_model(config(layers, make_config))
        setattr(model.config, "model_type", family)  # noqa: B010
        adapt(model, recipe.adapter, seed=0)
        Masters(model, DTYPES[recipe.precision])
        model.set_attn_implementation(PACKED)
        assert (obstacle(model, Packing.of(LENGTHS)) is None) == recipe.fast(anatomy)
        return kept(model, LENGTHS)

    anatomy = replace(anatomy_of(config(4, make_config)), family=family)
    tokens = sum(LENGTHS)
    told = layer_bytes(anatomy, recipe, Load(tokens, tokens, *laid_out(np.array(LENGTHS))))
    # Two layers more than two: what stands before and after the layers falls out.
    assert (measured(4) - measured(2)) / 2 == pytest.approx(told, rel=0.02)
