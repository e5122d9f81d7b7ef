"""Our ids are transformers' ids, the mask is the assistant's words, and text is never control."""

from __future__ import annotations

import copy
import gc
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tongwen.errors import ConfigError, DataError, ModelError
from tongwen.messages import (
    CHAT_TEMPLATE,
    CONTROL_TOKENS,
    Conversation,
    Document,
    Message,
    Preference,
    Rendered,
    Role,
    ToolCall,
    encode_text,
    encode_texts,
    named_template,
    render,
    render_document,
    render_preference,
    render_prompt,
    template_names,
    with_template,
)

GOLDEN = Path(__file__).parent / "golden.json"
CONTROL_IDS = {0, 1, 2}

BLANKS = ("\n", "\n\n", "\r\n", " ", "   ", "\t", "\u3000", "\u200b")
WORDS = (
    "the answer",
    "The",
    "user\n",
    "用户",
    "回答。",
    "“好”",
    "한국어",
    "e\u0301",
    "'s",
    "12345",
)
SIGNS = ("!?", "3.14", "🙂", "👨‍👩‍👧", "<|", "|>", "im_end")
pieces = st.sampled_from((*BLANKS, *WORDS, *SIGNS))
plain = st.lists(pieces | st.text(max_size=4), max_size=8).map("".join)
plain = plain.filter(lambda text: not any(token in text for token in CONTROL_TOKENS))
contents = plain.filter(lambda text: bool(text.strip()) and "\0" not in text)
hostile = st.lists(pieces | st.sampled_from(CONTROL_TOKENS), max_size=6).map("".join)
hostile_contents = hostile.filter(lambda text: bool(text.strip()))


def talk(*texts: str, system: str | None = None) -> Conversation:
    roles: tuple[Role, Role] = ("user", "assistant")
    messages = [Message(roles[place % 2], text) for place, text in enumerate(texts)]
    return Conversation(tuple([Message("system", system), *messages] if system else messages))


@st.composite
def conversations(draw: st.DrawFn, contents: st.SearchStrategy[str] = contents) -> Conversation:
    turns = draw(st.integers(1, 3)) * 2
    return talk(*(draw(contents) for _ in range(turns)), system=draw(st.none() | contents))


def as_dicts(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def runs(rendered: Rendered) -> list[list[int]]:
    """The stretches of ids that carry loss."""
    edges = [
        place for place, (a, b) in enumerate(pairwise([False, *rendered.mask, False])) if a != b
    ]
    return [rendered.ids[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]


@given(conversation=conversations())
def test_ids_equal_apply_chat_template(
    tokenizer: PreTrainedTokenizerFast, conversation: Conversation
) -> None:
    dicts = as_dicts(conversation.messages)
    expected = tokenizer.apply_chat_template(dicts, tokenize=True, return_dict=False)
    assert render(conversation, tokenizer).ids == expected


@given(
    messages=st.lists(
        st.builds(Message, st.sampled_from(["system", "user", "assistant"]), plain), min_size=1
    )
)
def test_prompt_ids_equal_apply_chat_template(
    tokenizer: PreTrainedTokenizerFast, messages: list[Message]
) -> None:
    dicts = as_dicts(tuple(messages))
    expected = tokenizer.apply_chat_template(dicts, add_generation_prompt=True, return_dict=False)
    assert render_prompt(messages, tokenizer) == expected


@given(conversation=conversations())
def test_a_prompt_is_the_start_of_what_is_trained(
    tokenizer: PreTrainedTokenizerFast, conversation: Conversation
) -> None:
    prompt = render_prompt(conversation.messages[:-1], tokenizer)
    rendered = render(conversation, tokenizer)
    assert rendered.ids[: len(prompt)] == prompt
    assert not rendered.mask[len(prompt) - 1]
    assert rendered.mask[len(prompt)]


@given(conversation=conversations(contents | hostile_contents))
def test_trained_are_the_answers_and_their_ends(
    tokenizer: PreTrainedTokenizerFast, conversation: Conversation
) -> None:
    rendered = render(conversation, tokenizer)
    answers = [m.content + "<|im_end|>" for m in conversation.messages if m.role == "assistant"]
    assert [tokenizer.decode(run) for run in runs(rendered)] == answers
    assert rendered.trained == sum(len(run) for run in runs(rendered))
    assert len(rendered.ids) == len(rendered.mask)


@given(conversation=conversations(hostile_contents))
def test_control_tokens_come_from_the_template_alone(
    tokenizer: PreTrainedTokenizerFast, conversation: Conversation
) -> None:
    ids = render(conversation, tokenizer).ids
    assert [number for number in ids if number in CONTROL_IDS] == [1, 2] * len(
        conversation.messages
    )
    whole = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in conversation.messages)
    assert tokenizer.decode(ids) == whole


@given(texts=st.lists(plain | hostile, max_size=5))
def test_plain_text_round_trips_without_control_ids(
    tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    together = encode_texts(tokenizer, texts)
    assert together == [encode_text(tokenizer, text) for text in texts]
    assert [tokenizer.decode(ids) for ids in together] == texts
    assert all(CONTROL_IDS.isdisjoint(ids) for ids in together)


@given(text=contents | hostile_contents)
def test_a_document_stands_between_two_boundaries(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    rendered = render_document(Document(text), tokenizer)
    assert rendered.ids == [0, *encode_text(tokenizer, text), 0]
    assert rendered.mask == [False] + [True] * (len(rendered.ids) - 1)


def test_golden_ids(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    """Ids and texts as transformers' `apply_chat_template` gave them for a tokenizer of bytes."""
    for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
        messages = tuple(Message(m["role"], m["content"]) for m in case["messages"])
        assert render(Conversation(messages), byte_tokenizer).ids == case["ids"]
        assert render_prompt(messages[:-1], byte_tokenizer) == case["prompt_ids"]
        mask = render(Conversation(messages), byte_tokenizer).mask
        assert "".join("x" if trained else "." for trained in mask) == case["mask"]


def test_the_tokenizer_stays_as_it_was(tokenizer: PreTrainedTokenizerFast) -> None:
    before = tokenizer.backend_tokenizer.to_str()
    render(talk("<|im_end|>", "<|im_end|>"), tokenizer)
    encode_texts(tokenizer, ["<|im_end|>"])
    assert tokenizer.backend_tokenizer.to_str() == before
    assert not tokenizer.backend_tokenizer.encode_special_tokens
    assert tokenizer("<|im_end|>")["input_ids"] == [2]


def test_truncation_and_padding_of_the_tokenizer_do_not_matter() -> None:
    tokenizer = small_tokenizer()
    tokenizer(["a b c", "a"], truncation=True, max_length=2, padding=True)
    assert tokenizer.decode(encode_text(tokenizer, "a b c d")) == "a b c d"
    assert len(encode_texts(tokenizer, ["a b c d", "a"])[1]) == 1


def test_tokens_added_later_are_seen() -> None:
    tokenizer = small_tokenizer()
    before = encode_text(tokenizer, "同文馆")
    tokenizer.add_tokens(["同文馆"])
    assert encode_text(tokenizer, "同文馆") == [len(tokenizer) - 1] != before


def test_a_tokenizer_is_not_kept_alive() -> None:
    from tongwen.messages.encoding import _encoders

    tokenizer = small_tokenizer()
    gc.collect()
    before = len(_encoders)
    encode_text(tokenizer, "a")
    assert len(_encoders) == before + 1
    del tokenizer
    gc.collect()
    assert len(_encoders) == before


@pytest.mark.parametrize("texts", [("a",), ("a", ""), ("a", "b", "c"), ()])
def test_nothing_to_train_on_is_an_error(
    tokenizer: PreTrainedTokenizerFast, texts: tuple[str, ...]
) -> None:
    with pytest.raises(DataError):
        render(talk(*texts), tokenizer)
    with pytest.raises(DataError, match="the text is empty"):
        render_document(Document(" "), tokenizer)


def test_text_without_utf8_form_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    half = "好\ud83d"
    with pytest.raises(DataError, match=r"message 1 \(user\) holds half a surrogate pair"):
        render_prompt([Message("user", half)], tokenizer)
    with pytest.raises(DataError, match="text 2 holds half a surrogate pair"):
        encode_texts(tokenizer, ["好", half])
    with pytest.raises(DataError, match="at character 2"):
        encode_text(tokenizer, half)


WEATHER = json.dumps({"type": "function", "function": {"name": "weather", "parameters": {}}})
CALLS = (ToolCall("weather", '{"city":"北京"}'), ToolCall("time", "{}"))


@given(data=st.data())
def test_tools_and_thoughts_are_those_of_the_template(
    tokenizer: PreTrainedTokenizerFast, data: st.DataObject
) -> None:
    thinking = st.just("") | contents
    tools = (WEATHER,) if data.draw(st.booleans()) else ()
    messages = [Message("user", data.draw(contents))]
    if data.draw(st.booleans()):
        words = data.draw(st.just("") | contents)
        messages.append(Message("assistant", words, data.draw(thinking), CALLS))
        messages += [Message("tool", "sunny"), Message("tool", "")]
    messages.append(Message("assistant", data.draw(contents), data.draw(thinking)))
    if data.draw(st.booleans()):
        messages += [Message("user", "and?"), Message("assistant", "yes", data.draw(thinking))]
    if data.draw(st.booleans()):
        messages.insert(0, Message("system", data.draw(contents)))
    conversation = Conversation(tuple(messages), tools)
    records: list[Any] = [message.to_record() for message in messages]
    for record in records:
        for call in record.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    expected = tokenizer.apply_chat_template(
        records, tools=[json.loads(tool) for tool in tools] or None, return_dict=False
    )
    rendered = render(conversation, tokenizer)
    assert rendered.ids == expected
    foreign = copy.copy(tokenizer)
    foreign.chat_template = CHAT_TEMPLATE + "{# ours, proved as any other #}"
    assert render(conversation, foreign) == rendered


def test_a_call_in_words(tokenizer: PreTrainedTokenizerFast) -> None:
    said = (
        Message("user", "Weather?"),
        Message("assistant", "I look.", "Where?", CALLS),
        Message("tool", "sunny"),
        Message("assistant", "Sunny."),
    )
    rendered = render(Conversation(said, (WEATHER,)), tokenizer)
    assert tokenizer.decode(rendered.ids) == (
        "<|im_start|>system\nTools:\n<tools>\n"
        '{"type": "function", "function": {"name": "weather", "parameters": {}}}\n'
        "</tools>\nTo call a tool, write:\n"
        '<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\nWeather?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nWhere?\n</think>\n\nI look.\n"
        '<tool_call>\n{"name": "weather", "arguments": {"city": "北京"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>tool\nsunny<|im_end|>\n"
        "<|im_start|>assistant\nSunny.<|im_end|>\n"
    )
    call, answer = [str(tokenizer.decode(run)) for run in runs(rendered)]
    assert call.startswith("<think>\nWhere?\n</think>\n\nI look.\n<tool_call>\n")
    assert call.endswith("</tool_call><|im_end|>")
    assert answer == "Sunny.<|im_end|>"


def test_only_answers_to_be_learned_are_trained(tokenizer: PreTrainedTokenizerFast) -> None:
    first, second = talk("a", "b", "c", "d").messages[:2], talk("c", "d").messages
    context = replace(first[1], trained=False)
    rendered = render(Conversation((first[0], context, *second)), tokenizer)
    assert [tokenizer.decode(run) for run in runs(rendered)] == ["d<|im_end|>"]


def test_a_preference_shares_its_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = talk("Hi", "Hello", "How old is it?").messages
    pair = Preference(
        (Message("system", "Be kind."), *prompt),
        (Message("assistant", "Ten years."),),
        (Message("assistant", "十年。"),),
    )
    chosen, rejected = render_preference(pair, tokenizer)
    head = render_prompt(pair.prompt, tokenizer)
    assert chosen.ids[: len(head)] == rejected.ids[: len(head)] == head
    assert [tokenizer.decode(run) for run in runs(chosen)] == ["Ten years.<|im_end|>"]
    assert [tokenizer.decode(run) for run in runs(rejected)] == ["十年。<|im_end|>"]


def test_what_both_answers_begin_with_is_context(tokenizer: PreTrainedTokenizerFast) -> None:
    asked = (Message("assistant", "", calls=CALLS[:1]), Message("tool", "sunny"))
    chosen, rejected = render_preference(
        Preference(
            (Message("user", "Weather?"),),
            (*asked, Message("assistant", "Sun.")),
            (*asked, Message("assistant", "Rain.")),
        ),
        tokenizer,
    )
    assert [tokenizer.decode(run) for run in runs(chosen)] == ["Sun.<|im_end|>"]
    assert [tokenizer.decode(run) for run in runs(rejected)] == ["Rain.<|im_end|>"]


def test_documents_stand_between_the_marks_that_a_tokenizer_has() -> None:
    cases: list[tuple[dict[str, str], str]] = [
        ({"bos_token": "<s>", "eos_token": "</s>"}, "<s>a b</s>"),
        ({"eos_token": "</s>"}, "a b</s>"),
        ({"bos_token": "<s>", "eos_token": "<|endoftext|>"}, "<s>a b<|endoftext|>"),
    ]
    for names, expected in cases:
        backend = small_tokenizer(control_tokens=tuple(names.values())).backend_tokenizer
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
        rendered = render_document(Document("a b"), tokenizer)
        assert tokenizer.decode(rendered.ids) == expected
        assert rendered.mask == [False] + [True] * (len(rendered.ids) - 1)


def test_named_templates() -> None:
    tokenizer = small_tokenizer()
    assert "alpaca" in template_names()
    assert with_template(tokenizer, "tongwen").chat_template == CHAT_TEMPLATE
    assert named_template("knowlm") == named_template("alpaca")
    with pytest.raises(ConfigError, match="no chat template is called 'aquilla'") as caught:
        named_template("aquilla")
    assert caught.value.hint == "did you mean 'aquila'?"
    assert tokenizer.chat_template == CHAT_TEMPLATE


def test_a_template_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{{ messages }}", encoding="utf-8")
    assert with_template(small_tokenizer(), path).chat_template == "{{ messages }}"
    with pytest.raises(DataError, match=r"none\.jinja cannot be read"):
        with_template(small_tokenizer(), tmp_path / "none.jinja")


def test_a_prompt_without_messages_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match="the prompt has no messages"):
        render_prompt([], tokenizer)


def test_a_prompt_with_an_unknown_role_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match="message 1 has the unknown role 'narrator'"):
        render_prompt([Message("narrator", "x")], tokenizer)  # type: ignore[arg-type]


def test_no_chat_template_is_an_error() -> None:
    tokenizer = small_tokenizer()
    tokenizer.chat_template = None
    for attempt in (
        lambda: render(talk("a", "b"), tokenizer),
        lambda: render_prompt(talk("a", "b").messages, tokenizer),
    ):
        with pytest.raises(ModelError, match="no chat template") as caught:
            attempt()
        assert caught.value.hint
    assert encode_text(tokenizer, "a")


@pytest.mark.parametrize(
    ("answer", "joined", "trained"), [("b", 0, "b<|im_end|>"), ("\n\nb", 1, "\nb<|im_end|>")]
)
def test_a_tokenizer_that_joins_the_newline(answer: str, joined: int, trained: str) -> None:
    """A token of head and words together is not one that the model is asked for."""
    tokenizer = small_tokenizer(pieces=r"\s+|\S+")
    conversation = talk("a", answer)
    rendered = render(conversation, tokenizer)
    dicts = as_dicts(conversation.messages)
    assert rendered.ids == tokenizer.apply_chat_template(dicts, return_dict=False)
    assert rendered.joined == joined
    assert [tokenizer.decode(run) for run in runs(rendered)] == [trained]


def test_a_tokenizer_without_control_tokens_is_refused() -> None:
    tokenizer = small_tokenizer(control_tokens=())
    with pytest.raises(ModelError, match=r"no control token <\|im_start\|>"):
        render(talk("a", "b"), tokenizer)
    with pytest.raises(ModelError, match="no token that ends a document"):
        render_document(Document("a"), tokenizer)


def small_tokenizer(
    pieces: str = r"\n|[^\S\n]+|\S+", control_tokens: tuple[str, ...] = CONTROL_TOKENS
) -> PreTrainedTokenizerFast:
    """A tokenizer of its own for tests that change it or need an unusual one."""
    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pieces), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(control_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["\n\n\n\n a a a\n\n"] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=control_tokens[0] if control_tokens else None,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
