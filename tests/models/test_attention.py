"""Packed attention equals attention to each document alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from tongwen.models import PACKED, Packing


def model(kv_heads: int = 2) -> LlamaForCausalLM:
    """Two layers of random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=kv_heads, max_position_embeddings=256,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def packed_row(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor, Packing]:
    ids_T = torch.randint(0, 97, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    position_T = torch.cat([torch.arange(length) for length in lengths])
    return ids_T, position_T, Packing.of(lengths)


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=8), kv_heads=st.sampled_from([1, 4])
)
def test_logits_and_gradients_equal_those_of_documents_alone(
    lengths: list[int], kv_heads: int
) -> None:
    ids_T, position_T, packing = packed_row(lengths)
    ours, theirs = model(kv_heads), model(kv_heads)
    ours.set_attn_implementation(PACKED)
    theirs.set_attn_implementation("eager")
    weight_TV = torch.randn(len(ids_T), 97, generator=torch.Generator().manual_seed(2))

    logits_TV = ours(
        input_ids=ids_T[None], position_ids=position_T[None], packing=packing, use_cache=False
    ).logits[0]
    alone_TV = torch.cat([theirs(input_ids=ids[None]).logits[0] for ids in ids_T.split(lengths)])
    torch.testing.assert_close(logits_TV, alone_TV, atol=1e-5, rtol=1e-5)

    (logits_TV * weight_TV).sum().backward()
    (alone_TV * weight_TV).sum().backward()
    for (name, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_bf16_stays_close_to_fp32(kv_heads: int) -> None:
    ids_T, position_T, packing = packed_row([5, 40, 33, 64, 1])
    exact, coarse = model(kv_heads), torch.nn.Module.to(model(kv_heads), torch.bfloat16)
    row = {"input_ids": ids_T[None], "position_ids": position_T[None], "packing": packing}
    for each in (exact, coarse):
        each.set_attn_implementation(PACKED)
    error = (exact(**row).logits - coarse(**row).logits.float()).abs().max()
    assert error < 0.02 * exact(**row).logits.abs().max() + 0.01


@given(lengths=st.lists(st.integers(1, 100), min_size=1, max_size=30))
def test_every_token_has_one_place(lengths: list[int]) -> None:
    packing = Packing.of(lengths)
    total = sum(lengths)
    assert sorted(packing.row_P[packing.place_T].tolist()) == list(range(total))
    assert torch.equal(packing.row_P[packing.place_T], torch.arange(total))
