"""Small tokenizers: one of our own, and one in the manner of each family of models."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from tongwen.messages import named_template
from tongwen.tokenizer import train_tokenizer

TEXTS = (
    "The user asks the assistant, and the assistant answers the user in one sentence.",
    "  def answer(question):\n    return 'the answer'\n\n\n\tThe end is 12345. The system is on.",
    "用户问助手，助手用一句话回答用户。今天天气很好，我们一起去公园散步，好吗？好！",
    "同文馆是第一所学校，中文和 English 一起学。\r\n第二行，两个  空格   三个。🙂🙂 <|im_ <|",
)
TEMPLATES = Path(__file__).parent / "templates"
FAMILIES: dict[str, dict[str, Any]] = json.loads(
    (TEMPLATES / "families.json").read_text(encoding="utf-8")
)

Family = Callable[[str], PreTrainedTokenizerFast]


@cache
def trained() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS * 4, vocab_size=600)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return trained()


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Three control tokens and the 256 bytes: ids that depend on nothing that was learned."""
    return train_tokenizer([], vocab_size=259)


def published(name: str) -> str:
    """The chat template of a family, as its models bring it."""
    if FAMILIES[name].get("named"):
        return named_template(name)
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


@cache
def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Our small vocabulary with the family's control tokens and template."""
    of = FAMILIES[name]
    model = json.loads(trained().backend_tokenizer.to_str())
    model["added_tokens"] = []
    backend = Tokenizer.from_str(json.dumps(model))
    special = [AddedToken(token, special=True, normalized=False) for token in of["special"]]
    added = [AddedToken(token, special=False, normalized=False) for token in of.get("added", ())]
    backend.add_special_tokens(special)
    backend.add_tokens(added)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=of["bos"],
        eos_token=of["eos"],
        chat_template=published(name),
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def of_family() -> Family:
    return family_tokenizer


@pytest.fixture(scope="session")
def families() -> dict[str, dict[str, Any]]:
    """What was published of each family: control tokens, and the format with ⟦what is trained⟧."""
    return FAMILIES
