"""A small tokenizer of our own, with merges in both languages."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from tongwen.tokenizer import train_tokenizer

TEXTS = (
    "The user asks the assistant, and the assistant answers the user in one sentence.",
    "  def answer(question):\n    return 'the answer'\n\n\n\tThe end is 12345. The system is on.",
    "用户问助手，助手用一句话回答用户。今天天气很好，我们一起去公园散步，好吗？好！",
    "同文馆是第一所学校，中文和 English 一起学。\r\n第二行，两个  空格   三个。🙂🙂 <|im_ <|",
)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS * 4, vocab_size=600)


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Three control tokens and the 256 bytes: ids that depend on nothing that was learned."""
    return train_tokenizer([], vocab_size=259)
