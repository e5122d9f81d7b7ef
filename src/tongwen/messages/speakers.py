"""Who speaks: the names that data sets give to the roles of a conversation."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final, Literal

from tongwen.errors import DataError
from tongwen.messages.conversation import Role
from tongwen.messages.fields import shown

Speaker = Role | Literal["call"]
"""A role, or an assistant whose message is nothing but a call of a tool."""

SPEAKERS: Final[dict[str, Speaker]] = {
    **dict.fromkeys(("system", "developer", "系统"), "system"),
    **dict.fromkeys(
        ("user", "human", "instruction", "prompter", "question", "用户", "人类"), "user"
    ),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "gpt4", "gpt-4", "bing", "bard"), "assistant"),
    **dict.fromkeys(("claude", "gemini", "model", "bot", "chatbot", "ai"), "assistant"),
    **dict.fromkeys(("moss", "助手", "助理", "机器人"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call", "tool_calls", "function-call"), "call"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
    **dict.fromkeys(("tool_response", "function_response", "tool_result", "tool-response"), "tool"),
}


def speaker(name: str, where: str) -> Speaker:
    """The role that a name stands for; case does not matter."""
    plain = name.strip().lower()
    if plain in SPEAKERS:
        return SPEAKERS[plain]
    near = get_close_matches(plain, SPEAKERS, n=1)
    did_you_mean = f"did you mean '{near[0]}'? " if near else ""
    raise DataError(
        f"{where} has the unknown role {shown(name)}",
        f"{did_you_mean}names that are read: {', '.join(SPEAKERS)}",
    )
