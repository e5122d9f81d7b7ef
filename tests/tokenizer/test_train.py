"""What every tokenizer of ours promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tongwen.errors import ModelError
from tongwen.messages import CONTROL_TOKENS, encode_text
from tongwen.text import is_han
from tongwen.tokenizer import (
    load_tokenizer,
    save_tokenizer,
    token_bytes,
    tokenizer_hash,
    train_tokenizer,
)

TEXTS = [
    "今天天气很好，我们去公园散步。",
    "The weather is fine today, so we walk in the park.",
    "第12章 2024年的GPU价格是3.14万元。",
    "It's 2024; don't stop.\n\nNew paragraph\twith tabs.",
] * 20


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, 600)


@given(text=st.text())
def test_every_string_round_trips(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = encode_text(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert b"".join(token_bytes(tokenizer)[number] for number in ids) == text.encode()


def test_control_tokens_are_the_first_ids_and_all_bytes_follow(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == list(CONTROL_TOKENS)
    assert set(ByteLevel.alphabet()) <= set(tokenizer.get_vocab())
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 0, 2)


def test_no_token_joins_what_must_stay_apart(tokenizer: PreTrainedTokenizerFast) -> None:
    for piece in token_bytes(tokenizer):
        text = piece.decode("utf-8", errors="ignore")
        assert sum(char.isdigit() for char in text) <= 1, text
        assert "\n" not in text or text == "\n", text
        has_han = any(is_han(char) for char in text)
        assert not (has_han and any(c.isascii() and c.isalpha() for c in text)), text


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("2024年", ["2", "0", "2", "4", "年"]),
        ("a\n\nb", ["a", "\n", "\n", "b"]),
        ("GPU价格", ["GPU", "价格"]),
    ],
)
def test_pieces(tokenizer: PreTrainedTokenizerFast, text: str, pieces: list[str]) -> None:
    ids = encode_text(tokenizer, text)
    joined = tokenizer.decode(ids)
    assert joined == text
    ends, position = set(), 0
    for number in ids:
        position += len(token_bytes(tokenizer)[number])
        ends.add(position)
    position = 0
    for piece in pieces:
        position += len(piece.encode())
        assert position in ends, f"a token crosses the end of {piece!r}"


def test_the_same_texts_give_the_same_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer_hash(train_tokenizer(TEXTS, 600)) == tokenizer_hash(tokenizer)
    assert tokenizer_hash(train_tokenizer(TEXTS, 300)) != tokenizer_hash(tokenizer)


def test_a_saved_tokenizer_is_an_ordinary_one(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    save_tokenizer(tokenizer, tmp_path)
    again = load_tokenizer(tmp_path)
    assert tokenizer_hash(again) == tokenizer_hash(tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "你好"}]
    assert theirs.apply_chat_template(messages, tokenize=False) == (
        "<|im_start|>user\n你好<|im_end|>\n"
    )
    assert theirs("你好 2024")["input_ids"] == encode_text(tokenizer, "你好 2024")


def test_a_missing_or_broken_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        load_tokenizer(tmp_path)
