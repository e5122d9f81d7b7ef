"""Every optimiser in every precision goes on from its saved state to the same bytes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from tests.train.stand import optimizer_of, take_step, tiny_model

from tongwen.errors import RunError
from tongwen.train.optim import Optimizer

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


@pytest.mark.parametrize("other", [{"optimizer": "muon"}, {"average": "ema"}], ids=str)
def test_state_of_another_optimiser_is_refused(other: dict[str, Any]) -> None:
    model = tiny_model()
    optimizer = optimizer_of(model)
    take_step(model, optimizer, 0)
    with pytest.raises(RunError, match=r"the checkpoint holds no '.*' of this optimiser"):
        optimizer_of(tiny_model(), **other).load(optimizer.masters.weights(), optimizer.state())
