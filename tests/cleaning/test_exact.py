"""Exact duplicates: what counts as the same, and the memory that finding them takes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.cleaning.exact import FEWEST_SLOTS, KEY_BYTES, Seen, item_key
from tongwen.messages import Conversation, Document, Message
from tongwen.messages.conversation import Item, Judged, Preference, ToolCall


def talk(question: str, answer: str, **more: object) -> Conversation:
    """One question and its answer."""
    return Conversation(
        (Message("user", question), Message("assistant", answer, **more))  # type: ignore[arg-type]
    )


def duplicates(items: Iterable[Item]) -> int:
    """How many items an earlier one equals."""
    seen = Seen()
    return sum(seen.add(item_key(item), n) is not None for n, item in enumerate(items))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Document("天 地"), Document("\n天 地 \r\n")),
        (Document("a\r\nb\rc"), Document("a\nb\nc")),
        (talk("问", "答"), talk(" 问\n", "答 ")),
    ],
)
def test_line_ends_and_outer_blanks_do_not_count(one: Item, other: Item) -> None:
    assert item_key(one) == item_key(other)


DIFFERENT: list[Item] = [
    Document("问答"),
    Document("问 答"),
    Document(""),
    talk("问", "答"),
    talk("问答", ""),
    talk("", "问答"),
    talk("问", "答", thinking="想"),
    talk("问", "答", trained=False),
    talk("问", "答", calls=(ToolCall("f", "{}"),)),
    Conversation(talk("问", "答").messages, tools=("{}",)),
    Conversation((Message("system", "问"), Message("assistant", "答"))),
    Judged(talk("问", "答"), good=True),
    Judged(talk("问", "答"), good=False),
    Preference((Message("user", "问"),), (Message("assistant", "答"),), ()),
    Preference((Message("user", "问"),), (), (Message("assistant", "答"),)),
]


def test_whatever_a_model_could_learn_from_counts() -> None:
    assert len({item_key(item) for item in DIFFERENT}) == len(DIFFERENT)


def test_a_key_is_blake2b_over_texts_and_their_lengths() -> None:
    # printf '\\x08\\0\\0\\0\\0\\0\\0\\0\\x02\\0\\0\\0\\0\\0\\0\\0Document同文' | b2sum -l 128
    assert item_key(Document("同文")).hex() == "d907d1659f84ac605dd5bd66e3221cac"


@given(st.lists(st.integers(0, 300), max_size=400))
def test_seen_is_a_dictionary(numbers: list[int]) -> None:
    seen, expected = Seen(), dict[bytes, int]()
    for row, number in enumerate(numbers):
        # Keys that share their first eight bytes fall on one slot.
        key = (number % 3).to_bytes(8, "little") + number.to_bytes(8, "little")
        assert seen.add(key, row) == expected.get(key)
        expected.setdefault(key, row)
    assert len(seen) == len(expected)


def test_seen_grows_and_stays_small() -> None:
    seen, rows = Seen(), 20 * FEWEST_SLOTS
    keys = [item_key(Document(str(n))) for n in range(rows)]
    assert [seen.add(key, n + 2**40) for n, key in enumerate(keys)] == [None] * rows
    assert [seen.add(key, 0) for key in keys] == [n + 2**40 for n in range(rows)]
    held = sum(map(sys.getsizeof, vars(seen).values()))
    assert KEY_BYTES * rows < held <= 42 * rows


@pytest.mark.parametrize(
    ("name", "field", "rows", "expected"),
    [
        ("pretrain/zh/fewclue_eprstmt_unlabeled.jsonl", "sentence", 19565, 821),
        ("pretrain/zh/fewclue_tnews_unlabeled.jsonl", "sentence", 20000, 0),
    ],
)
def test_real_lines(shared_data: Path, name: str, field: str, rows: int, expected: int) -> None:
    text = (shared_data / name).read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.split("\n") if line]
    assert len(records) == rows
    assert duplicates(Document(record[field]) for record in records) == expected


def test_real_instructions(shared_data: Path) -> None:
    """Rows with another answer to the same question are no duplicates."""
    text = (shared_data / "instruct" / "alpaca_zh_carbonz0.json").read_text(encoding="utf-8")
    records = json.loads(text)
    questions = [record["instruction"] + "\n" + record["input"] for record in records]
    answers = [record["output"] for record in records]
    assert duplicates(map(Document, questions)) == 30
    assert duplicates(map(talk, questions, answers)) == 28
