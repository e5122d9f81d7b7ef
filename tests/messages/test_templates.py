"""Every family's template: the ids are transformers', the mask is what was published as the answer.

`templates/families.json` holds the format of each family, written by hand, with ⟦⟧ around what its
models have to write; blanks that stand between the generation prompt and the words belong to it.
"""

from __future__ import annotations

import copy
import json
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tongwen.errors import DataError, ModelError
from tongwen.messages import (
    Conversation,
    Message,
    Rendered,
    ToolCall,
    render,
    render_many,
    render_prompt,
    turn_ends,
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


PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BROKEN = {
    "reorders": PLAIN.replace("in messages", "in messages | sort(attribute='role')"),
    "reverses": PLAIN.replace("in messages", "in messages | reverse"),
    "upper-cases": PLAIN.replace("m.content", "m.content | upper"),
    "escapes": PLAIN.replace("m.content", "m.content | e"),
    "truncates": PLAIN.replace("m.content", "m.content[:6]"),
    "repeats": PLAIN.replace("{{ m.content }}", "{{ m.content }}{{ m.content }}"),
    "merges turns": "{{ messages | map(attribute='content') | reverse | join(' ') }}<|im_end|>",
    "other head": PLAIN.replace("<|im_start|>assistant\n{%", "<|im_start|>model\n{%"),
    "drops answers": PLAIN.replace("in messages", "in messages if m.role != 'assistant'"),
    "syntax": "{% for m in messages %}",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_template_is_refused(how: str, of_family: Any) -> None:
    tokenizer = with_chat_template(of_family("qwen-2.5"), BROKEN[how])
    with pytest.raises(ModelError, match=r"cannot be masked provably|cannot be read"):
        render(SHAPES["multi"], tokenizer)


@pytest.mark.parametrize(
    "template",
    [
        PLAIN.replace("m.content", "m.content[:100]"),
        PLAIN.replace("m.content", "m.content | replace('secret', '***')"),
        PLAIN.replace("m.content", "m.content.split('###')[0]"),
    ],
)
def test_words_that_a_template_changes_are_refused(template: str, of_family: Any) -> None:
    tokenizer = with_chat_template(of_family("qwen-2.5"), template)
    changed = talk("Hi", "the secret ### " + "long " * 100)
    fine, refused = render_many([SHAPES["single"], changed], tokenizer)
    assert isinstance(fine, Rendered)
    assert isinstance(refused, DataError)
    assert "changes or moves the words of message 2" in refused.message


def test_a_template_that_never_ends_is_stopped(
    of_family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tongwen.messages import writer

    monkeypatch.setattr(writer, "PATIENCE", 0.2)
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    tokenizer = with_chat_template(of_family("qwen-2.5"), loop)
    with pytest.raises(ModelError, match="did not end"):
        render(SHAPES["single"], tokenizer)


def test_a_template_that_writes_without_end_is_stopped(of_family: Any) -> None:
    flood = "{% for a in range(99999) %}{{ 'a' * 99 }}{% endfor %}"
    tokenizer = with_chat_template(of_family("qwen-2.5"), flood)
    with pytest.raises(ModelError, match="characters around"):
        render(SHAPES["single"], tokenizer)


def test_a_template_reaches_nothing_outside(of_family: Any) -> None:
    escape = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(DataError, match=r"refuses .* unsafe"):
        render(SHAPES["single"], with_chat_template(of_family("qwen-2.5"), escape))


def test_a_text_that_spells_a_control_token(of_family: Any) -> None:
    tokenizer = of_family("qwen-2.5")
    with pytest.raises(DataError, match=r"spells the control token <\|im_end\|>"):
        render(talk("Hi <|im_end|>", "Hello"), tokenizer)
    prompt = render_prompt([Message("user", "Hi <|im_end|> you")], tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert prompt.count(end) == 2
    assert "Hi <|im_end|> you" in tokenizer.decode(prompt)


def test_the_date_of_today_is_no_obstacle_but_the_time_is(of_family: Any) -> None:
    dated = with_chat_template(of_family("qwen-2.5"), "{{ strftime_now('%Y') }}" + PLAIN)
    assert marked(render(SHAPES["single"], dated), dated).endswith("⟦Hello<|im_end|>⟧\n")
    timed = with_chat_template(dated, "{{ strftime_now('%H:%M:%S.%f') }}" + PLAIN)
    with pytest.raises((DataError, ModelError), match="cannot be masked provably"):
        render(SHAPES["single"], timed)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("llama-3", "<|eot_id|>"),
        ("gemma-3", "<end_of_turn>"),
        ("phi-3", "<|end|>"),
        ("glm-4", "<|user|>"),
        ("baichuan-2", "<reserved_106>"),
        ("llama-2", "</s>"),
    ],
)
def test_the_token_that_stops_generation(name: str, end: str, of_family: Any) -> None:
    tokenizer = of_family(name)
    assert turn_ends(tokenizer) == {tokenizer.convert_tokens_to_ids(end)}
    assert turn_ends(with_chat_template(tokenizer, "{{ messages }}")) == frozenset()


def test_a_token_that_joins_head_and_words_carries_no_loss(of_family: Any) -> None:
    tokenizer = of_family("aquila-legacy")
    rendered = render(talk("Hi", "the answer"), tokenizer)
    assert rendered.joined == 1
    head, trained = marked(rendered, tokenizer).split("⟦")
    assert head.endswith("### Assistant: the")
    assert trained == " answer</s>⟧"


def with_chat_template(
    tokenizer: PreTrainedTokenizerFast, template: str
) -> PreTrainedTokenizerFast:
    other = copy.copy(tokenizer)
    other.chat_template = template
    return other
