"""Conversations: read them from any layout, check them, render them as ids with a loss mask."""

from __future__ import annotations

from tongwen.messages.conversation import (
    Conversation,
    Document,
    Item,
    Judged,
    Message,
    Preference,
    Role,
    ToolCall,
    check,
)
from tongwen.messages.layouts import Layout, layout_of, parse
from tongwen.messages.render import (
    Rendered,
    encode_text,
    encode_texts,
    render,
    render_document,
    render_prompt,
)
from tongwen.messages.template import CHAT_TEMPLATE, CONTROL_TOKENS

__all__ = [
    "CHAT_TEMPLATE",
    "CONTROL_TOKENS",
    "Conversation",
    "Document",
    "Item",
    "Judged",
    "Layout",
    "Message",
    "Preference",
    "Rendered",
    "Role",
    "ToolCall",
    "check",
    "encode_text",
    "encode_texts",
    "layout_of",
    "parse",
    "render",
    "render_document",
    "render_prompt",
]
