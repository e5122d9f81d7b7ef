"""The chat template of Tongwen's own models, and their control tokens.

The layout is ChatML's. It is stored in the model folder as the standard `chat_template`, so
transformers, vLLM and llama.cpp render conversations as we do. Every message is written as

    <|im_start|>{role}\\n{content}<|im_end|>\\n

and an answer is asked for with `<|im_start|>assistant\\n`. Nothing is stripped and no system
message is made up.
"""

from __future__ import annotations

BOUNDARY = "<|endoftext|>"
"""Between documents; also the first token of a text and the padding."""
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
"""Ends every message; the token that stops an answer."""

CONTROL_TOKENS = (BOUNDARY, TURN_START, TURN_END)
"""Ids 0, 1 and 2 of our own tokenizers."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
