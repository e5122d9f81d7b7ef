"""The texts of an item: what is said in it, for whoever counts, compares or learns words."""

from __future__ import annotations

from collections.abc import Iterator

from tongwen.messages.conversation import Conversation, Document, Item, Judged, Message


def messages_of(item: Item) -> tuple[Message, ...]:
    """Every message of an item; none for a document."""
    match item:
        case Document():
            return ()
        case Conversation():
            return item.messages
        case Judged():
            return item.conversation.messages
        case _:
            return (*item.prompt, *item.chosen, *item.rejected)


def texts_of(item: Item) -> Iterator[str]:
    """What is said in an item, one text for each message; thoughts and calls are said too."""
    if isinstance(item, Document):
        yield item.text
    for message in messages_of(item):
        if message.thinking:
            yield message.thinking
        if message.content:
            yield message.content
        for call in message.calls:
            yield call.arguments


def spoken(item: Item) -> Iterator[str]:
    """The texts of an item as they will be encoded: those of a conversation with their roles."""
    if isinstance(item, Document):
        yield item.text
    for message in messages_of(item):
        yield f"{message.role}\n"
        if message.thinking:
            yield message.thinking
        yield message.content
        for call in message.calls:
            yield f"{call.name} {call.arguments}"
