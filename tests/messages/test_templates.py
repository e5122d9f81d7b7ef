"""Every family's template: the ids are transformers', the mask is what was published as the answer.

`templates/families.json` holds the format of each family, written by hand, with ⟦⟧ around what its
models have to write; blanks that stand between the generation prompt and the words belong to it.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tongwen.errors import DataError
from tongwen.messages import (
    Conversation,
    Message,
    Rendered,
    ToolCall,
    render,
    render_prompt,
)

USER, ASSISTANT = "user", "assistant"
WORDS = ("The answer", "你好！", "🙂", "def f(x):\n    return x", "𠀀 e\u0301", "3.14", "'s", "x")
BLANKS = ("", " ", "\n", "\n\n", "\t", "  \n ", "\u3000")

texts = st.builds(
    lambda before, words, behind: before + "".join(words) + behind,
    st.sampled_from(BLANKS),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
    st.sampled_from(BLANKS),
)


@st.composite
def talks(draw: st.DrawFn) -> Conversation:
    turns = draw(st.integers(1, 3))
    system = draw(st.none() | texts)
    messages = [Message("system", system)] if system else []
    for _ in range(turns):
        messages += [
            Message("user", draw(texts)),
            Message("assistant", draw(texts), trained=draw(st.booleans())),
        ]
    messages[-1] = Message("assistant", messages[-1].content)
    return Conversation(tuple(messages))


def written(of: dict[str, Any], conversation: Conversation) -> str:
    """What the family's models see, by its published format."""
    messages = list(conversation.messages)
    system = of.get("default system")
    strip = bool(of.get("strips"))
    parts = [of.get("start", "")]
    if messages[0].role == "system":
        system = messages.pop(0).content
        if of.get("system strips", strip) and "system in user" not in of:
            system = system.strip()
    if system is None:
        parts.append(of.get("no system", ""))
    elif "system in user" in of:
        before = of["system in user"].replace("{}", system)
        first = messages[0].content
        whole = before + (first.strip() if of.get("joined strips") else first)
        messages[0] = Message("user", whole)
    elif "system" in of:
        parts.append(of["system"].replace("{}", system))
    for place, message in enumerate(messages):
        text = message.content
        last = place == len(messages) - 1
        joined = place == 0 and system is not None and of.get("joined strips")
        if (strip and not joined) or (message.role == ASSISTANT and of.get("answer strips")):
            text = text.strip()
        if last and "last strips" in of:
            text = text.lstrip(of["last strips"])
        form = of["last"] if last and "last" in of else of[message.role]
        if message.role == ASSISTANT and not message.trained:
            form = form.replace("⟦", "").replace("⟧", "")
        parts.append(form.replace("{}", text))
    return "".join([*parts, of.get("finish", "")])


def marked(rendered: Rendered, tokenizer: PreTrainedTokenizerFast) -> str:
    """The text with ⟦⟧ around what is trained."""
    parts: list[str] = []
    for carries, run in groupby(zip(rendered.ids, rendered.mask, strict=True), lambda one: one[1]):
        text = str(tokenizer.decode([number for number, _ in run]))
        parts.append(f"⟦{text}⟧" if carries else text)
    return "".join(parts)


def as_dicts(conversation: Conversation) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in conversation.messages]


def knows_system(of: dict[str, Any]) -> bool:
    return "system" in of or "system in user" in of


def talk(*texts: str, system: str | None = None) -> Conversation:
    said = [Message((USER, ASSISTANT)[i % 2], text) for i, text in enumerate(texts)]  # type: ignore[arg-type]
    return Conversation(tuple([Message("system", system), *said] if system else said))


SHAPES = {
    "single": talk("Hi", "Hello"),
    "multi": talk("Hi", "Hello", "今天呢？", "很好！🙂"),
    "system": talk("Hi", "Hello", "and you?", "fine", system="Be brief. 简短。"),
    "blank edges": talk(" \nHi\n", "  Hello there \n", "q\t", "\n\n好"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_ids_and_mask_of_every_family(
    family: str, shape: str, of_family: Any, families: dict[str, dict[str, Any]]
) -> None:
    tokenizer, of, conversation = of_family(family), families[family], SHAPES[shape]
    if shape == "system" and not knows_system(of):
        with pytest.raises(DataError, match="the chat template refuses the conversation"):
            render(conversation, tokenizer)
        return
    rendered = render(conversation, tokenizer)
    dicts = as_dicts(conversation)
    assert rendered.ids == tokenizer.apply_chat_template(dicts, return_dict=False)
    if rendered.joined == 0:
        assert marked(rendered, tokenizer) == written(of, conversation)
    assert rendered.closed is not of.get("open", False)


@settings(max_examples=12)
@given(conversation=talks())
def test_random_dialogues(
    conversation: Conversation, family: str, of_family: Any, families: dict[str, dict[str, Any]]
) -> None:
    tokenizer, of = of_family(family), families[family]
    if conversation.messages[0].role == "system" and not knows_system(of):
        conversation = Conversation(conversation.messages[1:])
    rendered = render(conversation, tokenizer)
    dicts = as_dicts(conversation)
    assert rendered.ids == tokenizer.apply_chat_template(dicts, return_dict=False)
    expected = written(of, conversation)
    assert tokenizer.decode(rendered.ids) == expected.replace("⟦", "").replace("⟧", "")
    if rendered.joined == 0:
        assert marked(rendered, tokenizer) == expected


def test_prompts_are_those_of_transformers(family: str, of_family: Any) -> None:
    tokenizer = of_family(family)
    messages = SHAPES["multi"].messages[:3]
    dicts = as_dicts(Conversation(messages))
    expected = tokenizer.apply_chat_template(dicts, add_generation_prompt=True, return_dict=False)
    assert render_prompt(messages, tokenizer) == expected


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("aquila-chat", "{}###Human: Hello!###Assistant: Hi!###Human: You?###Assistant:"),
        ("aquila", "{}###Human: Hello!###Assistant: Hi!</s>Human: You?###Assistant:"),
        (
            "aquila-legacy",
            "{}\n\n### Human: Hello!\n### Assistant: Hi!</s>### Human: You?\n### Assistant: ",
        ),
        (
            "aquila-v1",
            "<|startofpiece|>Hello!<|endofpiece|>Hi!</s><|startofpiece|>You?<|endofpiece|>",
        ),
        (
            "aquila-v2",
            "{}\n\n<|startofpiece|>Hello!<|endofpiece|>Hi!</s><|startofpiece|>You?<|endofpiece|>",
        ),
        ("index", "reserved_0Hello!reserved_1Hi!reserved_0You?reserved_1"),
    ],
)
def test_prompts_of_the_models_before_ours(name: str, prompt: str, of_family: Any) -> None:
    system = (
        "A chat between a curious human and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the human's questions."
    )
    messages = talk("Hello!", "Hi!", "You?").messages
    tokenizer = of_family(name)
    assert tokenizer.decode(render_prompt(messages, tokenizer)) == prompt.replace("{}", system)


def test_alpaca_with_an_input(of_family: Any) -> None:
    tokenizer = of_family("alpaca")
    asked = talk("把下面的句子译成英文。\n\n### Input:\n你好", "Hello")
    assert marked(render(asked, tokenizer), tokenizer) == (
        "<s>Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n把下面的句子译成英文。\n\n### Input:\n你好\n\n### Response:\n⟦Hello</s>⟧"
    )


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
FUNCTION = json.dumps(WEATHER["function"])
CALL = ToolCall("weather", '{"city": "北京"}')


def asked_the_weather(*, words: str = "", thinking: str = "") -> Conversation:
    return Conversation(
        (
            Message("user", "How is it in 北京?"),
            Message("assistant", words, thinking=thinking, calls=(CALL,)),
            Message("tool", '{"sky": "clear"}'),
            Message("assistant", "It is clear."),
        ),
        (json.dumps(WEATHER),),
    )


def weather_dicts(conversation: Conversation, *, text: bool = False) -> list[dict[str, Any]]:
    """The same as OpenAI's messages; call ids are nine digits."""
    question, call, result, answer = as_dicts(conversation)
    arguments = CALL.arguments if text else json.loads(CALL.arguments)
    function = {"name": "weather", "arguments": arguments}
    calls = [{"type": "function", "id": "000000000", "function": function}]
    thought = conversation.messages[1].thinking
    return [
        question,
        {**call, "tool_calls": calls} | ({"reasoning_content": thought} if thought else {}),
        {**result, "tool_call_id": "000000000", "name": "weather"},
        answer,
    ]


TOOL_TALKS = {
    "llama-3.1": (
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
        '⟦{"name": "weather", "parameters": {"city": "北京"}}<|eot_id|>⟧'
        '<|start_header_id|>ipython<|end_header_id|>\n\n"{\\"sky\\": \\"clear\\"}"<|eot_id|>'
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦It is clear.<|eot_id|>⟧"
    ),
    "qwen-2.5": (
        "<|im_start|>assistant\n"
        '⟦<tool_call>\n{"name": "weather", "arguments": {"city": "北京"}}\n</tool_call>'
        "<|im_end|>⟧\n"
        '<|im_start|>user\n<tool_response>\n{"sky": "clear"}\n</tool_response><|im_end|>\n'
        "<|im_start|>assistant\n⟦It is clear.<|im_end|>⟧\n"
    ),
    "qwen-3": (
        "<|im_start|>assistant\n"
        '⟦<tool_call>\n{"name": "weather", "arguments": {"city": "北京"}}\n</tool_call>'
        "<|im_end|>⟧\n"
        '<|im_start|>user\n<tool_response>\n{"sky": "clear"}\n</tool_response><|im_end|>\n'
        "<|im_start|>assistant\n<think>\n\n</think>\n\n⟦It is clear.<|im_end|>⟧\n"
    ),
    "mistral-v0.3": (
        "[INST] How is it in 北京?[/INST]"
        '⟦[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "北京"}, "id": "000000000"}]</s>⟧'
        '[TOOL_RESULTS] {"content": {"sky": "clear"}, "call_id": "000000000"}[/TOOL_RESULTS]'
        "⟦ It is clear.</s>⟧"
    ),
    "deepseek-v3": (
        "<｜Assistant｜>⟦<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n"
        '```json\n{"city": "北京"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
        "<｜end▁of▁sentence｜>⟧"
        '<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>{"sky": "clear"}<｜tool▁output▁end｜>'
        "<｜tool▁outputs▁end｜>⟦It is clear.<｜end▁of▁sentence｜>⟧"
    ),
}
"""From the answer that calls to the end, as the families publish it."""


@pytest.mark.parametrize("name", TOOL_TALKS)
def test_tools(name: str, of_family: Any) -> None:
    tokenizer, conversation = of_family(name), asked_the_weather()
    rendered = render(conversation, tokenizer)
    dicts = weather_dicts(conversation, text=name.startswith("deepseek"))
    assert rendered.ids == tokenizer.apply_chat_template(dicts, tools=[WEATHER], return_dict=False)
    assert marked(rendered, tokenizer).endswith(TOOL_TALKS[name])
    assert rendered.left_out == (("the tools",) if name.startswith("deepseek") else ())


def test_a_thought_before_a_call(of_family: Any) -> None:
    tokenizer = of_family("qwen-3")
    conversation = asked_the_weather(words="Let me see.", thinking="I need the weather.")
    rendered = render(conversation, tokenizer)
    expected = tokenizer.apply_chat_template(
        weather_dicts(conversation), tools=[WEATHER], return_dict=False
    )
    assert rendered.ids == expected
    assert (
        "<|im_start|>assistant\n⟦<think>\nI need the weather.\n</think>\n\nLet me see.\n"
        "<tool_call>\n"
        '{"name": "weather", "arguments": {"city": "北京"}}\n</tool_call><|im_end|>⟧\n'
    ) in marked(rendered, tokenizer)


@pytest.mark.parametrize("name", ["gemma-2", "llama-2", "phi-4", "yi", "chatglm-3", "alpaca"])
def test_a_template_without_tools_refuses_calls(name: str, of_family: Any) -> None:
    with pytest.raises(DataError, match=r"the chat template|cannot be masked provably"):
        render(asked_the_weather(), of_family(name))


def test_words_beside_a_call_that_the_template_drops_are_refused(of_family: Any) -> None:
    with pytest.raises(DataError, match="leaves out or changes message 2"):
        render(asked_the_weather(words="Let me see."), of_family("llama-3.1"))


THOUGHTFUL = Conversation(
    (
        Message("user", "2+2?"),
        Message("assistant", "4", thinking="two and two"),
        Message("user", "and 1?"),
        Message("assistant", "5", thinking="four and one"),
    )
)


def test_thoughts_are_kept_after_the_last_question_and_left_out_before(of_family: Any) -> None:
    tokenizer = of_family("qwen-3")
    rendered = render(THOUGHTFUL, tokenizer)
    thoughts = [m.thinking for m in THOUGHTFUL.messages]
    dicts: list[dict[str, str]] = [
        one | ({"reasoning_content": thought} if thought else {})
        for one, thought in zip(as_dicts(THOUGHTFUL), thoughts, strict=True)
    ]
    assert rendered.ids == tokenizer.apply_chat_template(dicts, return_dict=False)
    assert marked(rendered, tokenizer) == (
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n⟦4<|im_end|>⟧\n"
        "<|im_start|>user\nand 1?<|im_end|>\n<|im_start|>assistant\n"
        "⟦<think>\nfour and one\n</think>\n\n5<|im_end|>⟧\n"
    )
    assert rendered.left_out == ("the thought of message 2",)


def test_thoughts_with_templates_that_do_not_know_them(of_family: Any) -> None:
    llama = of_family("llama-3")
    assert marked(render(THOUGHTFUL, llama), llama).endswith(
        "<|end_header_id|>\n\n⟦<think>\nfour and one\n</think>\n\n5<|eot_id|>⟧"
    )
    deepseek = of_family("deepseek-r1")
    rendered = render(THOUGHTFUL, deepseek)
    assert marked(rendered, deepseek).endswith("<｜Assistant｜>⟦5<｜end▁of▁sentence｜>⟧")
    assert rendered.left_out == ("the thought of message 2", "the thought of message 4")


def test_what_is_left_out_is_named(of_family: Any) -> None:
    rendered = render(SHAPES["system"], of_family("mistral-v0.3"))
    assert rendered.left_out == ("message 1 (system)",)
