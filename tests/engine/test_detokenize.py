"""What is streamed, joined, is the text of the whole, for every kind of tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from tongwen.engine.detokenize import ByteStream, DifferenceStream, text_streams
from tongwen.messages import encode_text
from tongwen.tokenizer import train_tokenizer

TEXTS = ("今天天气很好，我们去公园。", "The weather is fine today, isn't it? 🙂", "\n\t 12 ３４ é")


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS * 3, vocab_size=400)


@pytest.fixture(scope="module")
def sentence_piece() -> PreTrainedTokenizerFast:
    """As LLaMA 2 has it: blanks are ▁, one stands in front, rare characters are bytes."""
    words = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefgh天气好"]
    merges = [("▁", "a"), ("b", "c"), ("天", "气")]
    words += [first + second for first, second in merges]
    vocab = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")


@given(st.data())
def test_any_ids_of_a_byte_level_vocabulary(
    byte_level: PreTrainedTokenizerFast, data: st.DataObject
) -> None:
    ids = data.draw(st.lists(st.integers(0, len(byte_level) + 3), max_size=30))
    stream = text_streams(byte_level)([])
    assert isinstance(stream, ByteStream)
    streamed = "".join(map(stream.feed, ids)) + stream.close()
    known = [number for number in ids if number < len(byte_level)]
    assert streamed == byte_level.decode(known, skip_special_tokens=True)


@given(st.text(alphabet="天气好abc d🙂é\n", max_size=40))
def test_any_text_with_another_tokenizer(
    sentence_piece: PreTrainedTokenizerFast, text: str
) -> None:
    ids = encode_text(sentence_piece, text)
    stream = text_streams(sentence_piece)([])
    assert isinstance(stream, DifferenceStream)
    pieces = [*map(stream.feed, ids), stream.close()]
    assert "".join(pieces) == text
    assert not any("�" in piece for piece in pieces)


def test_the_blank_between_prompt_and_answer_stays(
    sentence_piece: PreTrainedTokenizerFast,
) -> None:
    prompt, answer = encode_text(sentence_piece, "bc"), encode_text(sentence_piece, "a天气")
    stream = text_streams(sentence_piece)(prompt)
    assert "".join(map(stream.feed, answer)) + stream.close() == " a天气"


def test_an_unfinished_character_is_told_at_the_end(
    sentence_piece: PreTrainedTokenizerFast,
) -> None:
    begun = encode_text(sentence_piece, "🙂")[:-1]
    stream = text_streams(sentence_piece)([])
    assert "".join(map(stream.feed, begun[1:])) == ""
    assert set(stream.close()) == {"�"}
