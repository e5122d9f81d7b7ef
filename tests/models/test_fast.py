"""The fast path gives what transformers' own forward and backward pass give."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tongwen.models import PACKED, Packing, packed_hidden
from tongwen.models.draws import Draws
from tongwen.models.fast import obstacle
from tongwen.models.lora import LoraLinear
from tongwen.models.nf4 import NF4Linear
from tongwen.native import kernels

pytestmark = pytest.mark.skipif(kernels() is None, reason="no C++ compiler")

VOCABULARY, LAYERS = 61, 3
FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Row = tuple[Tensor, Tensor, Packing, Tensor]


def new_model(family: str = "llama", kv_heads: int = 2, width: int = 16) -> PreTrainedModel:
    """Random weights, none of them zero or one."""
    make_config, make_model = FAMILIES[family]
    torch.manual_seed(0)
    config = make_config(
        vocab_size=VOCABULARY, hidden_size=4 * width, intermediate_size=80,
        num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=kv_heads,
        max_position_embeddings=256, tie_word_embeddings=False, head_dim=width,
    )  # fmt: skip
    model = make_model(config)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name), std=0.1)
    return cast(PreTrainedModel, model.train())


def layers_of(model: PreTrainedModel) -> Any:
    """The decoder layers."""
    return model.base_model.layers


def row_of(lengths: list[int]) -> Row:
    """Token ids, positions, packing, and about half of the positions."""
    source = torch.Generator().manual_seed(sum(lengths))
    ids_T = torch.randint(0, VOCABULARY, (sum(lengths),), generator=source)
    position_T = torch.cat([torch.arange(length) for length in lengths])
    kept_K = torch.nonzero(torch.rand(len(ids_T), generator=source) < 0.5)[:, 0]
    return ids_T, position_T, Packing.of(lengths), kept_K


def alone(model: PreTrainedModel, row: Row) -> Tensor:
    """Hidden states by the library, document after document, unpacked and eager."""
    ids_T, _, packing, kept_K = row
    lengths = packing.begin_M1.diff().tolist()
    model.set_attn_implementation("eager")
    outputs = [
        model.base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
        for ids in ids_T.split(lengths)
    ]
    return torch.cat(outputs)[kept_K]


def gradients(model: PreTrainedModel, hidden_KH: Tensor) -> dict[str, Tensor]:
    """Of a sum in which every number counts differently."""
    model.zero_grad()
    source = torch.Generator().manual_seed(1)
    factor_KH = torch.randn(hidden_KH.shape, generator=source) / max(1, len(hidden_KH))
    (hidden_KH.float() * factor_KH).sum().backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest, as a share of the largest number: both round at every addition in fp32."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1.0))


def assert_same(model: PreTrainedModel, row: Row, among: int | None = None) -> None:
    """Values and gradients of the fast path equal those of the library."""
    assert obstacle(model, row[2]) is None
    expected_KH = alone(model, row)
    expected = gradients(model, expected_KH)
    model.set_attn_implementation(PACKED)
    hidden_KH = packed_hidden(model, *row)
    got = gradients(model, hidden_KH)
    assert difference(hidden_KH, expected_KH) < 1e-5
    assert expected.keys() <= got.keys()
    if among is not None:
        assert len(got) == among
    for name, theirs in expected.items():
        assert difference(got[name], theirs) < 1e-5, name


def add_lora(model: PreTrainedModel, names: tuple[str, ...]) -> None:
    """Adapters with weights of their own on the layers named; all else is frozen."""
    model.requires_grad_(False)
    source = torch.Generator().manual_seed(2)
    for layer, part in itertools.product(layers_of(model), ("self_attn", "mlp")):
        holder = getattr(layer, part)
        for name in names:
            if hasattr(holder, name):
                lora = LoraLinear(getattr(holder, name), r=3, scaling=0.5)
                for parameter in (lora.lora_A, lora.lora_B):
                    parameter.data.normal_(0, 0.1, generator=source)
                setattr(holder, name, lora)


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 140), min_size=1, max_size=6),
    kv_heads=st.sampled_from([1, 2, 4]),
    width=st.sampled_from([16, 32, 48]),
)
def test_full_training_equals_the_library(lengths: list[int], kv_heads: int, width: int) -> None:
    assert_same(new_model(kv_heads=kv_heads, width=width), row_of(lengths))


@pytest.mark.parametrize("family", FAMILIES)
def test_families_equal_the_library(family: str) -> None:
    assert_same(new_model(family), row_of([30, 1, 80]))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_recomputing_layers_equals_the_library(family: str) -> None:
    model = new_model(family)
    model.activation_checkpointing_enable()
    assert_same(model, row_of([30, 1, 80]))


def test_heads_are_normalised_where_the_row_is_one_token() -> None:
    """A part of a single row is contiguous, and what it was must be kept nevertheless."""
    assert_same(new_model("qwen3", kv_heads=4), row_of([1]))


def test_norms_of_heads_may_be_frozen_and_beside_adapters() -> None:
    model = new_model("qwen3")
    layers_of(model)[1].self_attn.q_norm.requires_grad_(False)
    layers_of(model)[2].self_attn.k_norm.requires_grad_(False)
    assert_same(model, row_of([40, 3, 65]))
    add_lora(model, ("q_proj", "v_proj"))
    assert_same(model, row_of([40, 3, 65]), among=2 * LAYERS * 2)


@settings(max_examples=15, deadline=None)
@given(names=st.sets(st.sampled_from(LINEAR), min_size=1), seed=st.integers(1, 9))
def test_lora_on_any_layers_equals_the_library(names: set[str], seed: int) -> None:
    model = new_model()
    add_lora(model, tuple(sorted(names)))
    assert_same(model, row_of([40, seed, 65]), among=2 * LAYERS * len(names))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropped_inputs_of_lora_equal_the_plain_path(recompute: bool, dtype: torch.dtype) -> None:
    """Layers of their own dropout, one without, and one without LoRA share a product."""
    model = new_model()
    names = tuple(name for name in LINEAR if name != "k_proj")
    add_lora(model, names)
    nn.Module.to(model, dtype)
    draws = Draws(seed=3)
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear) and not name.endswith("v_proj"):
            module.set_dropout(0.25, name, draws)
    if recompute:
        model.activation_checkpointing_enable()
        model.train()
    model.set_attn_implementation(PACKED)
    ids_T, position_T, packing, kept_K = row = row_of([40, 3, 65])
    draws.begin(2, [5, 6, 7], [40, 3, 65])
    assert obstacle(model, packing) is None
    plain = model.base_model(
        input_ids=ids_T[None], position_ids=position_T[None], packing=packing, use_cache=False
    ).last_hidden_state[0][kept_K]
    expected = gradients(model, plain)
    hidden_KH = packed_hidden(model, *row)
    got = gradients(model, hidden_KH)
    bound = 1e-5 if dtype == torch.float32 else 0.03
    assert difference(hidden_KH, plain) < bound
    assert len(expected) == 2 * LAYERS * len(names)
    for name, theirs in expected.items():
        assert difference(got[name], theirs) < bound, name
    draws.begin(3, [5, 6, 7], [40, 3, 65])
    assert difference(packed_hidden(model, *row), plain) > 0.05


def test_lora_on_quantised_weights_equals_the_library() -> None:
    model = new_model()
    for layer, name in itertools.product(layers_of(model), ("q_proj", "k_proj", "o_proj")):
        linear = getattr(layer.self_attn, name)
        setattr(layer.self_attn, name, NF4Linear(linear.weight.data))
    add_lora(model, LINEAR)
    assert_same(model, row_of([40, 3, 65]))


def test_frozen_layers_have_no_gradient() -> None:
    model = new_model("qwen2")
    model.get_input_embeddings().requires_grad_(False)
    layers_of(model)[0].requires_grad_(False)
    layers_of(model)[1].self_attn.k_proj.weight.requires_grad_(False)
    layers_of(model)[2].mlp.requires_grad_(False)
    layers_of(model)[2].input_layernorm.requires_grad_(False)
    assert_same(model, row_of([40, 3, 65]))


def test_weights_keep_their_names_shapes_and_values() -> None:
    model, fresh = new_model(), new_model()
    packed_hidden(model, *row_of([9]))
    for (name, got), (_, expected) in zip(
        model.named_parameters(), fresh.named_parameters(), strict=True
    ):
        torch.testing.assert_close(got, expected, atol=0, rtol=0, msg=name)
        assert got.is_contiguous()


def test_weights_that_share_a_storage_are_saved_as_ever(tmp_path: Path) -> None:
    model = new_model()
    packed_hidden(model, *row_of([9]))
    model.save_pretrained(tmp_path / "library")
    save_file(dict(model.named_parameters()), tmp_path / "weights.safetensors")
    for path in (tmp_path / "library" / "model.safetensors", tmp_path / "weights.safetensors"):
        stored = load_file(path)
        for name, parameter in model.named_parameters():
            assert torch.equal(stored[name], parameter), name


def test_weights_that_move_away_are_found_again() -> None:
    """As after loading a checkpoint by hand, or `model.to(...)`."""
    model = new_model()
    row = row_of([9, 20])
    packed_hidden(model, *row)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    assert_same(model, row)


def test_bf16_is_as_close_to_fp32_as_the_library() -> None:
    row = row_of([70, 3, 100])
    exact = alone(new_model(), row)
    model = new_model()
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    theirs = (alone(model, row).float() - exact).abs().max()
    ours = (packed_hidden(model, *row).float() - exact).abs().max()
    assert ours < 1.5 * theirs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_input_gives_the_same_bytes(dtype: torch.dtype) -> None:
    results = []
    for _ in range(2):
        model = new_model()
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        hidden_KH = packed_hidden(model, *row_of([70, 3, 100, 12]))
        results.append((hidden_KH, *gradients(model, hidden_KH).values()))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_layer_is_not_run_backwards_twice() -> None:
    hidden_KH = packed_hidden(new_model(), *row_of([9]))
    hidden_KH.sum().backward(retain_graph=True)
    with pytest.raises(AssertionError, match="uses up"):
        hidden_KH.sum().backward()


def test_what_the_fast_path_does_not_know_takes_the_plain_one() -> None:
    packing = row_of([9])[2]
    model = new_model()
    assert obstacle(model, packing) is None
    layers_of(model)[1].mlp.register_forward_hook(lambda *_: None)
    assert obstacle(model, packing) == "a hook watches its layers"

    dora = new_model()
    add_lora(dora, ("q_proj",))
    layers_of(dora)[2].self_attn.q_proj.learn_magnitude()
    assert obstacle(dora, packing) == "its adapters are DoRA's"

    windowed = new_model("mistral")
    windowed.config.sliding_window = 8
    assert obstacle(windowed, packing) == "a document is longer than its attention window of 8"
