"""Templates that are refused, and texts that a template does not leave alone."""

from __future__ import annotations

import copy
from itertools import groupby
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tongwen.errors import DataError, ModelError
from tongwen.messages import (
    Conversation,
    Message,
    Rendered,
    Role,
    ToolCall,
    render,
    render_many,
    render_prompt,
    turn_ends,
    with_template,
)


def talk(*texts: str) -> Conversation:
    roles: tuple[Role, Role] = ("user", "assistant")
    return Conversation(tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)))


SHORT = talk("Hi", "Hello")
LONGER = talk("Hi", "Hello", "今天呢？", "很好！🙂")


def marked(rendered: Rendered, tokenizer: PreTrainedTokenizerFast) -> str:
    """The text with ⟦⟧ around what is trained."""
    parts: list[str] = []
    for carries, run in groupby(zip(rendered.ids, rendered.mask, strict=True), lambda one: one[1]):
        text = str(tokenizer.decode([number for number, _ in run]))
        parts.append(f"⟦{text}⟧" if carries else text)
    return "".join(parts)


def with_chat_template(
    tokenizer: PreTrainedTokenizerFast, template: str
) -> PreTrainedTokenizerFast:
    other = copy.copy(tokenizer)
    other.chat_template = template
    return other


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
        render(LONGER, tokenizer)


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
    fine, refused = render_many([SHORT, changed], tokenizer)
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
    with pytest.raises(ModelError, match=r"did not end in 0\.3 seconds"):
        render(SHORT, tokenizer)


def test_a_template_that_writes_without_end_is_stopped(of_family: Any) -> None:
    flood = "{% for a in range(99999) %}{{ 'a' * 99 }}{% endfor %}"
    tokenizer = with_chat_template(of_family("qwen-2.5"), flood)
    with pytest.raises(ModelError, match="characters around"):
        render(SHORT, tokenizer)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("{{ 1 / 0 }}", "refuses the conversation: ZeroDivisionError: division by zero"),
        ("{{ 'a' * 10 ** 30 }}", "refuses the conversation: OverflowError: cannot fit"),
        ("{{ '{0}'.format() }}", "refuses the conversation: IndexError: "),
        ("{{ '%(x)s' % {} }}", "refuses the conversation: KeyError: 'x'"),
        ("{{ raise_exception('two\\n lines') }}", "refuses the conversation: two lines$"),
        ("{{ '\\ud83d' }}", "writes half a surrogate pair"),
    ],
)
def test_whatever_a_template_raises_is_one_line(code: str, why: str, of_family: Any) -> None:
    with pytest.raises(DataError, match=why) as caught:
        render(SHORT, with_chat_template(of_family("qwen-2.5"), code + PLAIN))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("family", ["qwen-2.5", "mistral-v0.3"])
def test_a_prompt_with_calls_that_cannot_be_written(family: str, of_family: Any) -> None:
    for arguments, why in (('{"a": "\\ud800"}', "half a surrogate pair"), ("[]", "not a JSON obj")):
        called = Message("assistant", "", calls=(ToolCall("f", arguments),))
        with pytest.raises(DataError, match=why):
            render_prompt([Message("user", "q"), called, Message("tool", "r")], of_family(family))


def test_how_calls_are_written_depends_on_no_other_row(of_family: Any) -> None:
    """A row that is refused with its arguments as objects must not make texts of the next one's."""
    template = PLAIN.replace(
        "{{ m.content }}",
        "{% for c in m.tool_calls or [] %}{{ c.function.name }} {{ c.function.arguments | tojson }}"
        "{% if c.function.arguments.odd %}{{ raise_exception('odd') }}{% endif %}"
        "{% endfor %}{{ m.content }}",
    )

    def calls(arguments: str) -> Conversation:
        asked, result, said = Message("user", "q"), Message("tool", "r"), Message("assistant", "a")
        call = Message("assistant", "", calls=(ToolCall("f", arguments),))
        return Conversation((asked, call, result, said))

    odd, plain = calls('{"odd": 1}'), calls('{"x": 1}')
    both = render_many([odd, plain], with_chat_template(of_family("qwen-2.5"), template))
    [alone] = render_many([plain], with_chat_template(of_family("qwen-2.5"), template))
    assert isinstance(both[0], DataError)
    assert both[1] == alone


def test_a_template_file_that_is_not_there(of_family: Any) -> None:
    with pytest.raises(DataError) as caught:
        with_template(of_family("qwen-2.5"), "no/such.jinja")
    assert caught.value.message == (
        "no/such.jinja cannot be read as a chat template: No such file or directory"
    )


def test_a_template_reaches_nothing_outside(of_family: Any) -> None:
    escape = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(DataError, match=r"refuses .* unsafe"):
        render(SHORT, with_chat_template(of_family("qwen-2.5"), escape))


def test_a_text_that_spells_a_control_token(of_family: Any) -> None:
    tokenizer = of_family("qwen-2.5")
    with pytest.raises(DataError, match=r"spells the control token <\|im_end\|>"):
        render(talk("Hi <|im_end|>", "Hello"), tokenizer)
    prompt = render_prompt([Message("user", "Hi <|im_end|> you")], tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert prompt.count(end) == 2
    assert "Hi <|im_end|> you" in tokenizer.decode(prompt)


def test_a_row_that_spells_a_control_token_is_refused_alone(of_family: Any) -> None:
    spelled = talk("Hi", "Hello <|im_end|>")
    asked, result, said = Message("user", "q"), Message("tool", "r"), Message("assistant", "a")
    hidden = ToolCall("f", '{"a": "\\u003c|im_end|\\u003e"}')
    escaped = Conversation((asked, Message("assistant", "", calls=(hidden,)), result, said))
    fine, *refused = render_many([SHORT, spelled, escaped], of_family("qwen-2.5"))
    assert isinstance(fine, Rendered)
    for error in refused:
        assert isinstance(error, DataError)
        assert error.message == "a text spells the control token <|im_end|>"


def test_the_date_of_today_is_no_obstacle_but_the_time_is(of_family: Any) -> None:
    dated = with_chat_template(of_family("qwen-2.5"), "{{ strftime_now('%Y') }}" + PLAIN)
    assert marked(render(SHORT, dated), dated).endswith("⟦Hello<|im_end|>⟧\n")
    timed = with_chat_template(dated, "{{ strftime_now('%H:%M:%S.%f') }}" + PLAIN)
    with pytest.raises((DataError, ModelError), match="cannot be masked provably"):
        render(SHORT, timed)


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
