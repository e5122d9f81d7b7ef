"""Every row in `layouts/*.jsonl` is read as it says there, or refused in those very words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongwen.errors import DataError
from tongwen.messages import (
    Conversation,
    Document,
    Item,
    Judged,
    Layout,
    Message,
    Parsed,
    Preference,
    Role,
    ToolCall,
    check,
    layout_of,
    parse,
    parse_noted,
)
from tongwen.messages.chat_layouts import thoughtful

TABLES = Path(__file__).parent / "layouts"


def cases() -> list[object]:
    """All lines of all tables: a row, and what it gives or the error and hint it meets."""
    return [
        pytest.param(
            path.stem.replace("seed-", "seed "), json.loads(line), id=f"{path.stem}-{number}"
        )
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
    parsed = parse_noted(case["row"])
    assert parsed.layout == layout_of(case["row"]) == case.get("layout", layout)
    assert list(parsed.notes) == case.get("notes", [])
    if "record" in case:
        assert parsed.item.to_record() == case["record"]
    elif isinstance(parsed.item, Document):
        assert parsed.item.text == case["gives"]
    else:
        assert isinstance(parsed.item, Conversation)
        assert [[m.role, m.content] for m in parsed.item.messages] == case["gives"]


def test_every_layout_has_a_table() -> None:
    assert {path.stem.replace("seed-", "seed ") for path in TABLES.iterdir()} == set(
        get_args(Layout)
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
ROW_KEYS = """instruction input output history system text messages conversations conversation
    chosen rejected rejected_response label kto_tag question answer answers prompt completion
    instances human assistant en zh title paragraphs content context turns tools reasoning"""
MESSAGE_KEYS = """from value role content weight loss tool_calls function name arguments type
    thinking images"""
known_keys = st.sampled_from(f"{ROW_KEYS} {MESSAGE_KEYS}".split())
names = st.sampled_from(["user", "gpt", "tool", "system", "function_call", "text", "{}", "true"])
rows = st.recursive(
    json_values,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(known_keys, names | inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=400)
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
        assert isinstance(item, Item)


contents = st.text(alphabet='ab 中文。\n\t🙂<|>"\\', min_size=1).filter(
    lambda text: bool(text.strip())
)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    roles: list[Role] = ["system"] * draw(st.integers(0, 1))
    roles += ["user", "assistant"] * draw(st.integers(1, 3))
    return Conversation(tuple(Message(role, draw(contents)) for role in roles))


thoughts = st.text(alphabet="ab想。\n<>/", max_size=5)
arguments = st.dictionaries(contents, contents | st.integers(), max_size=2)
calls = st.builds(
    lambda name, values: ToolCall(name, json.dumps(values, ensure_ascii=False)), contents, arguments
)
tools = st.builds(
    lambda name: json.dumps({"type": "function", "function": {"name": name}}, ensure_ascii=False),
    contents,
)
marked = st.sampled_from(["", "<think>x</think>", "\n<think>", "<think>\n\n</think>"])


@st.composite
def answers(draw: st.DrawFn) -> list[Message]:
    """An assistant's words, now and then after calls of tools and their results."""
    result = []
    for _ in range(draw(st.sampled_from((0, 0, 1, 2)))):
        called = tuple(draw(st.lists(calls, min_size=1, max_size=2)))
        words = draw(contents | st.just(""))
        result += [Message("assistant", words, draw(thoughts), called, draw(st.booleans()))]
        result += [Message("tool", draw(contents | st.just(""))) for _ in called]
    return [*result, Message("assistant", draw(marked) + draw(contents), draw(thoughts))]


@st.composite
def rich_conversations(draw: st.DrawFn) -> Conversation:
    said = [Message("system", draw(contents))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        said += [Message("user", draw(marked) + draw(contents)), *draw(answers())]
    return Conversation(tuple(said), tuple(draw(st.lists(tools, max_size=2))))


@st.composite
def preferences(draw: st.DrawFn) -> Preference:
    before = draw(rich_conversations() | st.none())
    prompt = (*(before.messages if before else ()), Message("user", draw(contents)))
    chosen = tuple(draw(answers()))
    rejected = tuple(draw(answers().filter(lambda answer: tuple(answer) != chosen)))
    return Preference(prompt, chosen, rejected, before.tools if before else ())


items = (
    rich_conversations()
    | preferences()
    | st.builds(Document, contents)
    | st.builds(Judged, rich_conversations(), st.booleans())
)


@given(items)
def test_every_item_reads_back_from_its_record(item: Item) -> None:
    check(item)
    record = json.loads(json.dumps(item.to_record(), ensure_ascii=False))
    assert parse_noted(record) == Parsed(item, layout_of(record), ())


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


pieces = st.sampled_from(["\n", " ", "<think>", "</think>", "a", "\u3000"])


@given(st.lists(pieces, max_size=12).map("".join))
def test_a_thought_at_the_start_is_taken_apart(content: str) -> None:
    """As the regular expression of it says, which takes the cube of the number of newlines."""
    thought = re.fullmatch(r"\s*<think>\n*(.*?)\n*</think>\n*(.*)", content, re.DOTALL)
    expected = (thought[1].strip("\n"), thought[2]) if thought else ("", content)
    answer = thoughtful(Message("assistant", content), [])
    assert (answer.thinking, answer.content) == expected


def test_an_endless_row_of_newlines_is_read_at_once() -> None:
    answer = "<think>" + "\n" * 100_000 + "x"
    item = parse({"question": "q", "answer": answer})
    assert isinstance(item, Conversation)
    assert item.messages[-1] == Message("assistant", answer)


def test_a_row_nested_too_deeply_is_refused() -> None:
    lines: object = "line"
    for _ in range(5_000):
        lines = [lines]
    with pytest.raises(DataError, match="nested too deeply"):
        parse({"title": "t", "paragraphs": lines})
