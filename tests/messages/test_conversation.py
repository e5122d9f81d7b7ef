"""What a conversation must be to be trained on."""

from __future__ import annotations

import pytest

from tongwen.errors import DataError
from tongwen.messages import (
    Conversation,
    Document,
    Judged,
    Message,
    Preference,
    ToolCall,
    check,
)

CALL = ToolCall("weather", '{"city": "北京"}')
MESSAGES = {
    "s": Message("system", "好"),
    "u": Message("user", "好"),
    "a": Message("assistant", "好"),
    "c": Message("assistant", "", calls=(CALL,)),
    "t": Message("tool", "晴"),
}


def conversation(letters: str) -> Conversation:
    """One message per letter: s(ystem), u(ser), a(ssistant), c(all), t(ool)."""
    return Conversation(tuple(MESSAGES[letter] for letter in letters))


@pytest.mark.parametrize("letters", ["ua", "sua", "uaua", "suauaua", "uc", "ucta", "ucttcta"])
def test_legal(letters: str) -> None:
    check(conversation(letters))


@pytest.mark.parametrize(
    ("letters", "message"),
    [
        ("", "the conversation has no messages"),
        ("u", "no assistant message, so there is nothing to learn"),
        ("s", "no assistant message, so there is nothing to learn"),
        ("su", "no assistant message, so there is nothing to learn"),
        ("a", "message 1 is the assistant's, before any user message"),
        ("sa", "message 2 is the assistant's, before any user message"),
        ("aua", "message 1 is the assistant's, before any user message"),
        ("uua", "messages 1 and 2 are both the user's"),
        ("suuaa", "messages 2 and 3 are both the user's"),
        ("uaa", "messages 2 and 3 are both the assistant's"),
        ("uau", "the last message (3) is the user's and has no answer"),
        ("usa", "the system message is message 2, not the first"),
        ("uas", "the system message is message 3, not the first"),
        ("ssua", "2 system messages (messages 1, 2), at most one is possible"),
        ("suasuas", "3 system messages (messages 1, 4, 7), at most one is possible"),
        ("uta", "message 2 is a tool's result, but nothing called a tool before it"),
        ("uata", "message 3 is a tool's result, but nothing called a tool before it"),
        ("tua", "message 1 is a tool's result, but nothing called a tool before it"),
        ("uct", "the last message (3) is a tool's result and has no answer"),
        (
            "uctua",
            "message 3 is a tool's result, and nothing answers it before the user speaks again",
        ),
        ("ucua", "message 2 calls a tool, and nothing answers it before the user speaks again"),
        ("ucca", "messages 2 and 3 are both the assistant's"),
    ],
)
def test_refused(letters: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        check(conversation(letters))
    assert caught.value.message == message
    assert caught.value.hint


@pytest.mark.parametrize("content", ["", " ", "\n", "\u3000\t"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_no_message_may_be_empty(content: str, place: int) -> None:
    messages = list(conversation("sua").messages)
    messages[place] = Message(messages[place].role, content)
    with pytest.raises(
        DataError, match=rf"message {place + 1} \({messages[place].role}\) is empty"
    ):
        check(Conversation(tuple(messages)))


@pytest.mark.parametrize("content", [None, 3, b"bytes", ["text"]])
def test_content_is_text(content: object) -> None:
    messages = (Message("user", content), Message("assistant", "b"))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"message 1 \(user\) is of type \w+, not text"):
        check(Conversation(messages))


def test_documents() -> None:
    check(Document(" 从前\n"))
    with pytest.raises(DataError, match="the text is empty"):
        check(Document("\n"))
    with pytest.raises(DataError, match="NUL at character 3"):
        check(Document("ab\0"))


def test_an_unknown_role() -> None:
    with pytest.raises(DataError, match="message 1 has the unknown role 'bot'"):
        check(Conversation((Message("bot", "a"), MESSAGES["a"])))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ((Message("user", "a", thinking="b"), MESSAGES["a"]), r"message 1 \(user\) thinks"),
        ((Message("user", "a", calls=(CALL,)), MESSAGES["a"]), r"message 1 \(user\) calls a tool"),
        (
            (MESSAGES["u"], Message("assistant", "a", calls=(ToolCall("f", "[]"),))),
            r"the argument list of 'f' in message 2 \(assistant\) is not a JSON object",
        ),
        (
            (MESSAGES["u"], Message("assistant", "a", calls=(ToolCall(" ", "{}"),))),
            r"the tool's name in message 2 \(assistant\) is empty",
        ),
        ((MESSAGES["u"], Message("assistant", "", thinking="a")), r"message 2 .* is empty"),
        (
            (MESSAGES["u"], Message("assistant", "a", trained=False)),
            "every assistant message is marked as not to be learned",
        ),
    ],
)
def test_parts_of_messages(messages: tuple[Message, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check(Conversation(messages))


def test_tools_are_json_objects() -> None:
    check(Conversation(conversation("ua").messages, ('{"name": "f"}',)))
    with pytest.raises(DataError, match="tool 2 is not a JSON object"):
        check(Conversation(conversation("ua").messages, ("{}", "f(x)")))


def test_a_tool_may_say_nothing() -> None:
    check(Conversation((MESSAGES["u"], MESSAGES["c"], Message("tool", ""), MESSAGES["a"])))


OTHER = Message("assistant", "不好")


@pytest.mark.parametrize(
    ("prompt", "chosen", "message"),
    [
        ("", (OTHER,), "the prompt is empty"),
        ("ua", (OTHER,), "the prompt ends with the assistant, not with a question"),
        ("u", (), "the chosen answer is empty"),
        ("u", (MESSAGES["u"], OTHER), "the chosen answer does not begin with the assistant"),
        ("uu", (OTHER,), "with the chosen answer, messages 1 and 2 are both the user's"),
        ("u", (MESSAGES["a"],), "the chosen and the rejected answer are the same"),
    ],
)
def test_preferences(prompt: str, chosen: tuple[Message, ...], message: str) -> None:
    check(Preference(conversation("su").messages, (OTHER,), (MESSAGES["a"],)))
    with pytest.raises(DataError) as caught:
        check(Preference(conversation(prompt).messages, chosen, (MESSAGES["a"],)))
    assert caught.value.message == message


def test_judged() -> None:
    check(Judged(conversation("ua"), good=False))
    with pytest.raises(DataError, match="nothing to learn"):
        check(Judged(conversation("u"), good=True))
