"""Preferences as items: two answers behind one prompt, both whole and both with an end."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
from transformers import PreTrainedTokenizerFast

from tongwen.data.encode import Encoder, Item
from tongwen.errors import DataError
from tongwen.messages import Item as Row
from tongwen.messages import Message, Preference, parse


def pairs(tokenizer: PreTrainedTokenizerFast, pair: Row) -> list[Item]:
    [result] = Encoder(tokenizer, 64).encode([pair])
    assert isinstance(result, list)
    return result


def learned(tokenizer: PreTrainedTokenizerFast, found: Sequence[Item]) -> list[tuple[str, str]]:
    return [(item.kind, str(tokenizer.decode(item.ids[item.mask]))) for item in found]


def test_of_a_preference_both_answers_are_kept(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = (Message("user", "hi"), Message("assistant", "yes?"), Message("user", "2 + 2?"))
    pair = Preference(prompt, (Message("assistant", "4"),), (Message("assistant", "55"),))
    assert learned(tokenizer, pairs(tokenizer, pair)) == [
        ("chosen", "4<|im_end|>"),
        ("rejected", "55<|im_end|>"),
    ]
    [error] = Encoder(tokenizer, 16).encode([pair])
    assert isinstance(error, DataError)
    assert error.message == (
        "the chosen answer has 2 tokens and stands behind 51; max_length is 16"
    )


@pytest.mark.parametrize(
    ("max_source", "max_target", "named"),
    [(20, 0, "max_source is 20"), (0, 2, "max_target is 2"), (20, 2, "max_source is 20")],
)
def test_a_preference_beyond_a_budget_is_refused(
    tokenizer: PreTrainedTokenizerFast, max_source: int, max_target: int, named: str
) -> None:
    pair = parse({"prompt": "Is this a long question?", "chosen": "4", "rejected": "55"})
    encoder = Encoder(tokenizer, 64, max_source=max_source, max_target=max_target)
    [error] = encoder.encode([pair])
    assert isinstance(error, DataError)
    assert error.message.endswith(named)


def test_both_answers_of_a_preference_are_seen_to_end(tokenizer: PreTrainedTokenizerFast) -> None:
    """As those of a conversation, where the template writes no end behind the last one."""
    endless = copy.copy(tokenizer)
    endless.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    pair = parse({"prompt": "2 + 2?", "chosen": "4", "rejected": "55"})
    found = pairs(endless, pair)
    end = endless.eos_token
    assert learned(endless, found) == [("chosen", f"4{end}"), ("rejected", f"55{end}")]
    note = "the template has no end behind the last answer, so one was added"
    assert [item.notes for item in found] == [(note,), (note,)]


def test_what_the_template_leaves_out_of_a_preference_is_noted(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    asked = [
        *({"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>x</think>b"}),
        {"role": "user", "content": "c"},
    ]
    found = pairs(tokenizer, parse({"prompt": asked, "chosen": "4", "rejected": "55"}))
    note = "the template leaves out the thought of message 2"
    assert [item.notes for item in found] == [(note,), (note,)]
