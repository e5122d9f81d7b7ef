"""Tools in rows of data: their descriptions, and the calls that an assistant makes."""

from __future__ import annotations

import json

from tongwen.errors import DataError
from tongwen.messages.conversation import ToolCall
from tongwen.messages.fields import Row, as_list, as_text, shown, text_at, type_name, value_at

TOOLS = ("tools", "functions")


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
    old = turn.get("function_call")
    calls = turn.get("tool_calls") or ([old] if old else [])
    if isinstance(calls, str):
        calls = _decoded(f"{where}: the key 'tool_calls'", calls)
    if calls == []:
        return ()
    listed = as_list(f"{where}: the key 'tool_calls'", calls)
    return tuple(_call(f"call {number} of {where}", call) for number, call in enumerate(listed, 1))


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
