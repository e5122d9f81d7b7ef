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
from tongwen.messages.dataset_info import Entry, load_entry, load_mapping
from tongwen.messages.encoding import document_marks, encode_text, encode_texts
from tongwen.messages.fit import Fitted, Limits, fit, fit_many, fit_preference
from tongwen.messages.layouts import Layout, Parsed, layout_of, parse, parse_noted
from tongwen.messages.mapping import Mapping
from tongwen.messages.named import named_template, template_names, with_template
from tongwen.messages.render import (
    render,
    render_document,
    render_many,
    render_preference,
    render_prompt,
)
from tongwen.messages.rendered import Rendered
from tongwen.messages.stock import turn_ends
from tongwen.messages.template import CHAT_TEMPLATE, CONTROL_TOKENS
from tongwen.messages.texts import messages_of, spoken, texts_of

__all__ = [
    "CHAT_TEMPLATE",
    "CONTROL_TOKENS",
    "Conversation",
    "Document",
    "Entry",
    "Fitted",
    "Item",
    "Judged",
    "Layout",
    "Limits",
    "Mapping",
    "Message",
    "Parsed",
    "Preference",
    "Rendered",
    "Role",
    "ToolCall",
    "check",
    "document_marks",
    "encode_text",
    "encode_texts",
    "fit",
    "fit_many",
    "fit_preference",
    "layout_of",
    "load_entry",
    "load_mapping",
    "messages_of",
    "named_template",
    "parse",
    "parse_noted",
    "render",
    "render_document",
    "render_many",
    "render_preference",
    "render_prompt",
    "spoken",
    "template_names",
    "texts_of",
    "turn_ends",
    "with_template",
]
