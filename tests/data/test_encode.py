"""Items: ids are those of the whole text, and every token of a document is learned as promised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from tongwen.data import tokens
from tongwen.data.encode import Encoder, Item, Marks
from tongwen.data.tokens import TextEncoder
from tongwen.errors import DataError
from tongwen.messages import (
    Conversation,
    Document,
    Judged,
    Message,
    encode_text,
    render,
)
from tongwen.messages import Item as Row
from tongwen.text.sentences import sentence_spans, sentences
from tongwen.tokenizer import load_tokenizer, token_bytes

texts = st.text(st.sampled_from("a b\n中文龘🌍é1。"), min_size=1, max_size=120).filter(str.strip)
all_marks = st.sampled_from(get_args(Marks))
WORDS = ["中文", "文", "中", "。", "a", "b", "ab", "é", "1", "▁", "▁a", "。\n", "\n"]
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def items(
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    row: Row,
    segments: str = "pack",
    marks: Marks = "document",
) -> list[Item]:
    [result] = Encoder(tokenizer, max_length, segments, marks).encode([row])  # type: ignore[arg-type]
    assert isinstance(result, list)
    return result


def wrapped(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def pieces_with_byte_fallback() -> PreTrainedTokenizerFast:
    """Made as LLaMA's: a blank in front, joined pieces, bytes for what is unknown."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]
    merges = [("中", "文"), ("a", "b"), ("▁", "a"), ("。", "\n")]
    backend = Tokenizer(
        models.BPE(
            {name: number for number, name in enumerate(dict.fromkeys(names))},
            merges,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens([AddedToken(name, special=True) for name in names[:3]])
    return wrapped(backend)


def bytes_of_other_lines() -> PreTrainedTokenizerFast:
    """Byte-level like GPT-2's, but composing characters, and joining newlines with what follows."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(GPT2), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        ["中文。\n\n", "a\n\nb", "ab 中文", "  \n\n"] * 9,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<unk>", "<s>", "</s>"],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return wrapped(backend)


def words_alone() -> PreTrainedTokenizerFast:
    """Words and signs, everything else unknown; what its tokens are made of, it cannot say."""
    names = ["<unk>", "<s>", "</s>", *(word for word in WORDS if "▁" not in word)]
    backend = Tokenizer(
        models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    backend.add_special_tokens([AddedToken(name, special=True) for name in names[:3]])
    return wrapped(backend)


FOREIGN = {
    "pieces": pieces_with_byte_fallback(),
    "bytes": bytes_of_other_lines(),
    "words": words_alone(),
}
foreign = st.sampled_from(sorted(FOREIGN)).map(FOREIGN.__getitem__)


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


@given(text=texts, max_length=st.integers(16, 40), marks=all_marks, tokenizer=foreign)
def test_foreign_tokenizers_train_each_token_once(
    text: str, max_length: int, marks: Marks, tokenizer: PreTrainedTokenizerFast
) -> None:
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    pieces = items(tokenizer, max_length, Document(text), marks=marks)
    trained = np.concatenate([piece.ids[piece.mask] for piece in pieces]).tolist()
    assert all(len(piece.ids) <= max_length and not piece.mask[0] for piece in pieces)
    if marks == "document":
        assert trained == [*ids, end]
        assert pieces[0].ids[0] == begin
    elif marks == "none":
        assert trained == ids[1:]
    else:
        assert [i for i in trained if i != end] == ids
        assert all(piece.ids[0] == begin and piece.ids[-1] == end for piece in pieces)
    if marks != "none":
        assert sum(piece.bytes for piece in pieces) == len(text.encode())


@given(text=texts, tokenizer=foreign)
def test_foreign_texts_are_encoded_whole(text: str, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "BLOCK", 3)
        [encoded] = TextEncoder(tokenizer).encode([text])
    expected = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    assert encoded.ids.tolist() == expected.ids
    # Where each token stands: together they read all of the text, and no token reads back.
    assert encoded.ends[-1] == len(text.encode())
    assert np.all(np.diff(encoded.ends) >= 0)
    assert encoded.characters[-1] == len(text)


def test_a_block_would_change_the_ids_of_a_foreign_text() -> None:
    """Or the test above would show nothing."""
    backend = FOREIGN["bytes"].backend_tokenizer
    text = "a\n\nb"
    halves = [backend.encode(half).ids for half in (text[:3], text[3:])]
    assert backend.encode(text).ids != halves[0] + halves[1]


@given(text=texts)
def test_long_documents_are_encoded_in_blocks_as_if_whole(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    [whole] = items(tokenizer, 10_000, Document(text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "BLOCK", 7)
        patch.setattr(tokens, "GROUP_CHARACTERS", 20)
        [blocks] = items(tokenizer, 10_000, Document(text))
    assert blocks.ids.tolist() == whole.ids.tolist()
    assert blocks.mask.tolist() == whole.mask.tolist()
    assert whole.ids[1:-1].tolist() == encode_text(tokenizer, text)


@pytest.mark.parametrize("name", ["own", *FOREIGN])
@given(text=texts, max_length=st.integers(16, 40))
def test_greedy_pieces_are_the_document_in_sentences(
    tokenizer: PreTrainedTokenizerFast, name: str, text: str, max_length: int
) -> None:
    chosen = FOREIGN.get(name, tokenizer)
    [whole] = items(chosen, 10_000, Document(text))
    pieces = items(chosen, max_length, Document(text), "greedy")
    assert np.concatenate([piece.ids for piece in pieces]).tolist() == whole.ids.tolist()
    assert all(len(piece.ids) <= max_length and piece.mask.sum() == len(piece.ids) - 1
               for piece in pieces)  # fmt: skip
    if name == "pieces":
        # No blank stands where a sentence begins: it was not encoded alone.
        said = "".join(str(chosen.backend_tokenizer.decode(piece.ids.tolist())) for piece in pieces)
        assert said == f" {text}"


def test_greedy_pieces_end_with_sentences(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "今天天气很好，我们去公园散步。The quick brown fox jumps over the lazy dog. " * 20
    pieces = items(tokenizer, 64, Document(text), "greedy")
    said = [str(tokenizer.decode(piece.ids, skip_special_tokens=True)) for piece in pieces]
    assert "".join(said) == text
    ends = {end for _, end in sentence_spans(text)}
    place = 0
    for one in said:
        place += len(one)
        assert place in ends
    assert len(pieces) > 3


def test_packed_pieces_end_with_a_sentence_where_one_is_near(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    text = "".join(f"{n}龘天。" for n in range(1000, 1400))
    pieces = items(tokenizer, 128, Document(text))
    said = [str(tokenizer.decode(piece.ids[piece.mask])) for piece in pieces]
    assert "".join(said).replace("<|endoftext|>", "") == text
    assert len(pieces) > 3
    assert all(one.endswith("。") for one in said[:-1])
    assert all(len(piece.ids) > 112 for piece in pieces[:-1])


@given(text=texts, max_length=st.integers(21, 60))
def test_overlapping_pieces_have_marks_at_the_ends_of_the_document_alone(
    tokenizer: PreTrainedTokenizerFast, text: str, max_length: int
) -> None:
    [whole] = items(tokenizer, 10_000, Document(text))
    [result] = Encoder(tokenizer, max_length, "greedy-overlap").encode([Document(text)])
    if isinstance(result, DataError):
        assert len(whole.ids) <= 20 or max_length < 41
        assert result.message.startswith(f"the document has {len(whole.ids)} tokens")
        return
    for piece in result:
        assert 20 < len(piece.ids) <= max_length
        assert piece.mask.tolist() == [False] + [True] * (len(piece.ids) - 1)
        assert 0 not in piece.ids[1:-1]
    dropped = sum(piece.dropped for piece in result)
    assert sum(len(piece.ids) for piece in result) >= len(whole.ids) - dropped


def test_what_overlapping_leaves_out_is_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "短。" + "天" * 50 + "。" + "地" * 50 + "。"
    short, first, second = (len(encode_text(tokenizer, part)) for part in sentences(text))
    assert short < 20
    assert first < second
    pieces = items(tokenizer, second + 1, Document(text), "greedy-overlap")
    assert [len(piece.ids) for piece in pieces] == [1 + short + first, second + 1]
    # With less room the first sentence and the mark before it find no place.
    pieces = items(tokenizer, first, Document(text[: 2 + 51]), "greedy-overlap", "none")
    assert [(len(piece.ids), piece.dropped) for piece in pieces] == [(first, short)]


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
    assert (item.kind, item.dropped) == ("conversation", 0)


def learned(tokenizer: PreTrainedTokenizerFast, found: Sequence[Item]) -> list[tuple[str, str]]:
    return [(item.kind, str(tokenizer.decode(item.ids[item.mask]))) for item in found]


@pytest.mark.parametrize(("good", "kind"), [(True, "good"), (False, "bad")])
def test_of_what_was_judged_the_last_answer_is_learned(
    tokenizer: PreTrainedTokenizerFast, good: bool, kind: str
) -> None:
    turns = [("user", "hi"), ("assistant", "yes?"), ("user", "2 + 2?"), ("assistant", "4")]
    conversation = Conversation(tuple(Message(role, text) for role, text in turns))  # type: ignore[arg-type]
    found = items(tokenizer, 64, Judged(conversation, good))
    assert learned(tokenizer, found) == [(kind, "4<|im_end|>")]


def test_a_conversation_that_is_too_long(tokenizer: PreTrainedTokenizerFast) -> None:
    long = Conversation((Message("user", "hi"), Message("assistant", "龘" * 50)))
    short = Conversation((Message("user", "hi"), Message("assistant", "ho")))
    rows: list[Row] = [long, Document("good"), short, Document("also good")]
    error, *others = Encoder(tokenizer, 64).encode(rows)
    assert isinstance(error, DataError)
    assert [one[0].kind for one in others if isinstance(one, list)] == [
        "text", "conversation", "text",
    ]  # fmt: skip


def test_what_is_cut_from_a_conversation_is_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    said = Conversation((Message("user", "龘天" * 50), Message("assistant", "好")))
    whole = len(render(said, tokenizer).ids)
    [item] = items(tokenizer, 96, said)
    assert len(item.ids) <= 96
    assert item.dropped >= whole - 96


def test_texts_need_no_chat_template() -> None:
    assert items(FOREIGN["words"], 64, Document("中文 a"))[0].kind == "text"


def test_a_text_without_tokens_is_refused() -> None:
    [error] = Encoder(FOREIGN["words"], 64).encode([Document(" \u2028 ")])
    assert isinstance(error, DataError)
    assert error.message == "the tokenizer has no tokens for this text"


@pytest.mark.parametrize("name", ["llama_tokenizer.model", "sentencepiece_test_model.model"])
def test_real_tokenizers_on_real_text(shared_data: Path, name: str) -> None:
    tokenizer = load_tokenizer(shared_data / "tokenizers" / name)
    text = (shared_data / "pretrain/zh/knowlm_dataset3.txt").read_text(encoding="utf-8")[:8000]
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    packed = items(tokenizer, 256, Document(text), "pack", "none")
    greedy = items(tokenizer, 256, Document(text), "greedy", "none")
    knowlm = items(tokenizer, 256, Document(text), "greedy-overlap", "none")
    assert all(len(piece.ids) <= 256 for piece in [*packed, *greedy, *knowlm])
    assert np.concatenate([piece.ids[piece.mask] for piece in packed]).tolist() == ids[1:]
    assert np.concatenate([piece.ids for piece in greedy]).tolist() == ids
    assert len(ids) < sum(len(piece.ids) for piece in knowlm) < 1.4 * len(ids)
    assert sum(piece.dropped for piece in knowlm) == 0
