"""Tools in rows of data: their descriptions, and the calls that an assistant makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from tongwen.errors import DataError
from tongwen.messages.conversation import Message, ToolCall
from tongwen.messages.fields import (
    Notes,
    Row,
    as_list,
    as_text,
    quoted,
    shown,
    text_at,
    type_name,
    value_at,
)

TOOLS: Final = ("tools", "functions")
REORDERED: Final = "the results of tools were put in the order of their calls"


def tools_of(row: Row) -> tuple[str, ...]:
    """The tools that a row describes, as a list or as the text of one.

    Each comes out as the JSON text of OpenAI's form, `{"type": "function", "function": {…}}`, which
    is the one that chat templates are given when the model is served.
    """
    found: list[str] = []
    for key in TOOLS:
        value = row.get(key)
        if isinstance(value, str) and value.strip():
            value = _decoded(f"the key '{key}'", value)
        if value in (None, "", [], {}) or (isinstance(value, str) and not value.strip()):
            continue
        tools = [value] if isinstance(value, dict) else as_list(f"the key '{key}'", value)
        found += [_tool(f"tool {number} of '{key}'", tool) for number, tool in enumerate(tools, 1)]
    return tuple(found)


def said_calls(where: str, content: str) -> tuple[ToolCall, ...]:
    """The calls that are the content of a message: a JSON object, or a list of them."""
    value = _decoded(where, content)
    calls = [value] if isinstance(value, dict) else as_list(where, value)
    return tuple(_call(f"call {number} of {where}", call) for number, call in enumerate(calls, 1))


def openai_calls(turn: Row, where: str) -> tuple[ToolCall, ...]:
    """The `tool_calls` of a message, or its `function_call` of older days."""
    listed = _listed(turn, where)
    return tuple(_call(f"call {number} of {where}", call) for number, call in enumerate(listed, 1))


def call_ids(turn: Row, where: str) -> list[object]:
    """The ids of the calls in a message, or the one of the call whose result it is."""
    made = [call.get("id") for call in _listed(turn, where) if isinstance(call, dict)]
    return made or [turn.get("tool_call_id")]


def in_call_order(
    messages: Sequence[Message], ids: Sequence[Sequence[object]], notes: Notes
) -> list[Message]:
    """The messages with the results behind each message in the order of its calls.

    `ids` are those of `call_ids` for each message. Results without ids keep their places, as do
    those of calls that have none; a DataError for ids that do not fit.
    """
    ordered: list[Message] = []
    while len(ordered) < len(messages):
        here = len(ordered)
        ordered.append(messages[here])
        behind = range(here + 1, len(messages))
        if not messages[here].calls:
            continue
        end = next((place for place in behind if messages[place].role != "tool"), len(messages))
        results = messages[here + 1 : end]
        order = _order(ids[here], [result[0] for result in ids[here + 1 : end]])
        if order != sorted(order):
            notes.append(REORDERED)
        ordered += [results[place] for place in order]
    return ordered


def _order(calls: Sequence[object], results: Sequence[object]) -> list[int]:
    """Where the results of the first call, the second, … are."""
    said = [one for one in results if one is not None]
    if not said or None in calls or said == list(calls[: len(results)]):
        return list(range(len(results)))
    wanted = calls[: len(results)]
    if len(wanted) < len(results) or any(results.count(one) != 1 for one in wanted):
        raise DataError(
            f"tools were called with the ids {quoted(map(str, calls))}, and their results have "
            f"{quoted(map(str, results))}",
            "give each result the 'tool_call_id' of its call, or remove the row",
        )
    return [results.index(one) for one in wanted]


def _listed(turn: Row, where: str) -> list[object]:
    old = turn.get("function_call")
    calls = turn.get("tool_calls") or ([old] if old else [])
    if isinstance(calls, str):
        calls = _decoded(f"{where}: the key 'tool_calls'", calls)
    return [] if calls == [] else as_list(f"{where}: the key 'tool_calls'", calls)


def _call(where: str, value: object) -> ToolCall:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        raise DataError(
            f"{where} is {type_name(value)}, not an object", 'write {"name": …, "arguments": {…}}'
        )
    name = text_at(value, "name", f"{where}: ")
    key = "parameters" if "arguments" not in value and "parameters" in value else "arguments"
    arguments = value_at(value, key, f"{where}: ")
    if arguments in (None, ""):
        return ToolCall(name, "{}")
    if isinstance(arguments, str):
        return ToolCall(name, arguments)
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False))


def _tool(where: str, value: object) -> str:
    if isinstance(value, str):
        value = _decoded(where, value)
    if not isinstance(value, dict):
        raise DataError(
            f"{where} is {type_name(value)}, not an object", 'write {"name": …, "parameters": {…}}'
        )
    wrapped = value if "type" in value else {"type": "function", "function": value}
    if wrapped["type"] == "function":
        described = value_at(wrapped, "function", f"{where}: ")
        text_at(described if isinstance(described, dict) else {}, "name", f"{where}: ")
    return json.dumps(wrapped, ensure_ascii=False)


def _decoded(where: str, text: str) -> object:
    try:
        value: object = json.loads(as_text(where, text))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is not valid JSON: {shown(text)}", "mend the JSON, or remove the row"
        ) from error
    return value
