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
from tongwen.train import loss
from tongwen.train.batch import Items
from tongwen.train.loss import linear_cross_entropy, linear_logps, token_losses
from tongwen.train.objective import language_model_loss, language_model_losses


@settings(max_examples=20)
@given(count=st.sampled_from([1, 7, 32, 33, 69]), seed=st.integers(0, 99))
def test_fused_equals_plain(count: int, seed: int) -> None:
    torch.manual_seed(seed)
    hidden_KH = torch.randn(count, 16, requires_grad=True)
    weight_VH = torch.randn(53, 16, requires_grad=True)
    target_K, factor_K = torch.randint(0, 53, (count,)), torch.randn(count)
    losses_K = F.cross_entropy(hidden_KH @ weight_VH.T, target_K, reduction="none")
    both = (hidden_KH, weight_VH)
    expected = torch.autograd.grad(losses_K.sum(), both, retain_graph=True)
    expected_factored = torch.autograd.grad(losses_K @ factor_K, both)
    with pytest.MonkeyPatch.context() as patch:  # chunks of 32 positions
        patch.setattr(loss, "CHUNK_BYTES", 32 * 53 * 4)
        fused = linear_cross_entropy(hidden_KH, weight_VH, target_K)
        logps_K = linear_logps(hidden_KH, weight_VH, target_K)
        got = torch.autograd.grad(fused * 1.0, both)
        got_factored = torch.autograd.grad(-(logps_K @ factor_K), both)
    torch.testing.assert_close(fused, losses_K.sum(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logps_K, -losses_K, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got_factored, expected_factored, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(token_losses(*both, target_K), losses_K.detach())


def test_without_kernels_the_loss_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    hidden_KH = torch.randn(40, 16, requires_grad=True)
    weight_VH = torch.randn(53, 16, requires_grad=True)
    target_K = torch.randint(0, 53, (40,))
    results = []
    for _ in range(2):
        fused = linear_cross_entropy(hidden_KH, weight_VH, target_K)
        results.append((fused, *torch.autograd.grad(fused, (hidden_KH, weight_VH))))
        monkeypatch.setattr(loss, "kernels", lambda: None)
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_an_fp16_head_may_leave_its_range_before_it_is_divided() -> None:
    count = 4000
    hidden_KH = torch.full((count, 4), 60.0, dtype=torch.float16, requires_grad=True)
    weight_VH = torch.zeros(8, 4, dtype=torch.float16, requires_grad=True)
    target_K = torch.zeros(count, dtype=torch.int64)
    (linear_cross_entropy(hidden_KH, weight_VH, target_K) / count).backward()
    assert weight_VH.grad is not None
    expected = torch.tensor([60 * (1 / 8 - 1), *[60 / 8] * 7])
    torch.testing.assert_close(weight_VH.grad[:, 0].float(), expected, rtol=1e-3, atol=0)


def test_a_frozen_head_has_no_gradient() -> None:
    hidden_KH = torch.randn(5, 16, requires_grad=True)
    weight_VH = torch.randn(53, 16)
    for function in (linear_cross_entropy, linear_logps):
        function(hidden_KH, weight_VH, torch.arange(5)).sum().backward()
    assert weight_VH.grad is None
    assert hidden_KH.grad is not None
    assert hidden_KH.grad.abs().max() < 1e-5  # log-probabilities take back what losses gave


def test_extreme_logits_have_a_finite_loss_and_broken_ones_do_not() -> None:
    weight_VH = torch.eye(4)
    target_K = torch.tensor([0, 1])
    hidden_KH = torch.tensor([[300.0, -300, 0, 0], [300, -300, 0, 0]])
    expected = F.cross_entropy(hidden_KH, target_K, reduction="none")
    torch.testing.assert_close(token_losses(hidden_KH, weight_VH, target_K), expected)
    hidden_KH[0, 0] = float("nan")
    assert token_losses(hidden_KH, weight_VH, target_K)[0].isnan()


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
