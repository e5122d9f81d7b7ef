"""Near duplicates: planted ones are found, nothing else is, and nothing depends on the way."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.cleaning import near
from tongwen.cleaning.minhash import END, shingles, similarity, sketches
from tongwen.cleaning.near import Near, NearDuplicates, band_rows
from tongwen.cleaning.scratch import Sorted, Texts, codes_of

THRESHOLD = 0.7
Edit = Callable[[str, random.Random], str]


def shingle_set(text: str) -> set[str]:
    """The shingles by their definition, in plain Python."""
    folded = "".join(char for char in text.lower() if char.isalnum())
    return {folded[i : i + (2 if char >= "\u3040" else 4)] for i, char in enumerate(folded)}


def jaccard(one: str, other: str) -> float:
    """Share of shingles in common, in plain Python."""
    a, b = shingle_set(one), shingle_set(other)
    return len(a & b) / len(a | b)


def found(folder: Path, texts: list[str], threshold: float = THRESHOLD) -> list[Near]:
    """The near duplicates among texts, numbered from 0."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Texts(folder / "texts")
    for number, text in enumerate(texts):
        store.add(number, text)
    duplicates = NearDuplicates(folder, threshold, store)
    duplicates.add_sketches(sketches(texts))
    result = list(duplicates.find())
    store.close()
    return result


def prose(rng: random.Random, length: int, letters: str) -> str:
    """Sentences of random words."""
    words = ["".join(rng.choices(letters, k=rng.randint(2, 7))) for _ in range(400)]
    gap, stop = ("", "。") if letters[0] >= "\u3040" else (" ", ". ")
    text = ""
    while len(text) < length:
        text += gap.join(rng.choices(words, k=9)) + stop
    return text


def characters(rate: float) -> Edit:
    """Replace, drop or double this share of the characters."""

    def edit(text: str, rng: random.Random) -> str:
        chars = list(text)
        for i in rng.sample(range(len(text)), max(1, round(rate * len(text)))):
            chars[i] = rng.choice(("", chars[i] * 2, rng.choice(text)))
        return "".join(chars)

    return edit


def inserted(text: str, rng: random.Random) -> str:
    """Put in a passage of one twentieth."""
    at, other = rng.randrange(len(text)), list(text[: len(text) // 20])
    rng.shuffle(other)
    return text[:at] + "".join(other) + text[at:]


def swapped(text: str, rng: random.Random) -> str:
    """Let the second part come first."""
    at = rng.randrange(len(text))
    return text[at:] + "\n" + text[:at]


def respaced(text: str, rng: random.Random) -> str:
    """Other blanks, line ends, case and width."""
    marks = {" ": "\n", "，": ",", "。": ".", ".": " !"}
    return "".join(marks.get(char, char) for char in text).upper() + rng.choice(" \n")


EDITS: list[Edit] = [characters(0.01), characters(0.03), inserted, swapped, respaced]


@pytest.mark.parametrize(
    "letters", ["abcdefghijklmnoprstuvwy", "".join(map(chr, range(20000, 21500)))]
)
def test_planted_duplicates_are_found_and_nothing_else(tmp_path: Path, letters: str) -> None:
    rng = random.Random(letters)
    texts = [prose(rng, rng.randint(200, 900), letters) for _ in range(250)]
    originals = len(texts)
    plan = [(i, edit) for edit in EDITS for i in rng.sample(range(originals), 60)]
    texts += [edit(texts[i], rng) for i, edit in plan]
    result = found(tmp_path, texts)
    assert len(result) >= 0.99 * len(plan)
    for one in result:
        assert one.number >= originals
        assert one.of == plan[one.number - originals][0]
        assert one.similarity == pytest.approx(jaccard(texts[one.number], texts[one.of]))
        assert one.similarity >= THRESHOLD


TAKEN = {
    "zh": ("instruct/alpaca_zh_demo.json", "output", (0.01, 0.03, 0.05)),
    "en": ("instruct/alpaca_en_demo.json", "output", (0.01, 0.02, 0.03)),
}


@pytest.mark.parametrize("language", TAKEN)
def test_planted_among_real_texts(shared_data: Path, tmp_path: Path, language: str) -> None:
    name, field, rates = TAKEN[language]
    rows = json.loads((shared_data / name).read_text(encoding="utf-8"))
    texts = [row[field] for row in rows if len(row[field]) >= 100]
    clean = {one.number for one in found(tmp_path / "clean", texts)}
    texts = [text for i, text in enumerate(texts) if i not in clean]
    originals, rng = len(texts), random.Random(0)
    plan = [
        (i, edit)
        for edit in (*map(characters, rates), inserted, swapped, respaced)
        for i in rng.sample(range(originals), 80)
    ]
    texts += [edit(texts[i], rng) for i, edit in plan]
    result = found(tmp_path / "planted", texts)
    assert len(result) >= 0.99 * len(plan)
    assert all(jaccard(texts[one.number], texts[one.of]) >= THRESHOLD - 0.01 for one in result)
    wrong = [one for one in result if one.of != plan[one.number - originals][0]]
    assert len(wrong) <= 0.01 * len(result)


def test_of_a_chain_of_versions_each_kept_one_is_new(tmp_path: Path) -> None:
    """Every version is like its neighbours, and the last is not like the first."""
    rng = random.Random(0)
    sentences = [prose(rng, 60, "abcdefghijkl") for _ in range(40)]
    versions = ["".join(sentences[i : i + 20]) for i in range(20)]
    result = found(tmp_path, versions)
    dropped = {one.number: one.of for one in result}
    kept = [i for i in range(len(versions)) if i not in dropped]
    assert kept[0] == 0
    assert 3 <= len(kept) < 10
    for i, version in enumerate(versions):
        like = [k for k in kept if k < i and jaccard(versions[k], version) >= THRESHOLD]
        assert dropped.get(i) == (like[0] if like else None)


@given(
    st.lists(st.text("天地玄黄宇宙 aB1。", max_size=40), max_size=12),
    st.sampled_from([0.5, 0.7, 1.0]),
)
def test_every_finding_is_true_by_the_definition(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], threshold: float
) -> None:
    result = found(tmp_path_factory.mktemp("near"), texts, threshold)
    numbers = [one.number for one in result]
    assert numbers == sorted(set(numbers))
    for one in result:
        assert one.of < one.number
        assert one.of not in numbers
        assert jaccard(texts[one.number], texts[one.of]) == pytest.approx(one.similarity)
        assert one.similarity >= threshold
    kept = [text for i, text in enumerate(texts) if i not in numbers and shingle_set(text)]
    sets = [frozenset(shingle_set(text)) for text in kept]
    assert len(set(sets)) == len(sets), "texts of equal shingles cannot both be kept"


def test_texts_without_letters_are_never_duplicates(tmp_path: Path) -> None:
    assert found(tmp_path, ["", "。。。", "…", "", "!?"]) == []


def test_numbers_may_have_gaps_and_sketches_may_come_in_parts(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = [prose(rng, 200, "abcdefgh") for _ in range(40)]
    texts += [inserted(text, rng) for text in texts]
    alone = found(tmp_path / "alone", texts)
    store = Texts(tmp_path / "texts")
    shared = NearDuplicates(tmp_path, THRESHOLD, store)
    for number, text in enumerate(texts):
        store.add(10 * number + 3, text)
        shared.add_sketches(sketches([text]))
    store_result = list(shared.find())
    store.close()
    assert alone
    assert [(one.number, one.of) for one in store_result] == [
        (10 * one.number + 3, 10 * one.of + 3) for one in alone
    ]


def test_a_family_larger_than_a_chunk_leaves_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "Sorted", lambda stem: Sorted(stem, chunk=50))
    rng = random.Random(0)
    page = prose(rng, 900, "abcdefgh")
    texts = [f"{page}{number:05d}" for number in range(120)]
    assert [(one.number, one.of) for one in found(tmp_path, texts)] == [
        (number, 0) for number in range(1, 120)
    ]


@given(st.lists(st.text("天地 ab，1\U0001f600\u3042\udc00", max_size=30), min_size=1, max_size=8))
def test_a_sketch_depends_on_its_text_alone(texts: list[str]) -> None:
    together = sketches(texts, 32)
    assert together.shape == (len(texts), 32)
    for text, row in zip(texts, together, strict=True):
        assert np.array_equal(sketches([text], 32)[0], row)
        assert row.any() == any(char.isalnum() for char in text)


@pytest.mark.parametrize("shared", [0.9, 0.75, 0.5])
@pytest.mark.parametrize("size", [30, 300, 5000])
def test_a_sketch_agrees_as_often_as_the_texts_do(size: int, shared: float) -> None:
    rng = random.Random(size)
    errors = []
    for _ in range(40):
        hanzi = rng.sample(range(0x4E00, 0x9F00), 2 * size)
        common = round(size * shared)
        # Each pair of Hanzi stands apart, so that the shingles of a text are known.
        one, other = hanzi[:size], hanzi[:common] + hanzi[size : 2 * size - common]
        texts = ["".join(map(chr, one)), "".join(map(chr, other))]
        a, b = sketches(texts)
        sets = [np.unique(shingles([codes_of(text)])[0]) for text in texts]
        errors.append(float((a == b).mean()) - similarity(*sets))
    spread = np.sqrt(shared * (1 - shared) / 256)
    assert abs(np.mean(errors)) < 4 * spread / np.sqrt(len(errors))
    assert np.std(errors) < 1.5 * spread


@given(st.text("天地 ab，1あ", max_size=60))
def test_shingles_are_those_of_the_definition(text: str) -> None:
    hashes, ends = shingles([codes_of(text)])
    folded = [char for char in text.lower() if char.isalnum()]
    assert len(hashes) == ends[0] == len(folded)
    assert len(set(hashes.tolist())) == len(shingle_set(text))


def test_a_text_that_holds_the_mark_of_ends_is_no_danger() -> None:
    marked, plain = shingles([codes_of("天地" + END + "人")])[0], shingles([codes_of("天地")])[0]
    assert len(marked) == 3
    assert set(plain.tolist()) <= set(marked.tolist())


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_are_as_wide_as_recall_allows(threshold: float) -> None:
    rows = band_rows(threshold, 256)
    assert 1 - (1 - threshold**rows) ** (256 // rows) >= 0.99
    wider = rows + 1
    assert threshold == 1 or 1 - (1 - threshold**wider) ** (256 // wider) < 0.99
