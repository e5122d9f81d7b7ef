"""Which step trains on what: everything once an epoch, found without replaying."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tongwen.train.plan import Plan

LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=200).map(np.array)


@given(
    lengths=LENGTHS, batch=st.integers(1, 4000), micro=st.integers(1, 4000), seed=st.integers(0, 9)
)
def test_an_epoch_holds_every_item_once(
    lengths: np.ndarray, batch: int, micro: int, seed: int
) -> None:
    plan = Plan(lengths, batch, micro, seed)
    for epoch in (0, 1):
        steps = [plan.step(epoch * plan.steps_per_epoch + s) for s in range(plan.steps_per_epoch)]
        assert all(len(part) for step in steps for part in step)
        items = np.concatenate([part for step in steps for part in step])
        assert sorted(items) == list(range(len(lengths)))


@given(lengths=LENGTHS, seed=st.integers(0, 9), step=st.integers(0, 10**6))
def test_any_step_is_found_without_the_ones_before(
    lengths: np.ndarray, seed: int, step: int
) -> None:
    ours, again = Plan(lengths, 1000, 300, seed), Plan(lengths, 1000, 300, seed)
    again.step(0)
    for left, right in zip(ours.step(step), again.step(step), strict=True):
        assert np.array_equal(left, right)


@given(lengths=LENGTHS, micro=st.integers(1, 4000))
def test_micro_batches_only_cut_a_step(lengths: np.ndarray, micro: int) -> None:
    whole, cut = Plan(lengths, 2000, 2000, 0), Plan(lengths, 2000, micro, 0)
    assert whole.steps_per_epoch == cut.steps_per_epoch
    for step in range(whole.steps_per_epoch):
        assert np.array_equal(np.concatenate(whole.step(step)), np.concatenate(cut.step(step)))


def test_steps_hold_about_the_tokens_asked_for() -> None:
    lengths = np.random.default_rng(0).integers(20, 200, 5000)
    plan = Plan(lengths, 8192, 8192, 0)
    sizes = [lengths[np.concatenate(plan.step(s))].sum() for s in range(plan.steps_per_epoch)]
    assert max(abs(size - 8192) for size in sizes) < 400


def test_orders_differ_between_epochs_and_seeds() -> None:
    lengths = np.full(100, 10)
    plan, other = Plan(lengths, 1000, 1000, 0), Plan(lengths, 1000, 1000, 1)
    assert not np.array_equal(plan.step(0)[0], plan.step(1)[0])
    assert not np.array_equal(plan.step(0)[0], other.step(0)[0])


def test_the_order_is_what_it_was() -> None:
    """Runs that are under way go on to the same bytes only if it never changes."""
    lengths = np.array([5, 9, 2, 7, 7, 1, 4, 8, 30, 3, 3, 6])
    plan = Plan(lengths, 20, 9, 3)
    assert plan.steps_per_epoch == 4
    steps = {step: [part.tolist() for part in plan.step(step)] for step in (0, 1, 2, 7, 11)}
    assert steps == {
        0: [[11, 7], [2], [10, 0]],
        1: [[1], [4], [6]],
        2: [[9], [5], [3]],
        7: [[6], [3]],
        11: [[3], [5]],
    }
