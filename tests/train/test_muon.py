"""Muon: orthogonal steps of AdamW's size for hidden matrices, AdamW for everything else."""

from __future__ import annotations

import pytest
import torch
from tests.train.stand import optimizer_of, tiny_model

from tongwen.config import OptimizerConfig
from tongwen.train.muon import muon
from tongwen.train.rules import is_decayed


@pytest.mark.parametrize("shape", [(48, 32), (32, 48), (64, 64)])
def test_the_first_step_goes_along_the_nearest_orthogonal_matrix(shape: tuple[int, int]) -> None:
    source = torch.Generator().manual_seed(0)
    weight, gradient = (torch.randn(shape, generator=source) for _ in range(2))
    moved = weight.clone()
    moved.grad = gradient
    muon({"q_proj.weight": moved}, OptimizerConfig(optimizer="muon", weight_decay=0.5)).step(0.01)
    step = (weight * (1 - 0.01 * 0.5) - moved) / (0.01 * 0.2 * max(shape) ** 0.5)
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    inside = left.T @ step @ right.T
    # Five iterations bring the singular values near 1, not to it; the vectors stay.
    sizes = inside.diagonal()
    assert float(sizes.min()) > 0.6
    assert float(sizes.max()) < 1.3
    assert float((inside - sizes.diag()).abs().max()) < 0.03
    size = float((0.2 * max(shape) ** 0.5 * step).pow(2).mean().sqrt())
    assert size == pytest.approx(0.2, rel=0.25), "the root mean square of an AdamW update"


def test_embeddings_and_norms_go_as_adamw_moves_them() -> None:
    models = tiny_model(), tiny_model()
    ours, theirs = optimizer_of(models[0], optimizer="muon"), optimizer_of(models[1])
    for model, optimizer in zip(models, (ours, theirs), strict=True):
        source = torch.Generator().manual_seed(1)
        for _ in range(2):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=source)
            optimizer.step(1e-2)
    for name, weight in ours.masters.weights().items():
        same = torch.equal(weight, theirs.masters.weights()[name])
        assert same != (weight.ndim == 2 and is_decayed(name, weight)), name
    assert set(ours.state()) >= {"model.layers.0.mlp.up_proj.weight.momentum_buffer"}
