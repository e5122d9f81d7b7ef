"""Repeated passages: exactly those of the definition, and memory that is bounded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.cleaning import repeats
from tongwen.cleaning.repeats import LEAST, Repeats, cut, find_repeats
from tongwen.cleaning.scratch import Sorted, Texts


def found(folder: Path, texts: list[str], shortest: int) -> list[Repeats]:
    """The repeats in texts, numbered from 0."""
    store = Texts(folder / "texts")
    for number, text in enumerate(texts):
        store.add(number, text)
    result = list(find_repeats(store, folder, shortest))
    store.close()
    return result


def covered(texts: list[str], shortest: int) -> list[set[int]]:
    """By brute force: the characters of passages that stand earlier, and end before they begin."""
    first: dict[str, tuple[int, int]] = {}
    result = []
    for number, text in enumerate(texts):
        inside: set[int] = set()
        for begin in range(len(text) - shortest + 1):
            of, at = first.setdefault(text[begin : begin + shortest], (number, begin))
            if of < number or at + shortest <= begin:
                inside.update(range(begin, begin + shortest))
        result.append(inside)
    return result


@given(
    st.lists(st.text("ab", max_size=80) | st.text("天地\U0001f600", max_size=80), max_size=6),
    st.sampled_from([LEAST, LEAST + 1, 13, 32]),
    st.sampled_from([4, 30, 1 << 20]),
)
def test_as_by_brute_force(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], shortest: int, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "Sorted", lambda stem: Sorted(stem, chunk))
        result = found(tmp_path_factory.mktemp("repeats"), texts, shortest)
    spans: list[set[int]] = [set() for _ in texts]
    for one in result:
        ends = [-1, *(end for _, end in one.spans)]
        assert all(end < begin < stop for end, (begin, stop) in zip(ends, one.spans, strict=False))
        spans[one.number].update(*(range(*span) for span in one.spans))
    assert spans == covered(texts, shortest)
    assert [one.number for one in result] == [n for n, inside in enumerate(spans) if inside]


@given(st.data())
def test_a_planted_passage_is_cut_where_it_stands_again(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    passage = "".join(map(chr, range(0x4E00, 0x4E00 + data.draw(st.integers(20, 200)))))
    around = [
        "".join(map(chr, range(0x6000 + 500 * n, 0x6000 + 500 * n + data.draw(st.integers(0, 99)))))
        for n in range(4)
    ]
    texts = [around[0] + passage + around[1], around[2] + passage + around[3]]
    (one,) = found(tmp_path_factory.mktemp("repeats"), texts, 20)
    assert one.number == 1
    assert one.spans == ((len(around[2]), len(around[2]) + len(passage)),)
    assert cut(texts[1], one.spans) == around[2] + around[3]


def test_of_one_letter_again_and_again_the_first_passage_stays(tmp_path: Path) -> None:
    assert found(tmp_path, ["a" * 100], 10) == [Repeats(0, ((10, 100),))]


def test_a_text_that_does_not_count_is_no_first_place(tmp_path: Path) -> None:
    store = Texts(tmp_path / "texts")
    for number, text in enumerate(("abcdefghijkl", "xx-abcdefghijkl", "yyy+abcdefghijkl")):
        store.add(number, text)
    assert list(find_repeats(store, tmp_path, 12, among=[1, 2])) == [Repeats(2, ((4, 16),))]
    store.close()


def test_passages_of_one_hash_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        repeats, "passages", lambda codes, length: codes[: len(codes) - length + 1] * 0
    )
    assert found(tmp_path, ["abcdefghijkl", "mnopqrstuvwx"], 12) == []


@pytest.mark.parametrize(
    ("name", "shortest", "texts", "characters"),
    [("howtocook", 50, 374, 25569), ("laws", 100, 121, 178831)],
)
def test_boilerplate_of_real_documents(
    shared_data: Path, tmp_path: Path, name: str, shortest: int, texts: int, characters: int
) -> None:
    lines = (shared_data / "pretrain" / "zh" / f"{name}.jsonl").read_text(encoding="utf-8")
    documents = [
        max((value for value in json.loads(line).values() if isinstance(value, str)), key=len)
        for line in lines.split("\n")
        if line
    ]
    result = found(tmp_path, documents, shortest)
    assert len(result) == texts
    assert sum(end - begin for one in result for begin, end in one.spans) == characters
    kept = documents[:]
    for one in result:
        kept[one.number] = cut(documents[one.number], one.spans)
    if name == "howtocook":
        assert "请提出 Issue 或 Pull request" in kept[0]
        assert sum("请提出 Issue 或 Pull request" in document for document in kept) <= 10
