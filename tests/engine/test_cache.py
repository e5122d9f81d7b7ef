"""The cache holds what transformers' own holds."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from tongwen.engine.cache import new_cache
from tongwen.engine.local import LocalEngine


@settings(max_examples=30)
@given(
    pieces=st.lists(st.integers(1, 90), min_size=1, max_size=8),
    kept=st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), max_size=8),
)
def test_the_same_keys_and_values(
    engine: LocalEngine, pieces: list[int], kept: list[list[int]]
) -> None:
    ours, theirs = new_cache(engine._model), DynamicCache(config=engine._model.config)
    source = torch.Generator().manual_seed(len(pieces))
    for step, length in enumerate(pieces):
        key = torch.rand(3, 2, length, 4, generator=source)
        value = torch.rand(3, 2, length, 4, generator=source)
        pairs = [cache.update(key, value, 1) for cache in (ours, theirs)]
        assert all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))
        if step < len(kept):
            for cache in (ours, theirs):
                cache.batch_select_indices(torch.tensor(kept[step]))
        assert ours.get_seq_length(1) == theirs.get_seq_length(1) == sum(pieces[: step + 1])
