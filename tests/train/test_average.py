"""Averages of weights against their definitions, and that they change nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.train.stand import STEPS, optimizer_of, take_step, tiny_model

from tongwen.train.optim import Optimizer

NAME = "model.layers.0.mlp.up_proj.weight"


def stepped(count: int, **settings: Any) -> tuple[Optimizer, list[torch.Tensor]]:
    """An optimiser after some steps, and one weight after each."""
    model = tiny_model()
    optimizer = optimizer_of(model, **settings)
    weights = []
    for step in range(count):
        take_step(model, optimizer, step)
        weights.append(optimizer.masters.weights()[NAME].clone())
    return optimizer, weights


def test_ema_is_its_recursion() -> None:
    optimizer, weights = stepped(6, average="ema", average_decay=0.3)
    expected = weights[0]
    for count, weight in enumerate(weights[1:], 1):
        kept = min(0.3, (1 + count) / (10 + count))
        expected = kept * expected + (1 - kept) * weight
    torch.testing.assert_close(optimizer.weights()[NAME], expected)
    assert optimizer.averages


def test_mean_is_the_mean_of_the_last_steps() -> None:
    optimizer, weights = stepped(STEPS, average="mean", average_last=0.25)
    torch.testing.assert_close(optimizer.weights()[NAME], torch.stack(weights[-5:]).mean(0))


def test_before_the_last_steps_there_is_no_mean() -> None:
    optimizer, weights = stepped(3, average="mean", average_last=0.25)
    assert not optimizer.averages
    assert torch.equal(optimizer.weights()[NAME], weights[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_model_computes_with_the_average_for_a_while(dtype: torch.dtype) -> None:
    model = tiny_model()
    optimizer = optimizer_of(model, dtype, average="ema", average_decay=0.9)
    for step in range(3):
        take_step(model, optimizer, step)
    parameter = model.get_parameter(NAME)
    trained, average = parameter.clone(), optimizer.weights()[NAME].clone()
    with optimizer.averaged():
        assert torch.equal(parameter, average.to(dtype))
        assert not torch.equal(parameter, trained)
    assert torch.equal(parameter, trained)
    assert torch.equal(optimizer.weights()[NAME], average)


def test_averaging_does_not_touch_the_training() -> None:
    (_, plain), (_, averaged) = stepped(4), stepped(4, average="ema")
    for one, other in zip(plain, averaged, strict=True):
        assert torch.equal(one, other)
