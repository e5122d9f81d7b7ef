"""The fused loss equals the plain one, in value and in gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tongwen.data import TokenStore
from tongwen.models import PACKED, new_model
from tongwen.tokenizer import load_tokenizer
from tongwen.train.batch import Items
from tongwen.train.loss import CHUNK, linear_cross_entropy, token_losses
from tongwen.train.objective import language_model_loss, language_model_losses


@settings(max_examples=20)
@given(count=st.sampled_from([1, 7, CHUNK, CHUNK + 1, 2 * CHUNK + 5]), seed=st.integers(0, 99))
def test_fused_equals_plain(count: int, seed: int) -> None:
    torch.manual_seed(seed)
    hidden_KH = torch.randn(count, 16, requires_grad=True)
    weight_VH = torch.randn(53, 16, requires_grad=True)
    target_K = torch.randint(0, 53, (count,))
    plain = F.cross_entropy(hidden_KH @ weight_VH.T, target_K, reduction="sum")
    expected = torch.autograd.grad(plain, (hidden_KH, weight_VH))
    fused = linear_cross_entropy(hidden_KH, weight_VH, target_K)
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-5)
    got = torch.autograd.grad(fused * 1.0, (hidden_KH, weight_VH))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        token_losses(hidden_KH.detach(), weight_VH.detach(), target_K).sum(), plain.detach()
    )


@pytest.mark.parametrize("name", ["text", "chat"])
def test_a_packed_batch_has_the_loss_that_transformers_computes(lessons: Path, name: str) -> None:
    """The mean over trained tokens equals transformers' own loss on the same labels."""
    items = Items([TokenStore.open(lessons / name, "train")])
    chosen = torch.arange(12).numpy()
    model = new_model("1m", len(load_tokenizer(lessons / "tokenizer")), 256, seed=3)

    # One padded row per item, labels -100 where nothing is trained, as every HF trainer does it.
    longest = int(items.lengths[chosen].max())
    ids_BT = torch.zeros(len(chosen), longest, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    label_BT = torch.full_like(ids_BT, -100)
    for row, item in enumerate(chosen):
        ids, mask = torch.from_numpy(items.ids(item)), torch.from_numpy(items.mask(item).copy())
        ids_BT[row, : len(ids)], mask_BT[row, : len(ids)] = ids, 1
        label_BT[row, : len(ids)] = torch.where(mask, ids, -100)
    model.set_attn_implementation("sdpa")
    theirs = model(input_ids=ids_BT, attention_mask=mask_BT, labels=label_BT).loss
    expected = torch.autograd.grad(theirs, list(model.parameters()))

    batch = items.batch(chosen)
    assert len(batch.target_K) == int((label_BT[:, 1:] != -100).sum())
    model.set_attn_implementation(PACKED)
    ours = language_model_loss(model, batch) / len(batch.target_K)
    assert abs(float(ours.detach()) - float(theirs.detach())) < 1e-5
    got = torch.autograd.grad(ours, list(model.parameters()))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    losses_K = language_model_losses(model, batch)
    torch.testing.assert_close(losses_K.mean(), ours, atol=1e-5, rtol=0)


def test_families_with_another_head_take_their_own_forward_pass(lessons: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    items = Items([TokenStore.open(lessons / "text", "train")])
    batch = items.batch(torch.arange(4).numpy())
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=500, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, attn_logit_softcapping=None,
        final_logit_softcapping=5.0, sliding_window=4096,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config)
    model.set_attn_implementation(PACKED)
    loss = language_model_loss(model, batch)
    model.set_attn_implementation("eager")
    alone = 0.0
    for item in range(4):
        ids = torch.from_numpy(items.ids(item))[None]
        labels = torch.where(torch.from_numpy(items.mask(item).copy())[None], ids, -100)
        count = int((labels[:, 1:] != -100).sum())
        alone += float(model(input_ids=ids, labels=labels).loss.detach()) * count
    assert abs(float(loss.detach()) - alone) < 1e-3 * alone
