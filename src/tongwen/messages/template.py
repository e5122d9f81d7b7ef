"""The chat template of Tongwen's own models, and their control tokens.

The layout is ChatML's. It is stored in the model folder as the standard `chat_template`, so
transformers, vLLM and llama.cpp render conversations as we do. Every message is written as

    <|im_start|>{role}\\n{content}<|im_end|>\\n

and an answer is asked for with `<|im_start|>assistant\\n`. Nothing is stripped and no system
message is made up.

Tools are described at the end of the system message and called behind the words of an answer:
`<tool_call>\\n{"name": …, "arguments": {…}}\\n</tool_call>`. A thought stands before the words:
`<think>\\n…\\n</think>\\n\\n`. It is kept after the last question and left out before it.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

BOUNDARY: Final = "<|endoftext|>"
"""Between documents; also the first token of a text and the padding."""
TURN_START: Final = "<|im_start|>"
TURN_END: Final = "<|im_end|>"
"""Ends every message; the token that stops an answer."""

CONTROL_TOKENS: Final = (BOUNDARY, TURN_START, TURN_END)
"""Ids 0, 1 and 2 of our own tokenizers."""

FOLDER: Final = files("tongwen.messages") / "templates"
CHAT_TEMPLATE: Final = (FOLDER / "tongwen.jinja").read_text(encoding="utf-8")
