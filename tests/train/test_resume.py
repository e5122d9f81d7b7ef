"""Every optimiser in every precision goes on from its saved state to the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from tests.train.stand import optimizer_of, take_step, tiny_model

from tongwen.config import OptimizerConfig
from tongwen.errors import RunError
from tongwen.train.adamw8bit import adamw8bit
from tongwen.train.muon import muon
from tongwen.train.optim import Optimizer
from tongwen.train.rules import AdamW, Named, Rule

RULES = (("adamw", "ema"), ("adamw8bit", "mean"), ("muon", "ema"), ("mezo", "mean"))
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def content(optimizer: Optimizer) -> bytes:
    contiguous = {name: weight.contiguous() for name, weight in optimizer.masters.weights().items()}
    return save(contiguous) + save(optimizer.state())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rule", "average"), RULES)
def test_saved_and_loaded_goes_on_to_the_same_bytes(
    rule: str, average: str, dtype: torch.dtype
) -> None:
    settings: dict[str, Any] = {"optimizer": rule, "average": average, "average_last": 0.9}
    model = tiny_model()
    optimizer = optimizer_of(model, dtype, **settings)
    for step in range(4):
        take_step(model, optimizer, step)
    weights, state = save(optimizer.masters.weights()), save(optimizer.state())
    for step in range(4, 6):
        take_step(model, optimizer, step)

    fresh = tiny_model(seed=1)
    resumed = optimizer_of(fresh, dtype, **settings)
    resumed.load(load(weights), load(state))
    assert save(resumed.state()) == state
    for step in range(4, 6):
        take_step(fresh, resumed, step)
    assert content(resumed) == content(optimizer)

    fresh = tiny_model(seed=1)
    forgetful = optimizer_of(fresh, dtype, **settings)
    forgetful.masters.load_weights(load(weights))
    for step in range(4, 6):
        take_step(fresh, forgetful, step)
    assert content(forgetful) != content(optimizer)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("rule", [AdamW, adamw8bit, muon])
def test_a_weight_without_a_gradient_yet_is_gone_on_with(
    rule: Callable[[Named, OptimizerConfig], Rule], steps: int
) -> None:
    """As that of an expert that nothing was sent to; or all, where fp16 skipped every step."""

    def step(rule: Rule, named: Named, number: int) -> None:
        source = torch.Generator().manual_seed(number)
        for name, master in named.items():
            grad = torch.randn(master.shape, generator=source)
            master.grad = grad if number >= 2 or "expert" not in name else None
        rule.step(1e-2)

    def fresh() -> dict[str, torch.Tensor]:
        shapes = {"layer": (64, 80), "expert": (64, 80), "norm": (64,), "expert.norm": (64,)}
        return {name: torch.ones(shape) for name, shape in shapes.items()}

    named = fresh()
    whole = rule(named, OptimizerConfig())
    for number in range(steps):
        step(whole, named, number)
    saved = {name: weight.clone() for name, weight in named.items()}
    state = save(whole.state())
    resumed = rule(saved, OptimizerConfig())
    resumed.load(load(state))
    assert save(resumed.state()) == state
    for number in range(steps, 4):
        step(whole, named, number)
        step(resumed, saved, number)
    assert all(named[name].equal(saved[name]) for name in named)
    assert save(resumed.state()) == save(whole.state())


@pytest.mark.parametrize("other", [{"optimizer": "muon"}, {"average": "ema"}], ids=str)
def test_state_of_another_optimiser_is_refused(other: dict[str, Any]) -> None:
    model = tiny_model()
    optimizer = optimizer_of(model)
    take_step(model, optimizer, 0)
    with pytest.raises(RunError, match=r"the checkpoint holds no '.*' of this optimiser"):
        optimizer_of(tiny_model(), **other).load(optimizer.masters.weights(), optimizer.state())
