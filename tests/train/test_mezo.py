"""MeZO: the slope along a direction that is never stored, and the way down it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tests.train.stand import batch_of, loss_of, optimizer_of, take_step, tiny_model

from tongwen.train.batch import Batch
from tongwen.train.mezo import EPSILON, MeZO
from tongwen.train.objective import Loss


def test_the_slope_is_the_gradient_along_the_direction() -> None:
    model, batch = tiny_model(), batch_of(0)
    optimizer = optimizer_of(model, optimizer="mezo", seed=3)
    before = {name: weight.clone() for name, weight in optimizer.masters.weights().items()}
    (loss,) = optimizer.losses(loss_of(model, batch), [batch])
    assert not any(parameter.grad is not None for parameter in model.parameters())
    slope = optimizer.gradient_norm(clip=0.0)

    there = loss_of(model, batch)(batch).value
    assert float(loss.value) == pytest.approx(float(there.detach()), abs=2e-3)
    gradients = torch.autograd.grad(there, list(model.parameters()))
    optimizer.step(1.0)
    # The step is minus the slope times the direction; along it, the gradient is the slope.
    moved = {name: weight - before[name] for name, weight in optimizer.masters.weights().items()}
    descent = sum(
        float((gradient * moved[name]).sum())
        for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True)
    )
    assert descent == pytest.approx(-(slope**2), rel=0.02)


def test_looking_leaves_the_weights_where_they_are() -> None:
    model, batch = tiny_model(), batch_of(0)
    optimizer = optimizer_of(model, optimizer="mezo")
    before = {name: weight.clone() for name, weight in optimizer.masters.weights().items()}
    optimizer.losses(loss_of(model, batch), [batch])
    for name, weight in optimizer.masters.weights().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=1e-6)


def test_directions_are_normal_and_new_at_every_step_and_for_every_weight() -> None:
    optimizer = optimizer_of(tiny_model(), optimizer="mezo", weight_decay=0.0)
    names = ["model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.o_proj.weight"]
    seen = []
    for _ in range(2):
        before = {name: optimizer.masters.weights()[name].clone() for name in names}
        weight = optimizer.masters.named[names[0]]
        optimizer.losses(partial(some_of, weight), [batch_of(0)])
        slope = optimizer.gradient_norm(0.0)
        optimizer.step(1.0)
        seen += [(optimizer.masters.weights()[name] - before[name]) / slope for name in names]
    for direction in seen:
        assert float(direction.mean()) == pytest.approx(0, abs=0.02)
        assert float(direction.std()) == pytest.approx(1, abs=0.02)
    for first in range(4):
        for second in range(first):
            pair = torch.stack([seen[first].flatten(), seen[second].flatten()])
            assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.05


def some_of(weight: torch.Tensor, _: Batch) -> Loss:
    """A loss that is steep enough along any direction to measure the step by."""
    return Loss(weight.detach().double().flatten()[:50].sum())


def test_the_slope_is_cut_where_it_is_larger_than_asked_for() -> None:
    optimizer = optimizer_of(tiny_model(), optimizer="mezo", weight_decay=0.0)
    mezo = optimizer._gradient
    assert isinstance(mezo, MeZO)
    steep = iter([EPSILON * 14.0, 0.0])
    optimizer.losses(lambda _: Loss(torch.tensor(next(steep))), [batch_of(0)])
    before = {name: weight.clone() for name, weight in optimizer.masters.weights().items()}
    assert optimizer.gradient_norm(0.5) == pytest.approx(7.0)
    optimizer.step(1.0)
    name = "model.layers.0.mlp.up_proj.weight"
    step = optimizer.masters.weights()[name] - before[name]
    assert float(step.std()) == pytest.approx(0.5, rel=0.02)


def test_a_loss_falls() -> None:
    model = tiny_model()
    optimizer = optimizer_of(model, optimizer="mezo", weight_decay=0.0)
    batch = batch_of(0)
    losses = []
    for _ in range(40):
        (loss,) = optimizer.losses(loss_of(model, batch), [batch])
        optimizer.gradient_norm(0.0)
        optimizer.step(4e-4)
        losses.append(float(loss.value))
    assert sum(losses[-10:]) / 10 < losses[0] - 0.1


def test_more_micro_batches_have_the_slope_of_their_sum() -> None:
    slopes = []
    for parts in ([batch_of(0), batch_of(1)], [batch_of(1), batch_of(0)]):
        model = tiny_model()
        optimizer = optimizer_of(model, optimizer="mezo")
        optimizer.losses(loss_of(model, parts[0]), parts)
        slopes.append(optimizer.gradient_norm(0.0))
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-3)
    model = tiny_model()
    alone = optimizer_of(model, optimizer="mezo")
    take_step(model, alone, 0, lr=0.0)
    assert slopes[0] != pytest.approx(alone.gradient_norm(0.0), rel=0.01)
