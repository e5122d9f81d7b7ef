"""The survey: verdicts for a second pass, whatever order or process the fingerprints came from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.cleaning.survey import Cut, Duplicate, Survey, fingerprints, two_passes
from tongwen.config.duplicates import DuplicatesConfig
from tongwen.errors import ConfigError
from tongwen.messages import Conversation, Document, Message
from tongwen.messages.conversation import Item

BOOK = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
BOILERPLATE = "".join(map(chr, range(0x7000, 0x7000 + 40)))
FIRST_NUMBER = 5


def talk(question: str, answer: str) -> Conversation:
    """One question and its answer."""
    return Conversation((Message("user", question), Message("assistant", answer)))


def verdicts(
    scratch: Path, config: DuplicatesConfig, items: list[Item], batch: int = 3
) -> dict[int, Duplicate | Cut | None]:
    """The verdict on every item; numbers rise by 2."""
    with Survey(config, scratch) as survey:
        number = FIRST_NUMBER
        at_once = {}
        for start in range(0, len(items), batch):
            for row in fingerprints(items[start : start + batch], config):
                at_once[number] = survey.add(number, row)
                number += 2
        known = survey.verdicts()
        among = known.among(FIRST_NUMBER, number)
        result = {n: known.among(n, n + 2).get(n) for n in range(FIRST_NUMBER, number, 2)}
        assert among == {n: verdict for n, verdict in result.items() if verdict is not None}
    exact = {n: v for n, v in at_once.items() if v is not None}
    assert exact == {n: v for n, v in result.items() if isinstance(v, Duplicate) and n in exact}
    assert not scratch.exists()
    return result


ITEMS: list[Item] = [
    Document(BOOK + BOILERPLATE),
    talk("问", BOOK[:150]),
    Document(" " + BOOK + BOILERPLATE + "\n"),
    Document(BOOK.replace(BOOK[7], "") + BOILERPLATE + "。"),
    Document("新" + BOILERPLATE + "文"),
    talk("问", BOOK[:150]),
    talk("问", BOOK[:150] + BOILERPLATE[:3]),
    Document("\n"),
]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"duplicates": "keep"}, "........"),
        ({}, "..E..E.."),
        ({"duplicates": "near"}, "..EN.EN."),
        ({"duplicates": "keep", "repeats": 30}, "..CCC..."),
        ({"duplicates": "near", "repeats": 30}, "..ENCEN."),
    ],
)
def test_verdicts(tmp_path: Path, settings: dict[str, object], expected: str) -> None:
    config = DuplicatesConfig.model_validate(settings)
    assert two_passes(config) is any(mark in expected for mark in "NC")

    def marks(verdict: Duplicate | Cut | None) -> str:
        match verdict:
            case None:
                return "."
            case Cut():
                return "C"
            case Duplicate(_, similarity):
                return "E" if similarity == 1 else "N"

    result = verdicts(tmp_path / "scratch", config, ITEMS)
    assert "".join(map(marks, result.values())) == expected
    if expected[2] == "E":
        assert result[FIRST_NUMBER + 4] == Duplicate(FIRST_NUMBER, 1.0)
    if expected[4] == "C":
        assert result[FIRST_NUMBER + 8] == Cut(((1, 1 + len(BOILERPLATE)),))


def test_a_dropped_row_is_no_first_place(tmp_path: Path) -> None:
    """What only a near duplicate says is cut nowhere, as it would be lost."""
    news = "".join(map(chr, range(0x8000, 0x8000 + 30)))
    rows: list[Item] = [Document(BOOK), Document(BOOK + news), Document(f"甲{news}乙")]
    config = DuplicatesConfig(duplicates="near", repeats=20)
    dropped, kept = list(verdicts(tmp_path / "scratch", config, rows).values())[1:]
    assert isinstance(dropped, Duplicate)
    assert kept is None


@given(st.lists(st.sampled_from(ITEMS), max_size=12), st.integers(1, 12))
def test_verdicts_do_not_depend_on_batches(
    tmp_path_factory: pytest.TempPathFactory, items: list[Item], batch: int
) -> None:
    config = DuplicatesConfig(duplicates="near", repeats=30)
    folder = tmp_path_factory.mktemp("survey")
    one = verdicts(folder / "one", config, items, batch=1)
    assert verdicts(folder / "many", config, items, batch) == one


def test_the_scratch_goes_when_a_run_is_stopped(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"

    def stopped() -> None:
        with Survey(DuplicatesConfig(duplicates="near"), scratch):
            assert scratch.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not scratch.exists()


def test_too_short_repeats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="repeats = 3"):
        Survey(DuplicatesConfig(repeats=3), tmp_path / "scratch")
