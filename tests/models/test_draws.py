"""Random numbers of training: of the right distribution, and functions of their place alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tongwen.models.draws import Draws, columns, generator

WIDTH = 512


def mask(draws: Draws, share: float = 0.5, name: str = "layer") -> Tensor:
    """Which numbers are kept, [T, C]."""
    tokens = len(draws.token_lengths())
    return draws.dropout(torch.ones(tokens, WIDTH), share, columns(name, WIDTH)) != 0


def begun(seed: int = 0, step: int = 0, items: tuple[int, ...] = (0,), length: int = 400) -> Draws:
    draws = Draws(seed)
    draws.begin(step, items, [length] * len(items))
    return draws


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_the_share_is_dropped_and_the_sum_stays(share: float) -> None:
    draws = begun()
    out = draws.dropout(torch.ones(400, WIDTH), share, columns("layer", WIDTH))
    # Four standard deviations of a mean of that many independent draws.
    bound = 4 * (share * (1 - share) / (400 * WIDTH)) ** 0.5
    assert float((out == 0).float().mean()) == pytest.approx(share, abs=bound + 1e-9)
    assert float(out.mean()) == pytest.approx(1.0, abs=bound / (1 - share) + 1e-6)


def test_masks_have_no_pattern() -> None:
    """Between tokens, columns, layers, steps, items and seeds they agree as chance has it."""
    first = mask(begun())
    others = {
        "token": first.roll(1, 0),
        "column": first.roll(1, 1),
        "layer": mask(begun(), name="other"),
        "step": mask(begun(step=1)),
        "item": mask(begun(items=(1,))),
        "seed": mask(begun(seed=1)),
    }
    for name, other in others.items():
        agree = float((first == other).float().mean())
        assert agree == pytest.approx(0.5, abs=4 * 0.5 / (400 * WIDTH) ** 0.5), name
    # The counts by token and by column spread as those of independent coins do.
    for axis in (0, 1):
        counts = first.sum(axis).float()
        expected = (0.25 * first.shape[axis]) ** 0.5
        assert float(counts.std()) == pytest.approx(expected, rel=0.2)


def test_noise_is_uniform() -> None:
    noise = begun().noise(columns("noise", WIDTH))
    assert noise.shape == (400, WIDTH)
    assert float(noise.abs().max()) <= 1.0
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.006)
    assert float(noise.var()) == pytest.approx(1 / 3, abs=0.006)


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6, unique=True),
    data=st.data(),
)
def test_an_item_draws_the_same_wherever_it_stands(lengths: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(lengths))))
    one, other = Draws(7), Draws(7)
    one.begin(3, range(len(lengths)), lengths)
    other.begin(3, order, [lengths[item] for item in order])
    parts = dict(enumerate(mask(one).split(lengths)))
    for item, part in zip(order, mask(other).split([lengths[i] for i in order]), strict=True):
        assert torch.equal(part, parts[item])


def test_nothing_is_drawn_without_a_gradient_or_a_row() -> None:
    x = torch.ones(400, WIDTH)
    assert Draws(0).dropout(x, 0.5, columns("layer", WIDTH)) is x
    with torch.no_grad():
        assert begun().dropout(x, 0.5, columns("layer", WIDTH)) is x


def test_generators_differ_by_seed_and_purpose_and_leave_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    made = {
        (seed, name): torch.rand(4, generator=generator(seed, name))
        for seed in (0, 1)
        for name in "ab"
    }
    again = torch.rand(4, generator=generator(1, "b"))
    assert torch.equal(made[1, "b"], again)
    assert len({float(numbers[0]) for numbers in made.values()}) == 4
    assert torch.equal(torch.get_rng_state(), before)
