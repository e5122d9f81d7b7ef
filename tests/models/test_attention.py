"""Packed attention equals attention to each document alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from tongwen.models import PACKED, Packing, attention


def model(kv_heads: int = 2, width: int = 8) -> LlamaForCausalLM:
    """Two layers of random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97, hidden_size=4 * width, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=kv_heads, max_position_embeddings=256,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def packed_row(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor, Packing]:
    ids_T = torch.randint(0, 97, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    position_T = torch.cat([torch.arange(length) for length in lengths])
    return ids_T, position_T, Packing.of(lengths)


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=8),
    kv_heads=st.sampled_from([1, 4]),
    width=st.sampled_from([8, 16]),
)
def test_logits_and_gradients_equal_those_of_documents_alone(
    lengths: list[int], kv_heads: int, width: int
) -> None:
    ids_T, position_T, packing = packed_row(lengths)
    ours, theirs = model(kv_heads, width), model(kv_heads, width)
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


@pytest.mark.parametrize("width", [8, 16])
def test_a_window_hides_what_is_further_back(width: int) -> None:
    """Heads of 8 have no kernel; both ways see the last four tokens of their document."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=97, hidden_size=4 * width, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, head_dim=width, sliding_window=4,
    )  # fmt: skip
    windowed = MistralForCausalLM(config)
    lengths = [3, 40, 9]
    ids_T, position_T, packing = packed_row(lengths)
    windowed.set_attn_implementation("eager")
    alone_TV = torch.cat([windowed(input_ids=ids[None]).logits[0] for ids in ids_T.split(lengths)])
    windowed.set_attn_implementation(PACKED)
    row = {"input_ids": ids_T[None], "position_ids": position_T[None], "packing": packing}
    torch.testing.assert_close(windowed(**row).logits[0], alone_TV, atol=1e-5, rtol=1e-5)


def test_without_kernels_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ids_T, position_T, packing = packed_row([5, 40, 33])
    small = model(width=16)
    small.set_attn_implementation(PACKED)
    row = {"input_ids": ids_T[None], "position_ids": position_T[None], "packing": packing}
    results = []
    for _ in range(2):
        logits = small(**row).logits
        weights = list(small.parameters())
        results.append((logits, *torch.autograd.grad(logits.square().sum(), weights)))
        monkeypatch.setattr(attention, "kernels", lambda: None)
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)
