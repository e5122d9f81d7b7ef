"""Tokens come and go; what stays keeps its meaning."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tests.tokenizer.conftest import TEXTS
from transformers import PreTrainedTokenizerFast

from tongwen.errors import ModelError
from tongwen.messages import CHAT_TEMPLATE, encode_text
from tongwen.tokenizer import load_tokenizer, save_tokenizer, token_bytes, train_tokenizer
from tongwen.tokenizer.convert import piece_tokenizer
from tongwen.tokenizer.extend import (
    Extension,
    extend_from_text,
    extend_with_pieces,
    extended_model,
    pieces_of,
    unreachable,
)
from tongwen.tokenizer.pieces import parse_pieces, read_pieces
from tongwen.tokenizer.prune import prune, usage

POEM = ["床前明月光，疑是地上霜。举头望明月，低头思故乡。" * 3, "moonlight moonlight"] * 5
PIECES = ["明月", "今天", "低头", "明", "月", "低", "头", "▁moon", "举头望"]


@pytest.fixture(scope="module")
def learned(byte_level: PreTrainedTokenizerFast) -> Extension:
    return extend_from_text(byte_level, POEM, 20)


def test_old_ids_stay_and_new_ones_follow(
    learned: Extension, byte_level: PreTrainedTokenizerFast
) -> None:
    old, new = byte_level.get_vocab(), learned.tokenizer.get_vocab()
    assert old.items() <= new.items()
    assert len(new) == len(old) + 20 == learned.first + 20
    assert [new[text] for text in learned.added] == list(range(len(old), len(old) + 20))
    assert learned.tokenizer.chat_template == CHAT_TEMPLATE
    assert learned.tokenizer.all_special_ids == byte_level.all_special_ids


def test_the_old_tokens_spell_the_new_one(
    learned: Extension, byte_level: PreTrainedTokenizerFast
) -> None:
    pieces, old = token_bytes(learned.tokenizer), token_bytes(byte_level)
    for place, spelled in enumerate(learned.spelled):
        assert b"".join(old[number] for number in spelled) == pieces[learned.first + place]
        assert len(spelled) > 1


@given(text=st.text() | st.sampled_from(POEM))
def test_ascii_is_cut_as_before_and_all_text_round_trips(
    learned: Extension, byte_level: PreTrainedTokenizerFast, text: str
) -> None:
    ids = encode_text(learned.tokenizer, text)
    assert learned.tokenizer.decode(ids) == text
    assert len(ids) <= len(encode_text(byte_level, text))
    plain = text.encode("ascii", errors="ignore").decode()
    assert encode_text(learned.tokenizer, plain) == encode_text(byte_level, plain)


def test_the_poem_gets_shorter(learned: Extension, byte_level: PreTrainedTokenizerFast) -> None:
    before, after = (len(encode_text(t, POEM[0])) for t in (byte_level, learned.tokenizer))
    assert after < 0.6 * before
    assert not unreachable(learned)


def test_pieces_get_the_ids_that_sentencepiece_gives_them(llama: Path) -> None:
    extension = extend_with_pieces(load_tokenizer(llama), PIECES)
    known = {piece.text for piece in read_pieces(llama).pieces}
    assert extension.added == tuple(text for text in PIECES if text not in known)
    theirs = sentencepiece.SentencePieceProcessor(
        model_proto=extended_model(llama, extension.added)
    )
    assert theirs.vocab_size() == len(extension.tokenizer)
    for text in [*POEM[:2], *TEXTS[:4], "举头望明月  低头"]:
        assert encode_text(extension.tokenizer, text) == theirs.encode(text), text
    # “望” and “举头” are no pieces, so nothing joins to this one.
    assert "举头望" in unreachable(extension)
    assert "明月" not in unreachable(extension)


def test_pieces_in_a_byte_level_vocabulary(byte_level: PreTrainedTokenizerFast) -> None:
    other = train_tokenizer(POEM, 300)
    extension = extend_with_pieces(byte_level, pieces_of(other, byte_level))
    assert extension.added
    ids = encode_text(extension.tokenizer, POEM[0])
    assert len(ids) < len(encode_text(byte_level, POEM[0])) / 2
    assert extension.tokenizer.decode(ids) == POEM[0]


def test_pieces_cross_from_one_notation_to_the_other(
    byte_level: PreTrainedTokenizerFast, llama: Path
) -> None:
    pieces = pieces_of(byte_level, load_tokenizer(llama))
    assert " the".replace(" ", "▁") in pieces
    assert "天" in pieces
    with pytest.raises(ModelError, match="parts of a Hanzi"):
        pieces_of(load_tokenizer(llama), byte_level)


def test_unigram_and_learning_for_sentencepiece_are_refused(
    llama: Path, train_reference: object
) -> None:
    assert callable(train_reference)
    unigram = piece_tokenizer(parse_pieces(train_reference("unigram")))
    with pytest.raises(ModelError, match="unigram"):
        extend_with_pieces(unigram, PIECES)
    with pytest.raises(ModelError, match="byte-level tokenizers only"):
        extend_from_text(load_tokenizer(llama), POEM, 10)


@pytest.fixture(scope="module", params=["byte-level", "llama", "unigram"])
def whole(
    request: pytest.FixtureRequest,
    byte_level: PreTrainedTokenizerFast,
    llama: Path,
    train_reference: object,
) -> PreTrainedTokenizerFast:
    if request.param == "byte-level":
        return byte_level
    if request.param == "llama":
        return piece_tokenizer(read_pieces(llama), add_bos=True)
    assert callable(train_reference)
    options = {"byte_fallback": True, "normalization_rule_name": "identity"}
    return piece_tokenizer(parse_pieces(train_reference("unigram", **options)))


@given(kept=st.lists(st.sampled_from(TEXTS[:4]), max_size=3), other=st.text())
def test_texts_of_kept_tokens_are_cut_as_before(
    whole: PreTrainedTokenizerFast, kept: list[str], other: str
) -> None:
    pruned = prune(whole, usage(whole, kept))
    small = pruned.tokenizer
    assert len(small) == len(pruned.kept) <= len(whole)
    for text in kept:
        assert [pruned.kept[one] for one in encode_text(small, text)] == encode_text(whole, text)
    assert small.decode(encode_text(small, other)) == whole.decode(encode_text(whole, other))
    assert small.convert_ids_to_tokens(list(range(len(small)))) == whole.convert_ids_to_tokens(
        list(pruned.kept)
    )


def test_what_stands_around_a_text_is_renumbered(llama: Path) -> None:
    whole = piece_tokenizer(read_pieces(llama), add_bos=True)
    assert prune(whole, []).tokenizer.encode("a")[0] == 1
    assert prune(whole, []).tokenizer.eos_token_id == 2


def test_a_size_is_kept_and_the_first_wishes_win(byte_level: PreTrainedTokenizerFast) -> None:
    ranked = [number for number, _ in usage(byte_level, TEXTS).most_common()]
    pruned = prune(byte_level, ranked, size=300)
    assert len(pruned.tokenizer) == 300
    small = prune(byte_level, ranked, size=1)
    assert len(small.tokenizer) == 259


def test_a_pruned_tokenizer_is_an_ordinary_folder(
    byte_level: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    pruned = prune(byte_level, usage(byte_level, TEXTS[:1])).tokenizer
    save_tokenizer(pruned, tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.get_vocab() == pruned.get_vocab()
    assert encode_text(again, TEXTS[0]) == encode_text(pruned, TEXTS[0])
