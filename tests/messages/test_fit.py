"""Budgets: questions, system and ends stay, middles give way, every answer is trained once."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tongwen.errors import DataError
from tongwen.messages import (
    Conversation,
    Fitted,
    Limits,
    Message,
    ToolCall,
    encode_text,
    fit,
    fit_many,
    render,
)
from tongwen.messages.fit import KEPT, MARK

LONG = "用户问助手，the assistant answers. " * 400


def talk(*texts: str, system: str | None = None) -> Conversation:
    roles: tuple[Any, Any] = ("user", "assistant")
    messages = [Message(roles[place % 2], text) for place, text in enumerate(texts)]
    return Conversation(tuple([Message("system", system), *messages] if system else messages))


def answers(items: list[Fitted], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The trained stretches of all items."""
    return [
        str(tokenizer.decode([number for number, _ in run]))
        for item in items
        for carries, run in groupby(
            zip(item.rendered.ids, item.rendered.mask, strict=True), lambda pair: pair[1]
        )
        if carries
    ]


def text(item: Fitted, tokenizer: PreTrainedTokenizerFast) -> str:
    return str(tokenizer.decode(item.rendered.ids))


def test_what_fits_is_left_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = talk("Hi", "Hello", system="Be brief.")
    assert fit(conversation, tokenizer, Limits(100)) == [Fitted(render(conversation, tokenizer))]


def test_the_middle_of_a_document_gives_way(tokenizer: PreTrainedTokenizerFast) -> None:
    question = "First words. " + LONG + "\n\nWhat does it say?"
    conversation = talk(question, "It says so.", system="Be brief.")
    [item] = fit(conversation, tokenizer, Limits(300))
    shown = text(item, tokenizer)
    assert 280 < len(item.rendered.ids) <= 300
    assert shown.startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nFirst words."
    )
    assert shown.endswith(
        "What does it say?<|im_end|>\n<|im_start|>assistant\nIt says so.<|im_end|>\n"
    )
    assert shown.count(MARK) == 1
    assert item.cut_tokens == len(render(conversation, tokenizer).ids) - len(item.rendered.ids)
    assert answers([item], tokenizer) == ["It says so.<|im_end|>"]


def test_a_source_of_10000_with_an_answer_of_200_in_2048(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """The case in which LLaMA-Factory loses the question."""
    source = "document " * 10_000
    question = "What is the name of the school?"
    answer = "x" * 200
    [item] = fit(talk(f"{source}\n{question}", answer), tokenizer, Limits(2048))
    assert 2000 < len(item.rendered.ids) <= 2048
    assert question + "<|im_end|>" in text(item, tokenizer)
    assert answers([item], tokenizer) == [answer + "<|im_end|>"]


def test_a_short_question_behind_a_long_document_stays(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = talk(LONG, "Read.", "So what is it about? Say it in one sentence.", "A school.")
    first, second = fit(conversation, tokenizer, Limits(200))
    assert (first.part, first.parts, second.part, second.parts) == (1, 2, 2, 2)
    assert MARK in text(first, tokenizer)
    assert "So what is it about? Say it in one sentence." in text(second, tokenizer)
    assert second.cut_tokens == 0


def test_long_dialogues_are_split_before_questions(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [f"{kind} number {n}" for n in range(30) for kind in ("question", "answer")]
    items = fit(talk(*turns, system="You count."), tokenizer, Limits(128))
    assert len(items) > 2
    for item in items:
        shown = text(item, tokenizer)
        assert shown.startswith(
            "<|im_start|>system\nYou count.<|im_end|>\n<|im_start|>user\nquestion"
        )
        assert len(item.rendered.ids) <= 128
        assert item.cut_tokens == 0
    assert answers(items, tokenizer) == [f"answer number {n}<|im_end|>" for n in range(30)]


def test_answers_that_are_not_trained_are_context(tokenizer: PreTrainedTokenizerFast) -> None:
    said = [
        Message("user", LONG),
        Message("assistant", "no", trained=False),
        Message("user", "and?"),
        Message("assistant", "yes"),
    ]
    [item] = fit(Conversation(tuple(said)), tokenizer, Limits(100))
    assert answers([item], tokenizer) == ["yes<|im_end|>"]
    assert item.cut_tokens > 1000


def test_results_of_tools_give_way(tokenizer: PreTrainedTokenizerFast) -> None:
    said = (
        Message("user", "What is in the file?"),
        Message("assistant", "", calls=(ToolCall("read", '{"path": "a.txt"}'),)),
        Message("tool", LONG),
        Message("assistant", "A text."),
    )
    [item] = fit(Conversation(said), tokenizer, Limits(250))
    assert "What is in the file?" in text(item, tokenizer)
    assert MARK in text(item, tokenizer)
    assert len(answers([item], tokenizer)) == 2


def test_a_long_answer_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match=r"need .* max_length is 300"):
        fit(talk("Tell me all.", LONG), tokenizer, Limits(300))
    with pytest.raises(DataError, match="max_source is 20"):
        fit(talk("q" * 500, "a", system="s" * 100), tokenizer, Limits(1000, max_source=20))


def test_a_long_answer_is_cut_where_that_is_allowed(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = talk("Tell me all.", LONG, "And more?", "No.")
    first, second = fit(conversation, tokenizer, Limits(300, max_target=50))
    [told] = answers([first], tokenizer)
    assert LONG.startswith(told)
    assert not first.rendered.closed
    assert 45 <= first.rendered.trained <= 50
    whole = len(encode_text(tokenizer, LONG)) + len(["<|im_end|>"])
    assert first.cut_answer == whole - first.rendered.trained
    assert answers([second], tokenizer) == ["No.<|im_end|>"]


def test_sources_have_a_budget_of_their_own(tokenizer: PreTrainedTokenizerFast) -> None:
    [item] = fit(talk(LONG, "Yes."), tokenizer, Limits(4000, max_source=100))
    assert len(item.rendered.ids) - item.rendered.trained <= 100
    assert item.cut_tokens > 1000


def test_bad_conversations_do_not_stop_the_others(tokenizer: PreTrainedTokenizerFast) -> None:
    good, bad, long = fit_many([talk("a", "b"), talk("a"), talk("a", LONG)], tokenizer, Limits(100))
    assert isinstance(good, list)
    assert isinstance(bad, DataError)
    assert isinstance(long, DataError)


def test_an_answer_ends_whatever_the_template(of_family: Any) -> None:
    for name, end in (("glm-4", "<|endoftext|>"), ("baichuan-2", "</s>"), ("chatglm-3", "</s>")):
        tokenizer = of_family(name)
        conversation = talk("Hi", "Hello")
        [item] = fit(conversation, tokenizer, Limits(100))
        rendered = render(conversation, tokenizer)
        assert item.added_end
        assert item.rendered.ids == [*rendered.ids, tokenizer.convert_tokens_to_ids(end)]
        assert item.rendered.mask[-1]
        assert not rendered.closed
    [item] = fit(talk("Hi", "Hello"), of_family("llama-3"), Limits(100))
    assert not item.added_end


lengths = st.integers(1, 400)


@settings(max_examples=60)
@given(
    words=st.lists(st.tuples(lengths, st.integers(1, 60)), min_size=1, max_size=5),
    system=st.integers(0, 20),
    limit=st.integers(60, 400),
    source=st.sampled_from([0, 0, 120]),
)
def test_budgets_hold_for_every_length(
    tokenizer: PreTrainedTokenizerFast,
    words: list[tuple[int, int]],
    system: int,
    limit: int,
    source: int,
) -> None:
    turns = []
    for n, (asked, answered) in enumerate(words):
        turns += [f"<{n} " + "中文 " * asked + f" {n}>", f"({n} " + "好 " * answered + f"{n})"]
    conversation = talk(*turns, system="s " * system if system else None)
    limits = Limits(limit, max_source=source)
    [items] = fit_many([conversation], tokenizer, limits)
    if isinstance(items, DataError):
        # What must stay, with the least of the question that does, has no room.
        least = [
            render(talk("x", answer, system="s " * system or None), tokenizer)
            for answer in turns[1::2]
        ]
        spare = KEPT + len(encode_text(tokenizer, MARK))
        assert "where nothing more can be cut" in items.message
        assert any(
            len(one.ids) + spare > limit or (source and len(one.ids) - one.trained + spare > source)
            for one in least
        )
        return
    assert answers(items, tokenizer) == [turn + "<|im_end|>" for turn in turns[1::2]]
    for item in items:
        shown = text(item, tokenizer)
        assert len(item.rendered.ids) <= limit
        assert not source or len(item.rendered.ids) - item.rendered.trained <= source
        assert not system or shown.startswith("<|im_start|>system\ns ")
        assert shown.endswith(")<|im_end|>\n")
    whole = "".join(text(item, tokenizer) for item in items)
    for n in range(len(words)):
        assert f"<{n} " in whole
        assert f" {n}><|im_end|>" in whole
