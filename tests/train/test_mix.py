"""Mixed sources: every step has what was asked for, every item has its turn, any step is found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.train.mix import Mixture, Remainder, by_quota, by_weight
from tongwen.train.plan import Plan

REMAINDERS: tuple[Remainder, ...] = ("drop", "fill")
MODES = [(incomplete, exhausted) for exhausted in REMAINDERS for incomplete in REMAINDERS]
"""In the order of KnowLM's drop_mode: 0, 1, 2, 3."""
sizes_of_sources = st.lists(st.integers(1, 60), min_size=1, max_size=4)


def same(count: int, tokens: int = 10) -> np.ndarray:
    return np.full(count, tokens)


def quota_mixture(
    sizes: Sequence[int], quota: Sequence[int], mode: tuple[Remainder, Remainder], seed: int = 0
) -> Mixture:
    sources, tokens = by_quota([same(size) for size in sizes], quota, mode[0])
    return Mixture(sources, tokens, mode[1], seed)


def of_source(items: np.ndarray, sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """The items of each source, counted from its own first."""
    firsts = np.cumsum([0, *sizes])
    for first, after in pairwise(firsts):
        yield items[(items >= first) & (items < after)] - first


@pytest.mark.parametrize(("mode", "steps"), [*zip(MODES, (10, 10, 25, 25), strict=True)], ids=str)
def test_the_example_of_knowlm(mode: tuple[Remainder, Remainder], steps: int) -> None:
    sources, _ = by_quota([same(100), same(50), same(10)], [5, 2, 1], mode[0])
    assert [source.steps for source in sources] == [20, 25, 10]
    assert Mixture(sources, 80, mode[1], 0).steps_per_epoch == steps


@pytest.mark.parametrize(("mode", "steps"), [*zip(MODES, (3, 4, 30, 30), strict=True)], ids=str)
def test_the_example_in_the_code_of_knowlm(mode: tuple[Remainder, Remainder], steps: int) -> None:
    assert quota_mixture([10, 20, 30], [3, 2, 1], mode).steps_per_epoch == steps


@given(sizes=sizes_of_sources, data=st.data(), mode=st.sampled_from(MODES), seed=st.integers(0, 9))
def test_every_step_has_its_quota(
    sizes: list[int], data: st.DataObject, mode: tuple[Remainder, Remainder], seed: int
) -> None:
    most = 9 if mode[0] == "fill" else min(sizes)
    quota = data.draw(
        st.lists(st.integers(1, min(most, 9)), min_size=len(sizes), max_size=len(sizes))
    )
    mixture = quota_mixture(sizes, quota, mode, seed)
    for epoch in (0, 3):
        seen: list[list[int]] = [[] for _ in sizes]
        for place in range(mixture.steps_per_epoch):
            items = mixture.step(epoch, place)
            for number, taken in enumerate(of_source(items, sizes)):
                assert len(taken) == quota[number]
                seen[number] += taken.tolist()
        for size, asked, drawn in zip(sizes, quota, seen, strict=True):
            one_pass = size if mode[0] == "fill" else size // asked * asked
            passes = [drawn[i : i + one_pass] for i in range(0, len(drawn), one_pass)]
            assert all(len(set(one)) == len(one) for one in passes), "no repetition"
            if mode == ("fill", "fill"):
                assert set(drawn) == set(range(size)), "nothing is left out"


@given(
    tokens=st.lists(
        st.lists(st.integers(1, 300), min_size=1, max_size=40).map(np.array),
        min_size=1,
        max_size=4,
    ),
    data=st.data(),
    batch=st.integers(1, 5000),
)
def test_every_step_has_its_shares(
    tokens: list[np.ndarray], data: st.DataObject, batch: int
) -> None:
    weights = data.draw(st.lists(st.floats(0.1, 10), min_size=len(tokens), max_size=len(tokens)))
    sources, step_tokens = by_weight(tokens, weights, batch, "fill")
    mixture = Mixture(sources, step_tokens, "fill", 0)
    lengths = np.concatenate(tokens)
    sizes = [len(one) for one in tokens]
    assert step_tokens >= batch
    drawn = np.zeros(len(tokens))
    for place in range(min(mixture.steps_per_epoch, 20)):
        items = mixture.step(1, place)
        assert len(items), "no step is empty"
        firsts = np.cumsum([0, *sizes])
        for number, (first, after) in enumerate(pairwise(firsts)):
            drawn[number] += lengths[items[(items >= first) & (items < after)]].sum()
        # What was drawn differs from what is due by less than an item, at every step.
        due = (place + 1) * step_tokens * np.array(weights) / sum(weights)
        assert np.all(np.abs(drawn - due) <= [one.max() for one in tokens])


def test_a_weight_is_a_share_of_the_tokens() -> None:
    draw = np.random.default_rng(0)
    tokens = [draw.integers(20, 200, 9000), draw.integers(200, 400, 300)]
    sources, step_tokens = by_weight(tokens, [0.7, 0.3], 8192, "fill")
    mixture = Mixture(sources, step_tokens, "fill", 0)
    lengths = np.concatenate(tokens)
    items = np.concatenate([mixture.step(0, place) for place in range(mixture.steps_per_epoch)])
    zh = lengths[items[items < 9000]].sum() / lengths[items].sum()
    assert zh == pytest.approx(0.7, abs=0.002)
    assert mixture.steps_per_epoch == math.ceil(tokens[0].sum() / 0.7 / 8192)
    assert set(items) == set(range(9300))
    # The small source comes round about 8 times, and no item of it once more than another.
    counts = Counter(items[items >= 9000].tolist())
    assert max(counts.values()) - min(counts.values()) <= 1


@given(
    sizes=sizes_of_sources, seed=st.integers(0, 9), step=st.integers(0, 10**9), weigh=st.booleans()
)
def test_seeking_is_replaying(sizes: list[int], seed: int, step: int, weigh: bool) -> None:
    def plan() -> Plan:
        lengths = [np.arange(size) % 7 + 3 for size in sizes]
        numbers = [number + 1 for number in range(len(sizes))]
        sources, tokens = (
            by_weight(lengths, numbers, 50, "fill") if weigh else by_quota(lengths, numbers, "fill")
        )
        return Plan(np.concatenate(lengths), 50, 20, seed, Mixture(sources, tokens, "fill", seed))

    walked, sought = plan(), plan()
    for before in range(max(0, step - 3), step):
        walked.step(before)
    for left, right in zip(walked.step(step), sought.step(step), strict=True):
        assert np.array_equal(left, right)


@pytest.mark.parametrize("step", [0, 1, 10**3, 10**6, 10**9, 10**12])
def test_the_work_of_finding_a_step_does_not_grow_with_it(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    generator = np.random.default_rng

    def counted(key: object) -> np.random.Generator:
        made.append(key)
        return generator(key)  # type: ignore[arg-type]

    monkeypatch.setattr(np.random, "default_rng", counted)
    sizes = [same(100), same(50), same(10)]
    sources, tokens = by_quota(sizes, [5, 2, 1], "fill")
    lengths = np.concatenate(sizes)
    Plan(lengths, 80, 80, 7, Mixture(sources, tokens, "fill", 7)).step(step)
    assert len(made) == 3, "one order for each source"
    made.clear()
    Plan(lengths, 80, 80, 7).step(step)
    assert len(made) == 1


@given(micro=st.integers(1, 4000))
def test_micro_batches_only_cut_a_step(micro: int) -> None:
    lengths = [np.arange(1, 60), np.arange(30, 50)]
    sources, tokens = by_weight(lengths, [1, 2], 700, "fill")
    mixture = Mixture(sources, tokens, "fill", 0)
    whole = Plan(np.concatenate(lengths), 700, 700, 0, mixture)
    cut = Plan(np.concatenate(lengths), 700, micro, 0, mixture)
    assert whole.steps_per_epoch == cut.steps_per_epoch
    for step in range(whole.steps_per_epoch):
        assert np.array_equal(np.concatenate(whole.step(step)), np.concatenate(cut.step(step)))


def test_orders_differ_between_epochs_seeds_and_passes() -> None:
    mixture, other = (quota_mixture([40, 40], [40, 20], MODES[3], seed) for seed in (0, 1))
    first = mixture.step(0, 0)
    assert not np.array_equal(first, mixture.step(0, 1))
    assert not np.array_equal(first, mixture.step(1, 0))
    assert not np.array_equal(first, other.step(0, 0))
    assert not np.array_equal(first[:40] % 40, first[40:] % 40)


def test_a_source_with_less_than_a_step_has_no_steps() -> None:
    assert [source.steps for source in by_quota([same(3), same(9)], [5, 3], "drop")[0]] == [0, 3]
    assert [source.steps for source in by_quota([same(3), same(9)], [5, 3], "fill")[0]] == [1, 3]
    with pytest.raises(AssertionError):
        quota_mixture([3, 9], [5, 3], ("drop", "fill"))
