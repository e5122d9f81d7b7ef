"""8-bit AdamW: its values, the nearest of them, and how closely it follows AdamW."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.train.stand import optimizer_of, take_step, tiny_model

from tongwen.train.adamw8bit import BLOCK, SPAN, Blocks, dynamic_map, dynamic_values


def test_the_dynamic_values() -> None:
    """The middles of 2ᵏ parts of each decade, as the paper's figure 1 has them."""
    unsigned, signed = dynamic_values(signed=False), dynamic_values(signed=True)
    for values in (unsigned, signed):
        assert len(values.unique()) == 256
        assert torch.equal(values, values.sort().values)
    torch.testing.assert_close(unsigned[:4], torch.tensor([0, 3.25e-7, 7.75e-7, 2.125e-6]))
    torch.testing.assert_close(unsigned[-2:], torch.tensor([1 - 0.9 / 128, 1.0]), rtol=0, atol=4e-3)
    assert unsigned[-1] == signed[-1] == 1.0
    top = [int(((values > 0.1) & (values < 1)).sum()) for values in (unsigned, signed)]
    assert top == [128, 64]
    assert torch.equal(signed[signed < 0], -signed[(signed > 0) & (signed < 1)].flip(0))


@pytest.mark.parametrize("signed", [False, True])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), power=st.sampled_from([1, 3, 9, 40]))
def test_codes_are_those_of_the_nearest_values(signed: bool, seed: int, power: int) -> None:
    numbers = torch.rand(4000, generator=torch.Generator().manual_seed(seed)) ** power
    if signed:
        numbers[::2] *= -1
    numbers[:4] = torch.tensor([0.0, 1.0, -1.0 if signed else 1.0, -0.0])
    values = dynamic_values(signed)
    got = values[dynamic_map(signed, torch.device("cpu")).codes(numbers).int()]
    away = (numbers[:, None] - values).abs().min(1).values
    # Half-way between two values, fp32 may round to either.
    torch.testing.assert_close((got - numbers).abs(), away, rtol=0, atol=1e-7)


def test_blocks_store_zeros_and_their_largest_number_exactly() -> None:
    numbers = torch.randn(3 * BLOCK + 5, generator=torch.Generator().manual_seed(0))
    numbers[BLOCK : 2 * BLOCK] = 0.0
    numbers[2 * BLOCK] = 40.0
    stored = Blocks(numbers, signed=True)
    assert torch.count_nonzero(stored.read(0)) == 0
    stored.write(0, numbers)
    back = stored.read(0)[: len(numbers)]
    assert torch.count_nonzero(back[BLOCK : 2 * BLOCK]) == 0
    assert back[2 * BLOCK] == 40.0
    error = (back - numbers).view(-1)[:BLOCK].abs().max() / numbers[:BLOCK].abs().max()
    assert error < 0.9 / 64 / 2 + 1e-6, "half a step of the top decade"


def test_spans_are_worked_on_one_by_one() -> None:
    numbers = torch.linspace(-1, 1, SPAN + 700)
    stored = Blocks(numbers, signed=True)
    stored.write(0, numbers[:SPAN])
    stored.write(1, numbers[SPAN:])
    back = torch.cat([stored.read(0), stored.read(1)])[: len(numbers)]
    torch.testing.assert_close(back, numbers, rtol=0.08, atol=1e-4)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float((one[name] - other[name]).pow(2).sum()) for name in one))


def test_it_follows_adamw_with_a_quarter_of_the_state() -> None:
    """The first step is AdamW's; after 20, they are 3 % apart of the way that they went."""
    start = optimizer_of(tiny_model()).masters.weights()
    models = tiny_model(), tiny_model()
    theirs, ours = optimizer_of(models[0]), optimizer_of(models[1], optimizer="adamw8bit")
    losses = []
    for step in range(20):
        both = zip(models, (theirs, ours), strict=True)
        losses.append([take_step(model, optimizer, step, 5e-4) for model, optimizer in both])
        if step == 0:
            assert apart(ours.masters.weights(), theirs.masters.weights()) < 1e-5
    assert max(abs(left - right) for left, right in losses) < 2e-3
    went = apart(theirs.masters.weights(), start)
    assert apart(ours.masters.weights(), theirs.masters.weights()) < 0.03 * went
    small, large = (sum(value.nbytes for value in one.state().values()) for one in (ours, theirs))
    assert small < 0.26 * large
