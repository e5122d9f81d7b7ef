"""Items: every token of a document is trained exactly once, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from tongwen.data import encode
from tongwen.data.encode import Encoder, Item
from tongwen.errors import DataError, ModelError
from tongwen.messages import Conversation, Document, Message, encode_text, render
from tongwen.tokenizer import token_bytes

texts = st.text(st.sampled_from("a b\n中文龘🌍é1。"), min_size=1, max_size=120).filter(str.strip)


def items(
    tokenizer: PreTrainedTokenizerFast, max_length: int, row: Conversation | Document
) -> list[Item]:
    [result] = Encoder(tokenizer, max_length).encode([row])
    assert isinstance(result, list)
    return result


@pytest.fixture(scope="module")
def table(tokenizer: PreTrainedTokenizerFast) -> list[bytes]:
    return token_bytes(tokenizer)


@given(text=texts, max_length=st.integers(16, 40))
def test_pieces_train_each_token_once(
    tokenizer: PreTrainedTokenizerFast, table: list[bytes], text: str, max_length: int
) -> None:
    [whole] = items(tokenizer, 10_000, Document(text))
    pieces = items(tokenizer, max_length, Document(text))
    trained = np.concatenate([piece.ids[piece.mask] for piece in pieces])
    assert trained.tolist() == whole.ids[1:].tolist()
    assert sum(piece.bytes for piece in pieces) == len(text.encode())
    assert b"".join(table[i] for i in trained).decode("utf-8") == text
    for piece in pieces:
        assert len(piece.ids) <= max_length
        assert not piece.mask[0]
        # No piece begins or ends inside a character.
        b"".join(table[i] for i in piece.ids).decode("utf-8")


@given(text=texts)
def test_long_documents_are_encoded_in_blocks_as_if_whole(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    [whole] = items(tokenizer, 10_000, Document(text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "BLOCK", 7)
        patch.setattr(encode, "GROUP_CHARACTERS", 20)
        [blocks] = items(tokenizer, 10_000, Document(text))
    assert blocks.ids.tolist() == whole.ids.tolist()
    assert blocks.mask.tolist() == whole.mask.tolist()


@given(text=texts)
def test_bytes_of_tokens(tokenizer: PreTrainedTokenizerFast, table: list[bytes], text: str) -> None:
    assert b"".join(table[i] for i in encode_text(tokenizer, text)) == text.encode()


def test_a_conversation_is_one_item(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = Conversation((Message("user", "你好"), Message("assistant", "你好！")))
    [item] = items(tokenizer, 64, conversation)
    rendered = render(conversation, tokenizer)
    assert item.ids.tolist() == rendered.ids
    assert item.mask.tolist() == rendered.mask
    assert (item.bytes, item.language) == (len("你好！".encode()), "zh")


def test_a_conversation_that_is_too_long(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = Conversation((Message("user", "hi"), Message("assistant", "龘" * 50)))
    length = len(render(conversation, tokenizer).ids)
    [error, good] = Encoder(tokenizer, 64).encode([conversation, Document("good")])
    assert isinstance(error, DataError)
    assert error.message == f"the conversation has {length} tokens, the longest accepted is 64"
    assert error.hint == "raise --max-length, or split the conversation"
    assert isinstance(good, list)


def test_a_tokenizer_that_is_not_byte_level_is_refused() -> None:
    foreign = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"你好": 0, "world": 1}, unk_token="world"))
    )
    with pytest.raises(ModelError, match="is not byte-level"):
        token_bytes(foreign)
