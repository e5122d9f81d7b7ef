"""Vocabularies of other programs give the ids that these programs give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tests.tokenizer.conftest import (
    TEXTS,
    TrainPieces,
    write_gguf,
    write_llama2c,
    write_pair,
    write_ranks,
)
from transformers import PreTrainedTokenizerFast

from tongwen.errors import ModelError
from tongwen.messages import encode_text
from tongwen.tokenizer import load_tokenizer
from tongwen.tokenizer.convert import piece_tokenizer
from tongwen.tokenizer.pieces import Piece, parse_pieces, read_pieces, with_pieces
from tongwen.tokenizer.splits import CL100K

WORDS = (
    "今天 天气 很好 the weather is 2024 GPU   \n \t ▁ 🙂 é 𠮷 <s> <unk> <0x41> don't ，。 range(10)"
)
MIXED = st.lists(st.sampled_from(WORDS.split(" ")) | st.characters(codec="utf-8"), max_size=20)
TEXT = MIXED.map(" ".join) | MIXED.map("".join)
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": (
        "bpe",
        {
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
        },
    ),
    "bpe": ("bpe", {"normalization_rule_name": "identity"}),
    "unigram": ("unigram", {"byte_fallback": True, "normalization_rule_name": "identity"}),
    "no prefix": (
        "unigram",
        {
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "add_dummy_prefix": False,
            "user_defined_symbols": ["<n>", "<tab>"],
        },
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def pair(
    request: pytest.FixtureRequest, train_reference: TrainPieces
) -> tuple[PreTrainedTokenizerFast, sentencepiece.SentencePieceProcessor]:
    kind, options = KINDS[request.param]
    model = train_reference(kind, **options)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    return piece_tokenizer(parse_pieces(model)), theirs


@given(text=TEXT)
def test_ids_of_sentencepiece(
    pair: tuple[PreTrainedTokenizerFast, sentencepiece.SentencePieceProcessor], text: str
) -> None:
    ours, theirs = pair
    assert encode_text(ours, text) == theirs.encode(text)


def test_nmt_nfkc_and_its_blanks(train_reference: TrainPieces) -> None:
    model = train_reference("unigram", normalization_rule_name="nmt_nfkc")
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    ours = piece_tokenizer(parse_pieces(model))
    for text in ["  ＡＢＣ　１２３ ", "㎡①…", "a\n\nb\t c", "～", "", "   ", *TEXTS[:4]]:
        assert encode_text(ours, text) == theirs.encode(text), text


def test_control_tokens_and_flags(llama: Path) -> None:
    theirs = sentencepiece.SentencePieceProcessor(str(llama))
    ours = load_tokenizer(llama)
    assert len(ours) == theirs.vocab_size()
    assert (ours.unk_token_id, ours.bos_token_id, ours.eos_token_id) == (0, 1, 2)
    assert ours.convert_ids_to_tokens(list(range(len(ours)))) == [
        theirs.id_to_piece(number) for number in range(len(ours))
    ]
    assert ours.decode(ours.encode("今天 is fine", add_special_tokens=False)) == "今天 is fine"


def test_added_pieces_are_what_sentencepiece_reads(llama: Path) -> None:
    added = [Piece("天气好", -5000.0), Piece("▁fine▁", -5001.5)]
    model = with_pieces(llama.read_bytes(), added)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    first = theirs.vocab_size() - 2
    assert [theirs.id_to_piece(first + n) for n in (0, 1)] == ["天气好", "▁fine▁"]
    assert [theirs.get_score(first + n) for n in (0, 1)] == [-5000.0, -5001.5]
    assert parse_pieces(model).pieces[-2:] == tuple(added)


@given(text=TEXT)
def test_gguf_and_llama2c_are_the_model_they_were_made_of(
    others: dict[str, PreTrainedTokenizerFast], text: str
) -> None:
    ids = encode_text(others["model"], text)
    assert encode_text(others["gguf"], text) == ids
    assert encode_text(others["llama2c"], text) == ids


@pytest.fixture(scope="module")
def others(
    llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, PreTrainedTokenizerFast]:
    folder = tmp_path_factory.mktemp("others")
    write_gguf(folder / "vocab.gguf", llama.read_bytes())
    write_llama2c(folder / "tok.bin", llama.read_bytes())
    return {
        "model": load_tokenizer(llama),
        "gguf": load_tokenizer(folder / "vocab.gguf"),
        "llama2c": load_tokenizer(folder / "tok.bin"),
    }


def test_gguf_says_whether_a_token_stands_in_front(
    others: dict[str, PreTrainedTokenizerFast],
) -> None:
    assert others["gguf"].encode("the")[0] == 1
    assert others["model"].encode("the")[0] != 1


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tiktoken.Encoding]:
    path = tmp_path_factory.mktemp("ranks") / "our.tiktoken"
    ranks = write_ranks(path)
    theirs = tiktoken.Encoding("our", pat_str=CL100K, mergeable_ranks=ranks, special_tokens={})
    return path, theirs


@given(text=TEXT)
def test_ids_of_tiktoken(ranked: tuple[Path, tiktoken.Encoding], text: str) -> None:
    ours = _loaded(ranked[0], "cl100k")
    assert encode_text(ours, text) == ranked[1].encode_ordinary(text)


_cache: dict[Path, PreTrainedTokenizerFast] = {}


def _loaded(path: Path, split: str) -> PreTrainedTokenizerFast:
    if path not in _cache:
        _cache[path] = load_tokenizer(path, split)
    return _cache[path]


def test_ranks_of_no_known_family_need_a_name(ranked: tuple[Path, tiktoken.Encoding]) -> None:
    with pytest.raises(ModelError, match="of no family that is known"):
        load_tokenizer(ranked[0])
    with pytest.raises(ModelError, match="'nobody'"):
        load_tokenizer(ranked[0], "nobody")


def test_gpt2s_two_files(tmp_path: Path, byte_level: PreTrainedTokenizerFast) -> None:
    encoder = write_pair(tmp_path, byte_level)
    ours = load_tokenizer(encoder)
    assert ours.get_vocab() == byte_level.get_vocab()
    # What GPT-2 splits as we do must get the same ids.
    for text in ("the weather is fine", "today", "今天天气很好"):
        assert encode_text(ours, text) == encode_text(byte_level, text)
    assert load_tokenizer(tmp_path).get_vocab() == ours.get_vocab()
    (tmp_path / "vocab.bpe").unlink()
    with pytest.raises(ModelError, match="one half"):
        load_tokenizer(encoder)


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.gguf"])
def test_damaged_files_are_one_clear_line(name: str, llama: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("gguf"):
        write_gguf(path, llama.read_bytes())
    else:
        path.write_bytes(llama.read_bytes())
    whole = path.read_bytes()
    for size in range(5, len(whole) - 1, len(whole) // 40):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError):
            load_tokenizer(path)


def test_lengths_in_a_gguf_file_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gguf"
    huge = (2**62).to_bytes(8, "little")
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + huge)
    with pytest.raises(ModelError, match="do not fit"):
        load_tokenizer(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text("Once upon a time", encoding="utf-8")
    with pytest.raises(ModelError, match="no tokenizer that can be read"):
        load_tokenizer(path)


def test_word_and_character_models_are_refused(
    tmp_path: Path, train_reference: TrainPieces
) -> None:
    path = tmp_path / "char.model"
    path.write_bytes(train_reference("char"))
    with pytest.raises(ModelError, match="neither BPE nor unigram"):
        read_pieces(path)
