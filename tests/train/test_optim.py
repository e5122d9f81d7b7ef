"""The optimiser against torch's own."""

from __future__ import annotations

import pytest
import torch
from tests.train.stand import optimizer_of

from tongwen.models import new_model
from tongwen.train.masters import Masters


def gradients(model: torch.nn.Module, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.backward(torch.randn(p.shape, generator=source).to(p.dtype))


def test_fp32_equals_torch_adamw() -> None:
    ours, theirs = new_model("1m", 300, 64, 0), new_model("1m", 300, 64, 0)
    decayed = [p for n, p in theirs.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in theirs.named_parameters() if p.ndim != 2 or "embed" in n]
    reference = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
        lr=1e-2, betas=(0.9, 0.95), eps=1e-8,
    )  # fmt: skip
    optimizer = optimizer_of(ours)
    for step in range(3):
        gradients(ours, step)
        theirs.zero_grad()
        gradients(theirs, step)
        norm = optimizer.gradient_norm(clip=1.0)
        expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        assert norm == pytest.approx(float(expected), rel=1e-5)
        optimizer.step(1e-2)
        reference.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-6, rtol=1e-5)


def test_updates_too_small_for_bf16_add_up_in_the_masters() -> None:
    model = new_model("1m", 300, 64, 0)
    norm = model.model.norm.weight
    optimizer = optimizer_of(model, torch.bfloat16, weight_decay=0.0)
    for _ in range(100):
        for p in model.parameters():
            p.backward(torch.ones_like(p))
        optimizer.step(1e-4)
    # 100 updates of 1e-4 on weights of 1.0, where bf16 cannot show less than 0.0039.
    assert float(norm[0].detach()) == pytest.approx(0.99, abs=0.004)
    assert float(optimizer.masters.weights()["model.norm.weight"][0]) == pytest.approx(
        0.99, abs=1e-4
    )


def test_micro_batch_gradients_are_summed_in_fp32() -> None:
    model = new_model("1m", 300, 64, 0)
    optimizer = optimizer_of(model, torch.bfloat16, weight_decay=0.0)
    for value in (1.0, 2.0**-10):
        for p in model.parameters():
            p.backward(torch.full_like(p, value))
    assert float(optimizer.masters.masters[0].grad.flatten()[0]) == 1.0 + 2.0**-10  # type: ignore[union-attr]


def test_masters_begin_as_the_fp32_weights_to_the_bit() -> None:
    model, same = new_model("1m", 300, 64, 0), new_model("1m", 300, 64, 0)
    weights = Masters(model, torch.bfloat16).weights()
    assert model.dtype == torch.bfloat16
    for name, parameter in same.named_parameters():
        assert torch.equal(weights[name], parameter)
