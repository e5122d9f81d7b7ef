"""Every row in `layouts/*.jsonl` is read as it says there, or refused in those very words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.errors import DataError
from tongwen.messages import Conversation, Document, Message, Role, layout_of, parse

TABLES = Path(__file__).parent / "layouts"


def cases() -> list[object]:
    """All lines of all tables: a row, and what it gives or the error and hint it meets."""
    return [
        pytest.param(path.stem, json.loads(line), id=f"{path.stem}-{number}")
        for path in sorted(TABLES.glob("*.jsonl"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    ]


@pytest.mark.parametrize(("layout", "case"), cases())
def test_row_is_read_or_refused(layout: str, case: dict[str, object]) -> None:
    if "error" in case:
        with pytest.raises(DataError) as caught:
            parse(case["row"])
        assert caught.value.message == case["error"]
        assert caught.value.hint == case["hint"]
        return
    assert layout_of(case["row"]) == layout
    item = parse(case["row"])
    if isinstance(item, Document):
        assert item.text == case["gives"]
    else:
        assert [[m.role, m.content] for m in item.messages] == case["gives"]


def test_every_layout_has_a_table_of_forty_rows() -> None:
    counts = {path.stem: len(path.read_text("utf-8").splitlines()) for path in TABLES.iterdir()}
    assert set(counts) == {"alpaca", "sharegpt", "messages", "turns", "text"}
    assert min(counts.values()) >= 40


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
ROW_KEYS = ("instruction", "input", "output", "history", "system", "text", "messages")
OTHER_KEYS = ("conversations", "from", "value", "role", "content", "tools", "weight", "chosen")
known_keys = st.sampled_from((*ROW_KEYS, *OTHER_KEYS))
rows = st.recursive(
    json_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known_keys, inner, max_size=4),
    max_leaves=12,
)


@given(rows)
def test_any_json_value_is_read_or_refused_with_a_hint(row: object) -> None:
    try:
        item: object = parse(row)
    except DataError as error:
        item = error
    if isinstance(item, DataError):
        assert "\n" not in item.message
        assert item.message.encode()
        assert item.hint
    else:
        assert isinstance(item, Conversation | Document)


contents = st.text(alphabet='ab 中文。\n\t🙂<|>"\\', min_size=1).filter(
    lambda text: bool(text.strip())
)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    roles: list[Role] = ["system"] * draw(st.integers(0, 1))
    roles += ["user", "assistant"] * draw(st.integers(1, 3))
    return Conversation(tuple(Message(role, draw(contents)) for role in roles))


@given(conversations())
def test_a_conversation_reads_back_from_its_record(conversation: Conversation) -> None:
    record = json.loads(json.dumps(conversation.to_record(), ensure_ascii=False))
    assert parse(record) == conversation


@given(contents)
def test_a_document_reads_back_from_its_record(text: str) -> None:
    assert parse(Document(text).to_record()) == Document(text)
    assert parse(text) == Document(text)


@given(conversations())
def test_one_conversation_reads_the_same_from_every_layout(conversation: Conversation) -> None:
    messages = conversation.messages
    system = messages[0].content if messages[0].role == "system" else ""
    turns = [message.content for message in messages if message.role != "system"]
    asked, answered = turns[::2], turns[1::2]
    history = [list(pair) for pair in zip(asked[:-1], answered[:-1], strict=True)]
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    for row in (
        {"input": asked, "output": answered, "instruction": system},
        {"instruction": asked[-1], "output": answered[-1], "history": history, "system": system},
        {"conversations": [{"from": names[m.role], "value": m.content} for m in messages]},
    ):
        assert parse(row) == conversation
