"""What every tokenizer of ours promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tongwen.config import TokenizerKind
from tongwen.errors import ConfigError, ModelError
from tongwen.messages import CONTROL_TOKENS, Message, encode_text, render_prompt
from tongwen.text import is_han
from tongwen.tokenizer import (
    load_tokenizer,
    save_tokenizer,
    token_bytes,
    tokenizer_hash,
    train_tokenizer,
)
from tongwen.tokenizer.train import train_pieces

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


def test_the_defaults_are_those_of_the_first_release(tokenizer: PreTrainedTokenizerFast) -> None:
    """Prepared folders and models of that release must go on working."""
    known = "ee66b5dedf8dcc8506b0fd0e464830f324d17f32c16e9fff537a58776aa4115b"
    assert tokenizer_hash(tokenizer) == known


@pytest.fixture(scope="module", params=["bpe", "sentencepiece-bpe", "sentencepiece-unigram"])
def every_kind(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, 420, kind=request.param, specials=["<|tool|>"])


@given(text=st.text().filter(lambda text: "▁" not in text))
def test_every_kind_round_trips(every_kind: PreTrainedTokenizerFast, text: str) -> None:
    ids = encode_text(every_kind, text)
    assert every_kind.decode(ids) == text
    assert b"".join(token_bytes(every_kind)[number] for number in ids) == text.encode()


def test_every_kind_has_our_control_tokens_and_template(
    every_kind: PreTrainedTokenizerFast,
) -> None:
    assert every_kind.convert_ids_to_tokens([0, 1, 2]) == list(CONTROL_TOKENS)
    assert (every_kind.bos_token_id, every_kind.pad_token_id, every_kind.eos_token_id) == (0, 0, 2)
    tool = every_kind.convert_tokens_to_ids("<|tool|>")
    assert tool not in encode_text(every_kind, "<|tool|><|im_end|>")
    assert every_kind.encode("<|tool|>") == [tool]
    prompt = render_prompt([Message("user", "\n 你好")], every_kind)
    assert every_kind.decode(prompt) == (
        "<|im_start|>user\n\n 你好<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("kind", ["sentencepiece-bpe", "sentencepiece-unigram"])
def test_the_ids_are_those_of_sentencepiece(kind: TokenizerKind) -> None:
    model = train_pieces(TEXTS, 420, kind=kind, specials=["<|tool|>"])
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    ours = train_tokenizer(TEXTS, 420, kind=kind, specials=["<|tool|>"])
    assert len(ours) == theirs.vocab_size()
    for text in [*TEXTS[:4], "  两个  blanks ", "<|tool|><unk><0x41>", "𠮷🙂"]:
        assert encode_text(ours, text) == theirs.encode(text), text


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece-bpe", "sentencepiece-unigram"])
def test_digits_stay_single_only_where_they_are_to(kind: TokenizerKind) -> None:
    texts = ["2024 2024 2024 2023 2023 12 12"] * 50
    for split in (True, False):
        pieces = token_bytes(train_tokenizer(texts, 300, kind=kind, split_digits=split))
        longest = max(sum(0x30 <= byte <= 0x39 for byte in piece) for piece in pieces)
        assert (longest > 1) is not split


def test_control_tokens_that_are_there_already_are_refused() -> None:
    with pytest.raises(ConfigError, match="not all different"):
        train_tokenizer(TEXTS, 420, specials=["<|im_end|>"])


def test_a_size_that_the_characters_alone_exceed_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="no SentencePiece model of 300 tokens"):
        train_tokenizer(TEXTS, 300, kind="sentencepiece-unigram")


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
