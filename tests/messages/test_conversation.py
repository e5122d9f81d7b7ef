"""What a conversation must be to be trained on."""

from __future__ import annotations

import pytest

from tongwen.errors import DataError
from tongwen.messages import Conversation, Document, Message, check

ROLE_OF = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


def conversation(letters: str) -> Conversation:
    """One message per letter: s(ystem), u(ser), a(ssistant), t(ool)."""
    return Conversation(tuple(Message(ROLE_OF[letter], "好") for letter in letters))  # type: ignore[arg-type]


@pytest.mark.parametrize("letters", ["ua", "sua", "uaua", "suauaua"])
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
        ("uta", "message 2 has the unknown role 'tool'"),
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
