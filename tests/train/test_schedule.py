"""Schedules by their definitions; a batch that grows, and data that change, found by seeking."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tongwen.config import OptimizerConfig
from tongwen.errors import ConfigError
from tongwen.train.mix import Mixture, by_weight
from tongwen.train.plan import Phases, Plan, Ramp
from tongwen.train.schedule import check_schedule, decay_start, learning_rate


def rate(step: int, steps: int = 100, **settings: Any) -> float:
    return learning_rate(step, steps, OptimizerConfig(**{"warmup": 0.1, **settings}))


def test_cosine() -> None:
    assert rate(0) == pytest.approx(0.1)
    assert rate(9) == rate(10) == pytest.approx(1.0)
    assert rate(55) == pytest.approx(0.55)
    assert 0.1 < rate(99) < 0.102
    assert rate(55, min_lr=0.0) == pytest.approx(0.5)


def test_linear_and_constant() -> None:
    assert rate(10, schedule="linear") == 1.0
    assert rate(55, schedule="linear") == pytest.approx(0.5)
    assert rate(99, schedule="linear") == pytest.approx(1 / 90)
    assert rate(55, schedule="linear", min_lr=0.2) == pytest.approx(0.6)
    assert rate(4, schedule="constant") == pytest.approx(0.5)
    assert rate(10, schedule="constant") == rate(99, schedule="constant") == 1.0


def test_stable_then_a_decay() -> None:
    assert decay_start(100, 0.2) == 80
    assert rate(10, schedule="wsd") == rate(79, schedule="wsd") == rate(80, schedule="wsd") == 1.0
    assert rate(90, schedule="wsd") == pytest.approx(0.5)
    assert rate(99, schedule="wsd") == pytest.approx(0.05)
    assert learning_rate(0, 1, OptimizerConfig(schedule="wsd")) == 1.0


@pytest.mark.parametrize(
    ("shape", "half_way"),
    [
        ("linear", 0.01 + 0.99 * 0.5),
        ("cosine", 0.01 + 0.99 * 0.5),
        ("sqrt", 0.01 + 0.99 * (1 - math.sqrt(0.5))),
        ("exponential", 0.1),
    ],
)
def test_shapes_of_the_decay(shape: str, half_way: float) -> None:
    """From the highest rate to a hundredth of it, as Index-1.9B went."""
    settings: dict[str, Any] = {"schedule": "wsd", "decay_shape": shape, "min_lr": 0.01}
    assert rate(79, **settings) == rate(80, **settings) == 1.0
    assert rate(90, **settings) == pytest.approx(half_way)
    falling = [rate(step, **settings) for step in range(80, 100)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] > 0.01


def test_warm_up_in_steps() -> None:
    assert rate(49, 1000, warmup_steps=100) == pytest.approx(0.5)
    assert rate(99, 1000, warmup_steps=100) == 1.0
    check_schedule(100, OptimizerConfig(warmup_steps=80, schedule="wsd"))
    with pytest.raises(ConfigError, match="ends after step 80, where the decay begins"):
        check_schedule(100, OptimizerConfig(warmup_steps=81, schedule="wsd"))
    with pytest.raises(ConfigError, match="ends after step 100, the last one"):
        check_schedule(100, OptimizerConfig(warmup_steps=101))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "wsd", "warmup": 0.9}, "more than the run"),
        ({"schedule": "wsd", "decay_shape": "exponential", "min_lr": 0.0}, "never reaches"),
        ({"decay": 0.5}, "decay is a setting of schedule wsd, which is not given"),
        ({"average_last": 0.5}, "average_last is a setting of average, which is not given"),
        ({"batch_ramp_parts": 3}, "batch_ramp_parts is a setting of batch_ramp, which is not"),
        ({"decay_data": ["d"]}, "decay_data are for schedule wsd, and schedule is cosine"),
        ({"decay_mix": [1.0]}, "1 weights for the 0 folders"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OptimizerConfig(**settings)


def test_a_ramp_takes_more_and_more_parts() -> None:
    ramp = Ramp(10, 4)
    assert [len(ramp.of(step)) for step in range(12)] == [1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4]
    assert ramp.before(10) == 19


def test_a_ramp_that_began_with_other_data_goes_on() -> None:
    whole, rest = Ramp(10, 4), Ramp(10, 4, first=6)
    assert [len(rest.of(step)) for step in range(8)] == [len(whole.of(6 + s)) for s in range(8)]
    assert rest.of(0).start == 0
    assert rest.of(1).start == rest.of(0).stop


@given(steps=st.integers(1, 500), parts=st.integers(2, 20), wanted=st.integers(1, 9999))
def test_a_ramp_takes_every_part_once(steps: int, parts: int, wanted: int) -> None:
    ramp = Ramp(steps, parts)
    taken = [part for step in range(steps + 5) for part in ramp.of(step)]
    assert taken == list(range(ramp.before(steps + 5)))
    assert len(ramp.of(0)) == 1 or steps < parts
    assert len(ramp.of(steps)) == parts
    needed = ramp.steps_for(wanted)
    assert ramp.before(needed - 1) < wanted <= ramp.before(needed)


def test_a_growing_batch_shows_everything_once_an_epoch() -> None:
    lengths = np.random.default_rng(0).integers(10, 90, 600)
    plan = Plan(lengths, 500, 900, seed=3, ramp=Ramp(6, 4))
    steps = plan.steps(1)
    assert plan.epochs(steps) >= 1 > plan.epochs(steps - 1)
    tokens = [int(lengths[np.concatenate(plan.step(step))].sum()) for step in range(steps)]
    assert tokens[0] == pytest.approx(500, abs=100)
    assert tokens[8] == pytest.approx(2000, abs=100)
    seen = np.concatenate([part for step in range(steps) for part in plan.step(step)])
    assert set(seen) == set(range(600))
    assert max(len(plan.step(step)) for step in range(steps)) == 3, "2000 tokens, at most 900 each"
    full = Plan(lengths, 500, 900, seed=3)
    assert np.array_equal(np.concatenate(plan.step(0)), np.concatenate(full.step(0)))


def test_a_growing_batch_has_its_shares_in_every_step() -> None:
    lengths = [np.full(100, 10), np.full(300, 10)]
    sources, tokens = by_weight(lengths, [1, 3], 80, "fill")
    plan = Plan(
        np.concatenate(lengths), 80, 10**6, 0, Mixture(sources, tokens, "fill", 0), Ramp(4, 3)
    )
    for step in range(10):
        items = np.concatenate(plan.step(step))
        assert np.count_nonzero(items < 100) * 4 == len(items) == 8 * len(Ramp(4, 3).of(step))


def test_the_data_switch_where_the_decay_begins() -> None:
    lengths, later = np.full(50, 10), np.full(20, 10)
    first, second = Plan(lengths, 100, 100, 0), Plan(later, 100, 100, 0)
    phases = Phases(first, second, 7, 50)
    for step in range(7):
        assert np.array_equal(phases.step(step)[0], first.step(step)[0])
    for step in range(7, 12):
        assert np.array_equal(phases.step(step)[0], second.step(step - 7)[0] + 50)
    assert phases.epochs(12) == first.epochs(7)
