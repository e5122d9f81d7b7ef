"""Texts and sorted records on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.cleaning.scratch import Sorted, Texts, codes_of


@given(st.lists(st.text("a\x00é天\U0001f600\ud800", max_size=20), max_size=10))
def test_texts_come_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    store = Texts(tmp_path_factory.mktemp("texts") / "texts")
    for number, text in enumerate(texts):
        store.add(7 * number, text)
    assert len(store) == len(texts)
    for place, text in reversed(list(enumerate(texts))):
        assert (store.number(place), store.length(place)) == (7 * place, len(text))
        assert np.array_equal(store.codes(place), codes_of(text))
        assert "".join(map(chr, store.codes(place))) == text
    store.close()


@given(
    st.lists(st.sampled_from([0, 1, 2, 5, 2**63, 2**64 - 1]) | st.integers(0, 99), max_size=200),
    st.integers(1, 40),
    st.integers(1, 50),
    st.integers(1, 3),
)
def test_records_come_back_sorted(
    tmp_path_factory: pytest.TempPathFactory, keys: list[int], chunk: int, step: int, head: int
) -> None:
    records = Sorted(tmp_path_factory.mktemp("sorted") / "records", chunk)
    for start in range(0, len(keys), step):
        part = np.array(keys[start : start + step], dtype=np.uint64)
        records.add(part, np.arange(start, start + len(part), dtype=np.uint64))
    seen: dict[int, list[int]] = {}
    for part, values in records.chunks(head):
        assert 0 < len(part) <= chunk + head
        for key in np.unique(part).tolist():
            own = values[part == key].tolist()
            if key in seen:
                again = min(head, len(seen[key]))
                assert own[:again] == seen[key][:again]
                own = own[again:]
                assert set(part.tolist()) == {key}
            assert not seen or key >= max(seen)
            seen.setdefault(key, []).extend(own)
    expected: dict[int, list[int]] = {}
    for value, key in enumerate(keys):
        expected.setdefault(key, []).append(value)
    assert seen == expected
    assert list(seen) == sorted(seen)


def test_nothing_comes_back_from_nothing(tmp_path: Path) -> None:
    assert list(Sorted(tmp_path / "records").chunks()) == []
